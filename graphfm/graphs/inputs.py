"""The one door for graphs: what may be given as a graph, and how it is read.

Command line, estimators and library read graphs through :func:`read_graph`.

Shapes:
    N  nodes   n  rows   F  feature columns
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.convert import features
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.containers import kind_of, read_object
from graphfm.graphs.readers.files import checked, is_graph_file, read_file, read_tables
from graphfm.graphs.readers.given_labels import names_nodes
from graphfm.graphs.readers.memory import has_ends, is_adjacency, is_table, table_in_memory
from graphfm.graphs.readers.options import ReadGraph, Reading, ReadOptions, refuse_unused
from graphfm.graphs.readers.tables import TableFile
from graphfm.graphs.spec import Task

log = logging.getLogger(__name__)

ROWS = "rows"  # name of the graph that rows without edges become


def read_graph(
    thing: Any,
    *,
    target: str | None = None,
    nodes: Any = None,
    options: ReadOptions | None = None,
    task: Task | None = None,
    like: Reading | None = None,
) -> ReadGraph:
    """Read anything that may be given as a graph.

    Args:
        thing: A file or folder, a catalog id, an edge list in memory (a table of pandas, polars or
            pyarrow), a NetworkX or igraph graph, a PyG ``Data`` or dataset of one graph, an AnnData
            object, a dict of arrays (``edge_index`` or ``adjacency``, ``x``, ``y``, ...), an
            adjacency matrix of NumPy or SciPy, a :class:`Graph` or a :class:`ReadGraph`.
        target: Column of a table, or node attribute, that holds the label. Default: the one of
            ``options``.
        nodes: Node table beside an edge list: its path, or a table in memory. Default: the one of
            ``options``.
        options: Further options for reading. Default: those of ``like``.
        task: Kind of the labels. Default: the one of ``options``.
        like: How an earlier graph was read; this one is read the same way, but for the node table
            and for the options that are given. Its labels may be missing.

    Raises:
        DataError: GFM102 for something else, GFM105 for options that do not apply, GFM118 for
            labels that do not fit ``task``, GFM120 for an unknown id, and the errors of
            :func:`graphfm.graphs.readers.files.read_file`.
    """
    if isinstance(thing, ReadGraph | Graph) or (isinstance(thing, str) and not is_file(thing)):
        if target is not None or nodes is not None or options is not None:
            raise DataError(
                "GFM105",
                "target, node table and reading options belong to a graph that is yet to be read",
                fix="leave target=, nodes= and options= out, or pass the path of an edge list",
            )
        return _ready(thing, task)
    given = options or (replace(like.options, nodes=None) if like else ReadOptions())
    asked = replace(
        given,
        target=given.target if target is None else target,
        nodes=_node_table(given.nodes if nodes is None else nodes),
        need_target=given.need_target and (like is None or target is not None),
        task=task or given.task,
    )
    usual, plan = like.options if like else ReadOptions(), like.plan if like else None
    path = Path(thing) if is_file(thing) else None
    kind: tuple[str, str] | None = ("a table", ".csv")
    if path is not None:
        kind = (str(path), Path(path.name.removesuffix(".gz")).suffix)
    elif not is_table(thing):
        kind = kind_of(thing)
    if kind is None:
        raise DataError(
            "GFM102",
            "expected a graph, a table of edges, a file or a dataset id, got "
            + ("nothing" if thing is None else str(type(thing))),
            fix="fit(edge_index=..., x=...) takes arrays; a list of pairs is a table: "
            "pandas.DataFrame(pairs, columns=['source', 'target'])",
        )
    refuse_unused(*kind, asked, usual)
    if like is not None:  # the masks of a graph to predict are not used
        asked = replace(asked, split=asked.split or 0)
    if path is not None:
        return read_file(path, asked, plan=plan)
    if is_table(thing):
        return read_tables(table_in_memory(thing, "edges"), asked, plan=plan)
    if asked.nodes is not None:
        raise DataError(
            "GFM105", f"{kind[0]} holds its own nodes; nodes= belongs to an edge list",
            fix="leave nodes= out",
        )  # fmt: skip
    graph, own = read_object(thing, asked, plan)
    return checked(graph, asked, own)


def _ready(thing: ReadGraph | Graph | str, task: Task | None) -> ReadGraph:
    """Return a graph that was read before, or one of the catalog."""
    if isinstance(thing, Graph):
        return ReadGraph(graph=thing)
    if isinstance(thing, str):
        return ReadGraph(graph=Catalog.read().load(thing))
    if thing.reading is None or task is None:
        return thing
    known = replace(thing.reading.options, task=task)
    return replace(thing, reading=replace(thing.reading, options=known))


def _node_table(nodes: Any) -> Path | TableFile | None:
    """Return a node table in the form in which it is read; None for none."""
    if nodes is None or isinstance(nodes, TableFile):
        return nodes
    if is_table(nodes):
        return table_in_memory(nodes, "nodes", index=True)
    if not isinstance(nodes, str | Path):
        raise DataError(
            "GFM102", f"expected the path of a node table, or a table, got {type(nodes)}",
            fix="pass a table of pandas, polars (a LazyFrame: collect()) or pyarrow",
        )  # fmt: skip
    return Path(nodes)


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
    if isinstance(thing, Graph | ReadGraph | str | Path):
        return False
    kind = kind_of(thing)
    return kind is None or kind[0] == "an adjacency matrix"


def is_rows(thing: Any, y: Any) -> bool:
    """Return True for a matrix of features rather than of adjacency.

    Args:
        thing: See :func:`read_graph`.
        y: Labels that were given beside it; a square matrix without them is an adjacency matrix.

    Raises:
        DataError: GFM105 for a square sparse matrix, or a table with columns such as source and
            target, with labels: it may be either.
    """
    if not is_matrix(thing) or isinstance(y, Mapping) or is_adjacency(thing):
        return False
    if y is not None and is_table(thing) and has_ends(thing):
        if names_nodes(y) and len(y) != len(thing):
            return False
        raise DataError(
            "GFM105",
            "a table that names two ends with y may hold edges or rows of features",
            fix="fit(edges, nodes=nodes, target='label') or fit(edges, {id: label}) for edges, "
            "fit(X.to_numpy(), y) for rows of features",
        )
    square = hasattr(thing, "shape") and len(thing.shape) == 2 and thing.shape[0] == thing.shape[1]
    if y is not None and square and sparse.issparse(thing):
        raise DataError(
            "GFM105",
            "a square sparse matrix with y may hold edges or rows of features",
            fix="fit(adjacency=A, y=y) for edges, fit(X.toarray(), y) for rows of features",
        )
    if y is not None and square and isinstance(thing, np.ndarray) and (thing == thing.T).all():
        log.warning("a symmetric matrix with y is read as rows of features; if it holds edges: "
                    "fit(adjacency=A, y=y)")  # fmt: skip
    if y is not None:  # scikit-learn passes lists and array-likes, whose shape may be unknown
        return True
    if is_table(thing):
        return False
    shape = thing.shape if hasattr(thing, "shape") else np.shape(thing)
    return len(shape) != 2 or shape[0] != shape[1]
