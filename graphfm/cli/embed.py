"""The command ``graphfm embed``: write one vector per node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphfm.cli.inputs import DirectedOption, GraphOption, NodesOption, UnknownLikeFitOption
from graphfm.cli.terminal import note, show_json
from graphfm.errors import OutputError


def embed(
    model: Annotated[Path, typer.Option(help="Folder written by `graphfm finetune`.")],
    graph: GraphOption,
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: .npz (`ids`, `embedding`), .csv or .parquet (id, e0, e1 ...)."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(help="Column of the labels, not used as a feature. Default: that of the fit."),
    ] = None,
    nodes: NodesOption = None,
    directed: DirectedOption = None,
    unknown_nodes: UnknownLikeFitOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write the embedding of every node: the vector that the model predicts from."""
    from graphfm.cli.fitted import open_fitted, suggest_scores
    from graphfm.cli.output import check_file, write_table
    from graphfm.places import stream_number
    from graphfm.storage import whole_file

    if stream_number(out) is None and out.suffix not in (".npz", ".csv", ".parquet"):
        raise OutputError("GFM402", f"--out must end in .npz, .csv or .parquet, got {out.name}")
    check_file(out, overwrite=overwrite)
    fitted, read, fit = open_fitted(
        model, graph, target, nodes=nodes, directed=directed, unknown_nodes=unknown_nodes
    )
    import numpy as np

    states = np.asarray(fitted.embed(read), dtype=np.float32)  # (N, D)
    if out.suffix == ".npz":
        with whole_file(out) as path:
            np.savez_compressed(path, ids=np.array(read.ids()), embedding=states)
    else:
        import pyarrow as pa

        from graphfm.estimator.tables import text_array

        names = ["id", *(f"e{i}" for i in range(states.shape[1]))]
        write_table(out, pa.table([text_array(read.ids()), *map(pa.array, states.T)], names=names))
    if as_json:
        show_json({"out": str(out), "num_nodes": len(states), "dim": states.shape[1]})
    note(f"{states.shape[0]:,} x {states.shape[1]} numbers written to {out}")
    flags = {"nodes": nodes, "target": target, "unknown_nodes": unknown_nodes}
    suggest_scores(model, graph, read, fit, directed=directed, **flags)
