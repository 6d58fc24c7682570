"""A fitted model and the graph to apply it to, for predict, embed, evaluate and report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.cli.terminal import next_step
from graphfm.errors import CheckpointError

if TYPE_CHECKING:
    from graphfm.checkpoint.folder import Checkpoint
    from graphfm.estimator import GraphFMClassifier, GraphFMRegressor
    from graphfm.graphs.graph import Graph


def open_fitted(
    model: Path | Checkpoint, graph: str, target: str | None, **flags: Any
) -> tuple[GraphFMClassifier | GraphFMRegressor, Graph, dict[str, Any]]:
    """Return a fitted model, a graph read as the one of the fit, and the content of split.json.

    The attribute that the model learned to predict is not a feature of the new graph either. The
    new graph need not have it.

    Args:
        model: Folder of the fitted model, or its open checkpoint.
        graph: File, folder or catalog id.
        target: Column of the labels to compare with. Default: the one of the fit, if it is there.
        **flags: Further flags of :func:`graphfm.cli.inputs.read_input`. Default: as in the fit.

    Raises:
        CheckpointError: GFM301 to GFM307 for a folder that holds no fitted model.
        DataError: See :func:`graphfm.graphs.inputs.read_graph`.
    """
    if isinstance(model, Path) and not model.is_dir():
        raise CheckpointError(
            "GFM301",
            "there is no such folder",
            where=str(model),
            fix="graphfm finetune ... --out writes one",
        )
    from graphfm.checkpoint.folder import Checkpoint
    from graphfm.checkpoint.split_json import read_split
    from graphfm.cli.inputs import read_input
    from graphfm.estimator import load_fitted
    from graphfm.graphs.readers.options import Reading, ReadOptions

    checkpoint = Checkpoint.open(model) if isinstance(model, Path) else model
    fitted = load_fitted(checkpoint)
    like = fitted.reading_ or Reading(options=ReadOptions(task=fitted.TASK))
    read = read_input(graph, like=like, target=target, **flags)
    return fitted, read.graph, read_split(checkpoint)


def suggest_scores(
    model: Path,
    text: str,
    graph: Graph,
    fit: Mapping[str, Any],
    *,
    directed: bool | None,
    **flags: object,
) -> None:
    """Print the command that scores the predictions of a graph, if there are labels to score with.

    Args:
        model: Folder of the fitted model.
        text: The graph, as the command line names it.
        graph: The graph that was predicted.
        fit: Content of ``split.json``.
        directed: Direction that was asked for. None for none.
        **flags: Further flags of the command, None for one that was not given.
    """
    if graph.y is None or not bool(graph.labelled.any()):
        next_step("graphfm inspect", model)
        return
    tested = set((fit.get("nodes") or {}).get("test", ()))
    known = zip(graph.ids(), graph.labelled.tolist(), strict=True)
    has_test = any(labelled and name in tested for name, labelled in known)
    words: list[object] = []
    for name, value in flags.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", value]
    words += [] if directed is None else ["--directed" if directed else "--undirected"]
    words += [] if has_test else ["--on", "all"]
    next_step("graphfm evaluate --model", model, "--graph", text, *words)
