"""Labels that a user passes beside a graph: by position, or by the ids of the nodes.

Shapes:
    N  nodes   C  labels
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from graphfm.errors import FEW, DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.labels import label_fields
from graphfm.graphs.readers.memory import arrow_column, column_table
from graphfm.graphs.readers.targets import read_labels
from graphfm.graphs.spec import Task


def with_labels(graph: Graph, y: Any, *, task: Task) -> Graph:
    """Return the graph with these labels in place of its own.

    Args:
        graph: The graph.
        y: Labels by position, (N,) or (N, C); or by id: a mapping, or a pandas Series whose index
            is not 0, 1, 2, ... Nodes that it does not name are unlabelled.
        task: Kind of the labels.

    Raises:
        DataError: GFM118 for ids that are not in the graph, or labels that do not fit ``task``.
    """
    if isinstance(y, Mapping):
        y = _by_id(list(y), list(y.values()), graph)
    elif names_nodes(y):
        y = _by_id(list(y.index), list(y), graph)
    elif hasattr(y, "iloc") and np.ndim(y) == 1:
        y = y.to_numpy()
    return graph.replace(**{"class_names": (), **given_labels(y, task=task)})


def given_labels(y: Any, *, task: Task = "auto") -> dict[str, Any]:
    """Return labels as the fields ``y``, ``class_names`` and ``class_dtype`` of :class:`Graph`.

    Args:
        y: Numbers, truth values or text, (N,), (N, 1) or (N, C). Numbers that are -1 or NaN, and
            the text that means a missing value in a file, are unlabelled. Default: none.
        task: Kind of the labels.

    Raises:
        DataError: GFM118 for labels that do not fit ``task``.
    """
    if y is None or isinstance(y, Tensor):
        return label_fields(y, task=task)
    values = np.asarray(y)
    if values.dtype.kind in "iu":
        fields = label_fields(values.astype(np.int64), task=task)
        return {**fields, "class_dtype": values.dtype.str} if "class_dtype" in fields else fields
    if values.dtype.kind in "bf":
        return label_fields(values, task=task)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError("GFM118", f"several labels must be numbers, got {values.dtype}", where="y")
    column = arrow_column(values.tolist() if values.dtype.kind == "O" else values)
    table = column_table("y", [("y", column)])
    return read_labels(table, {"y": table.text(["y"])["y"]}, task=task)


def names_nodes(y: Any) -> bool:
    """Return true for a pandas Series whose index holds ids, not the positions 0, 1, 2, ..."""
    if not (hasattr(y, "iloc") and hasattr(y, "index") and np.ndim(y) == 1):
        return False
    return [*y.index] != [*range(len(y))]


def _by_id(keys: list[Any], values: list[Any], graph: Graph) -> np.ndarray:
    """Return values in the order of the nodes, (N,); None for a node that has no value."""
    place = {id: i for i, id in enumerate(graph.ids())}
    names = [str(key) for key in keys]
    gone = [name for name in names if name not in place]
    if gone or len(set(names)) < len(names):
        what = f"names {len(gone):,} nodes that are not in the graph"
        raise DataError(
            "GFM118",
            f"y {what}: {', '.join(map(repr, gone[:FEW]))}" if gone else "y names a node twice",
            where=graph.name,
            why="ids are compared as exact text",
            fix="give labels by the ids of the nodes, or by position: y.to_numpy()",
        )
    found = np.full(graph.num_nodes, None, dtype=object)
    found[[place[name] for name in names]] = np.array([*values, None], dtype=object)[:-1]
    return found
