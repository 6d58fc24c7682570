"""A fitted model and the graph it is asked about, for predict, embed and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.errors import CheckpointError

if TYPE_CHECKING:
    from graphfm.estimator import GraphFMClassifier, GraphFMRegressor
    from graphfm.graphs.graph import Graph


def open_fitted(
    folder: Path, graph: str, target: str | None, **options: Any
) -> tuple[GraphFMClassifier | GraphFMRegressor, Graph, dict[str, Any]]:
    """The model, the graph, and what ``split.json`` keeps of the fit.

    The attribute that the model learned to predict is not a feature of a new graph either; it need
    not be there.

    Args:
        folder: Of the fitted model.
        graph: File, folder or id.
        target: Column to compare with; None = the one of the fit.
        **options: Of :func:`graphfm.graphs.inputs.read_input`; what is not given is as in the fit.

    Raises:
        CheckpointError: GFM301 for a folder that holds no fitted model.
    """
    if not folder.is_dir():
        raise CheckpointError(
            "GFM301",
            "there is no such folder",
            where=str(folder),
            fix="graphfm finetune ... --out writes one",
        )
    from graphfm.checkpoint.split_json import read_split
    from graphfm.estimator import load_fitted
    from graphfm.graphs.inputs import read_input
    from graphfm.graphs.readers.files import is_graph_file

    fit = read_split(folder)
    is_file = is_graph_file(graph)
    read = read_input(
        graph,
        like=fit.get("input"),
        target=target or (fit.get("target") if is_file else None),
        need_target=target is not None,
        **options,
    ).graph
    return load_fitted(folder), read, fit
