"""Split of the graph for a fit, and the table that compares the fit with baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from graphfm.cli.terminal import table
from graphfm.errors import DataError

if TYPE_CHECKING:
    from graphfm.benchmark.scores import Scores
    from graphfm.graphs.graph import Graph

HEAD = ["method", "score", "95% interval", "macro F1"]


def split_graph(graph: Graph, sizes: str | None, *, seed: int) -> Graph:
    """Return the graph with training, validation and test masks.

    Args:
        graph: A graph with labels.
        sizes: Three shares such as ``0.6/0.2/0.2``, labels a class such as ``few:5``, or the
            path of a table with the columns id and split. Default: the graph's own split; the
            parts that it lacks are drawn.
        seed: Random seed of the split.

    Raises:
        DataError: GFM131 for a graph without labels, GFM145 for shares that cannot be read, and
            see :func:`graphfm.graphs.readers.split_file.with_split_file`.
    """
    from graphfm.graphs.leaks import warn_duplicate_rows
    from graphfm.graphs.readers.split_file import with_split_file
    from graphfm.graphs.splits import complete_split, parse_split, warn_small_classes, with_split

    if graph.y is None or not bool(graph.labelled.any()):
        raise DataError(
            "GFM131",
            "there are no labels to learn from",
            where=graph.name,
            fix="for a file, name the column to predict with --target",
        )
    if sizes is None and graph.train_mask is not None and graph.test_mask is not None:
        warn_small_classes(graph)
        return graph
    if sizes is not None and Path(sizes).is_file():
        chosen = complete_split(with_split_file(graph, Path(sizes)), seed=seed)
    elif sizes is None:
        chosen = complete_split(graph, seed=seed)
    else:
        try:
            chosen = with_split(graph, parse_split(sizes), seed=seed)
        except DataError as error:
            raise DataError(
                error.code,
                "expected three shares such as 0.6/0.2/0.2, labels a class such as few:5, or a "
                f"file, got --split {sizes}",
                fix="a table with the columns id and split: --split split.csv",
            ) from None
    warn_small_classes(chosen)
    warn_duplicate_rows(chosen)
    return chosen


def comparison_table(results: Mapping[str, Scores]) -> str:
    """Return a table with one line per method."""
    first = next(iter(results.values()))
    rows = [
        [name, f"{s.main:.3f}", f"{s.low:.3f}-{s.high:.3f}", f"{s.macro_f1:.3f}"]
        for name, s in results.items()
    ]
    head = ["method", first.metric.replace("_", " "), *HEAD[2:]]
    return f"{first.num_nodes:,} test nodes\n{table(rows, head=head)}"
