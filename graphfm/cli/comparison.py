"""A fit, beside what costs nothing: the baselines on the same split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.cli.output import whole_file
from graphfm.cli.scores import Scores, scores
from graphfm.cli.terminal import note, table
from graphfm.errors import DataError

if TYPE_CHECKING:
    from graphfm.graphs.graph import Graph
    from graphfm.training.calibration import Answers

SPLIT = "split.json"
GCN_SECONDS = 30  # a GCN that takes longer is left out, unless --max-time allows it
PARTS = ("train", "val", "test")
HEAD = ["method", "score", "95% interval", "macro F1"]


def split_graph(graph: Graph, sizes: str | None, *, seed: int) -> Graph:
    """The graph with its own split, with that of a file, or with one of the sizes given.

    Args:
        graph: With labels.
        sizes: Such as ``0.6/0.2/0.2``, or a table of ids and splits; None = the graph's own split,
            or these sizes where it has none.
        seed: Of the split that is drawn.

    Raises:
        DataError: GFM131 for a graph without labels, GFM145 for sizes that are no shares, and as
            :func:`graphfm.graphs.splits.with_split_file`.
    """
    from graphfm.graphs.leaks import say_of_twins
    from graphfm.graphs.splits import say_of_classes, with_split, with_split_file

    if graph.y is None or not bool(graph.labelled.any()):
        raise DataError(
            "GFM131",
            "there are no labels to learn from",
            where=graph.name,
            fix="for a file, name the node attribute to predict: --target",
        )
    if sizes is None and graph.train_mask is not None and graph.test_mask is not None:
        say_of_classes(graph)
        return graph
    try:
        train, val, test = (float(share) for share in (sizes or "0.6/0.2/0.2").split("/"))
    except ValueError:
        if not Path(str(sizes)).is_file():
            raise DataError(
                "GFM145",
                f"expected three shares such as 0.6/0.2/0.2, or a file, got --split {sizes}",
                fix="a table with the columns id and split: --split split.csv",
            ) from None
        chosen = with_split_file(graph, Path(str(sizes)))
    else:
        chosen = with_split(graph, (train, val, test), seed=seed)
    say_of_classes(chosen)
    say_of_twins(chosen)
    return chosen


def compare(
    answers: Answers, graph: Graph, *, seed: int, seconds: float | None = None
) -> dict[str, Scores]:
    """Scores on the test nodes: the fitted model's answers for all nodes, then the baselines.

    A baseline that does not know the task, and a GCN for which there is no time, are left out, and
    a message says so.

    Args:
        answers: For all nodes.
        graph: With its split.
        seed: Of the baselines.
        seconds: What is left of ``--max-time``; None = the GCN may take :data:`GCN_SECONDS`.
    """
    from graphfm.baselines.gcn import gcn, gcn_seconds
    from graphfm.baselines.label_propagation import label_propagation
    from graphfm.baselines.logistic import logistic
    from graphfm.baselines.majority import majority

    assert graph.y is not None and graph.train_mask is not None and graph.test_mask is not None
    baselines = {
        "majority": majority,
        "features-only logistic regression": logistic,
        "label propagation": label_propagation,
    }
    own = scores(answers.proba, graph.y, graph.test_mask, uncalibrated=answers.uncalibrated)
    result = {"graphfm": own}
    left_out = []
    for name, baseline in baselines.items():
        try:
            proba = baseline(graph, graph.train_mask, graph.val_mask, seed=seed)
        except DataError as error:
            if error.code != "GFM134":
                raise
            left_out.append(name)
        else:
            result[name] = scores(proba, graph.y, graph.test_mask)
    if left_out:
        note(f"not compared with {', '.join(left_out)}, GCN: each needs one class per node")
        return result
    needed = gcn_seconds(graph, graph.train_mask, graph.val_mask)
    left = GCN_SECONDS if seconds is None else seconds
    if needed > left:
        why = f"--max-time leaves {max(left, 0):.0f} s" if seconds is not None else f"over {left} s"
        note(f"not compared with a GCN: it would take about {needed:.0f} s, {why}")
    else:
        proba = gcn(graph, graph.train_mask, graph.val_mask, seed=seed)
        result["GCN"] = scores(proba, graph.y, graph.test_mask)
    return result


def comparison_table(results: Mapping[str, Scores]) -> str:
    """One line a method."""
    first = next(iter(results.values()))
    rows = [
        [name, f"{s.main:.3f}", f"{s.low:.3f}-{s.high:.3f}", f"{s.macro_f1:.3f}"]
        for name, s in results.items()
    ]
    head = ["method", first.metric.replace("_", " "), *HEAD[2:]]
    return f"{first.num_nodes:,} test nodes\n{table(rows, head=head)}"


def save_split(folder: Path, graph: Graph, facts: Mapping[str, Any]) -> None:
    """Write which nodes were learned from, by their ids, and how the fit was asked for."""
    ids = graph.ids()
    nodes = {
        part: [ids[i] for i in mask.nonzero().flatten().tolist()]
        for part in PARTS
        if (mask := getattr(graph, f"{part}_mask")) is not None
    }
    with whole_file(folder / SPLIT) as path:
        path.write_text(json.dumps({**facts, "nodes": nodes}, indent=1), encoding="utf-8")


def read_split(folder: Path) -> dict[str, Any]:
    """What :func:`save_split` wrote; empty for a model that was fitted from Python."""
    path = folder / SPLIT
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
