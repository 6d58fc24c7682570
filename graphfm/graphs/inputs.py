"""The one door for graphs: what may be given as a graph, and how it is read.

Command line, estimators and library read graphs through :func:`read_graph`.

Shapes:
    N  nodes   n  rows   F  feature columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.convert import features, from_adjacency, from_networkx, from_pyg, is_networkx
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.files import is_graph_file, read_file
from graphfm.graphs.readers.options import ReadGraph, Reading, ReadOptions, refuse_unused
from graphfm.graphs.spec import Task

ROWS = "rows"  # name of the graph that rows without edges become
PYG = ("edge_index", "adj_t", "edge_types")  # a PyG graph has one of these attributes


def read_graph(
    thing: Any,
    *,
    target: str | None = None,
    nodes: str | Path | None = None,
    options: ReadOptions | None = None,
    task: Task | None = None,
    like: Reading | None = None,
) -> ReadGraph:
    """Read anything that may be given as a graph.

    Args:
        thing: A file or folder, a catalog id, a :class:`Graph`, a PyG ``Data``, a NetworkX graph,
            an adjacency matrix of NumPy or SciPy, or a :class:`ReadGraph`.
        target: Column of a table, or node attribute of a NetworkX graph, that holds the label.
            Default: the one of ``options``.
        nodes: Path of the node table beside an edge list. Default: the one of ``options``.
        options: Further options for reading a file. Default: those of ``like``.
        task: Kind of the labels. Default: the one of ``options``.
        like: How an earlier file was read; this one is read the same way, but for the node table
            and for the options that are given. Its labels may be missing.

    Raises:
        DataError: GFM102 for something else, GFM105 for a node table or options without a file,
            GFM118 for labels that do not fit ``task``, GFM120 for an unknown id, and the errors
            of :func:`graphfm.graphs.readers.files.read_file`.
    """
    if is_file(thing):
        given = options or (replace(like.options, nodes=None) if like else ReadOptions())
        asked = replace(
            given,
            target=given.target if target is None else target,
            nodes=given.nodes if nodes is None else Path(nodes),
            need_target=given.need_target and (like is None or target is not None),
            task=task or given.task,
        )
        refuse_unused(Path(thing), asked, like.options if like else ReadOptions())
        return read_file(Path(thing), asked, plan=like.plan if like else None)
    if nodes is not None or options is not None:
        raise DataError(
            "GFM105",
            "a node table and reading options belong to a file",
            fix="leave nodes= and options= out, or pass the path of an edge list",
        )
    if isinstance(thing, ReadGraph):
        if thing.reading is None or task is None:
            return thing
        known = replace(thing.reading.options, task=task)
        return replace(thing, reading=replace(thing.reading, options=known))
    return ReadGraph(graph=_without_file(thing, target, task or "auto"))


def as_graph(thing: Any, *, target: str | None = None, task: Task = "auto") -> Graph:
    """Return anything that may be given as a graph as a :class:`Graph`.

    Args:
        thing: See :func:`read_graph`.
        target: Column of a table, or node attribute of a NetworkX graph, that holds the label.
            Default: no labels.
        task: Kind of the labels: ``regress`` = numbers, ``classify`` = classes, ``auto`` = numbers
            if they have fractions.

    Raises:
        DataError: See :func:`read_graph`.
    """
    return read_graph(thing, target=target, task=task).graph


def rows_graph(x: Any, y: Tensor | None = None, class_names: Sequence[str] = ()) -> Graph:
    """Make a graph without edges from rows of features.

    Args:
        x: Features, (n, F), dense or sparse.
        y: Labels, in the form that :class:`Graph` takes. Default: none.
        class_names: Names of the classes. Default: none.
    """
    matrix = sparse.csr_array(x) if sparse.issparse(x) else torch.from_numpy(np.array(x))
    return Graph.from_edges(
        np.zeros((2, 0), dtype=np.int64),
        num_nodes=x.shape[0],
        name=ROWS,
        x=features(matrix),
        y=y,
        class_names=tuple(class_names),
    )


def is_file(thing: Any) -> bool:
    """Return True for a path, and for text that names a file rather than a catalog id."""
    return isinstance(thing, Path) or (isinstance(thing, str) and is_graph_file(thing))


def is_matrix(thing: Any) -> bool:
    """Return True for rows of numbers: neither a graph, nor a path, nor a catalog id."""
    if isinstance(thing, Graph | ReadGraph | str | Path) or is_networkx(thing):
        return False
    return not any(hasattr(thing, name) for name in PYG)


def is_rows(thing: Any, y: Any) -> bool:
    """Return True for a matrix of features rather than of adjacency.

    Args:
        thing: See :func:`read_graph`.
        y: Labels that were given beside it; a square matrix without them is an adjacency matrix.
    """
    if not is_matrix(thing):
        return False
    if y is not None:  # scikit-learn passes lists and array-likes, whose shape may be unknown
        return True
    shape = thing.shape if hasattr(thing, "shape") else np.shape(thing)
    return len(shape) != 2 or shape[0] != shape[1]


def _without_file(thing: Any, target: str | None, task: Task) -> Graph:
    """Return a graph that lies in memory or in the catalog."""
    if isinstance(thing, Graph):
        return thing
    if isinstance(thing, str):
        return Catalog.read().load(thing)
    if any(hasattr(thing, name) for name in PYG):
        return from_pyg(thing, task=task)
    if is_networkx(thing):
        return from_networkx(thing, target=target, task=task)
    if sparse.issparse(thing) or isinstance(thing, np.ndarray):
        return from_adjacency(thing)
    raise DataError(
        "GFM102",
        "expected a Graph, a PyG Data, a NetworkX graph, a file or a dataset id, got "
        f"{type(thing)}",
        fix="Graph.from_edges(edge_index, num_nodes=...) makes one from arrays",
    )
