"""``graphfm predict``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphfm.cli.terminal import next_step, note, show_json

if TYPE_CHECKING:
    import numpy as np

    from graphfm.graphs.graph import Graph


def predict(
    model: Annotated[Path, typer.Option(help="Folder that `graphfm finetune` wrote.")],
    graph: Annotated[str, typer.Option(help="A catalog id, or a .graphml, .gml or .gexf file.")],
    out: Annotated[Path, typer.Option(help="CSV to write: id,label,probability.")],
    target: Annotated[
        str | None,
        typer.Option(help="Node attribute that was predicted; default: the one of the fit."),
    ] = None,
    proba: Annotated[
        bool, typer.Option("--proba", help="Also one column per class: p_CLASS.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Predict every node of a graph.

    Where a node may have several labels, `label` holds those above one half, separated by `;`, and
    `probability` is that of just this set if the labels were independent.
    """
    from graphfm.cli.fitted import open_fitted
    from graphfm.cli.output import check_file
    from graphfm.finetune import TARGET

    check_file(out, overwrite=overwrite)
    fitted, read, _ = open_fitted(model, graph, target)
    classes = [str(c) for c in fitted.classes_]
    several = fitted.model_.specs[TARGET].task.kind == "multilabel"
    write_predictions(out, read, fitted.predict_proba(read), classes, several, proba)
    if as_json:
        show_json({"out": str(out), "num_nodes": read.num_nodes, "classes": classes})
    note(f"{read.num_nodes:,} predictions in {out}")
    next_step("graphfm evaluate --model", model, "--graph", graph)


def write_predictions(
    out: Path,
    graph: Graph,
    probabilities: np.ndarray,
    classes: list[str],
    several: bool = False,
    every: bool = False,
) -> None:
    """Write ``id,label,probability`` and, with ``every``, a column per class.

    Args:
        out: The CSV.
        graph: Gives the ids.
        probabilities: (N, C).
        classes: Name of each class, (C,).
        several: Whether a node may have several labels.
        every: Whether to add ``p_CLASS`` columns.
    """
    import numpy as np

    from graphfm.cli.output import whole_file

    if several:
        above = probabilities >= 0.5
        labels = [";".join(c for c, yes in zip(classes, row, strict=True) if yes) for row in above]
        best = np.where(above, probabilities, 1 - probabilities).prod(axis=1)
    else:
        choice = probabilities.argmax(axis=1)
        labels = [classes[i] for i in choice]
        best = probabilities[np.arange(len(choice)), choice]
    with whole_file(out) as path, path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "label", "probability", *(f"p_{c}" for c in classes if every)])
        for i, name in enumerate(graph.ids()):
            more = [f"{p:.6f}" for p in probabilities[i]] if every else []
            writer.writerow([name, labels[i], f"{best[i]:.6f}", *more])
