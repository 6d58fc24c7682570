"""Conversion of PyG ``Data``, NetworkX graphs and adjacency matrices to :class:`Graph`.

Shapes:
    N  nodes   E  edges   F  feature columns   C  classes or labels
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.labels import attribute_labels, label_fields
from graphfm.graphs.spec import Task

log = logging.getLogger(__name__)

SPARSE_COLUMNS = 128  # narrower features are stored dense
SPARSE_DENSITY = 0.1  # CSR takes 8 bytes per entry, dense 4 per cell: at most a fifth of it


def is_networkx(thing: Any) -> bool:
    """Return True for an object with the methods of a NetworkX graph."""
    return hasattr(thing, "is_directed") and hasattr(thing, "nodes")


def from_pyg(data: Any, *, name: str = "graph", task: Task = "auto") -> Graph:
    """Convert a PyG ``Data``.

    Missing features get the mean of their column and one more column that marks them. Features that
    are an identity matrix carry no information and are dropped. Masks with several splits are not
    read. Classes without a node are dropped; the others keep their number as their name.

    Args:
        data: A homogeneous PyG ``Data``.
        name: Id of the graph.
        task: Kind of the labels; see :func:`graphfm.graphs.labels.labels`.

    Raises:
        DataError: GFM102 for heterogeneous data, and the errors of :class:`Graph`.
    """
    if hasattr(data, "edge_types"):
        raise DataError(
            "GFM102",
            "expected one kind of node and edge, got heterogeneous data",
            fix="pass data.to_homogeneous()",
        )
    edge_index = getattr(data, "edge_index", None)
    if edge_index is None and getattr(data, "adj_t", None) is not None:
        row, col, _ = data.adj_t.t().coo()
        edge_index = torch.stack([row, col])
    if edge_index is None:
        edge_index = torch.empty((2, 0), dtype=torch.int64)
    fields: dict[str, Any] = label_fields(getattr(data, "y", None), task=task)
    for mask in MASKS:
        values = getattr(data, mask, None)
        if isinstance(values, Tensor) and values.ndim == 1:
            fields[mask] = values.bool().cpu()
    node_ids = getattr(data, "node_ids", None)
    edge_index = edge_index.detach().cpu()
    if edge_index.is_floating_point():
        if not bool(torch.isfinite(edge_index).all()):
            raise DataError(
                "GFM115", "edge_index must hold integers, got NaN or infinity", where=name
            )
        log.warning("%s: edge_index holds %s; its values are read as node numbers", name,
                    edge_index.dtype)  # fmt: skip
    return Graph.from_edges(
        edge_index,
        num_nodes=int(data.num_nodes or 0),
        name=name,
        x=features(fill_missing(getattr(data, "x", None), name)),
        node_ids=tuple(str(i) for i in node_ids) if node_ids is not None else None,
        **fields,
    )


def from_adjacency(matrix: Any, *, name: str = "graph") -> Graph:
    """Convert an adjacency matrix: values other than 0 are edges; weights are not kept.

    Args:
        matrix: Adjacency matrix of SciPy or NumPy, (N, N).
        name: Id of the graph.

    Raises:
        DataError: GFM109 for values that are not finite, GFM115 for a matrix that is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(
            "GFM115",
            f"an adjacency matrix must be square, got {tuple(matrix.shape)}",
            where=name,
            fix="features belong in x, an edge list in edge_index (2, E)",
        )
    if not np.issubdtype(matrix.dtype, np.number) and matrix.dtype != bool:
        raise DataError(
            "GFM115", f"an adjacency matrix must hold numbers, got {matrix.dtype}", where=name
        )
    pattern = sparse.coo_array(matrix)
    bad = int((~np.isfinite(pattern.data)).sum())
    if bad:
        raise DataError(
            "GFM109",
            f"edge weights must be finite numbers, but {bad:,} of {pattern.nnz:,} are not",
            where=name,
        )
    pattern.eliminate_zeros()
    if len(np.unique(pattern.data[:100_000])) > 1:
        log.warning("%s: edge weights are read but not used by the model", name)
    row, col = pattern.coords
    edges = np.stack([row, col]).astype(np.int64)
    return Graph.from_edges(edges, num_nodes=matrix.shape[0], name=name)


def to_pyg(graph: Graph) -> Any:
    """Convert a graph to a PyG ``Data``; features become dense, unlabelled nodes have -1.

    Classes whose names are numbers get these numbers. Other classes are numbered from 0, and their
    names are in ``data.class_names``.
    """
    from torch_geometric.data import Data

    x = graph.x
    if isinstance(x, sparse.csr_array):
        x = torch.from_numpy(x.toarray())
    y = graph.y
    if y is not None and graph.has_classes and _are_numbers(graph.class_names):
        numbers = torch.tensor([int(c) for c in graph.class_names] + [-1])
        y = numbers[y]  # -1 reads the last entry
    data = Data(x=x, edge_index=graph.edge_index, y=y, num_nodes=graph.num_nodes)
    for mask in MASKS:
        if getattr(graph, mask) is not None:
            data[mask] = getattr(graph, mask)
    data.class_names = list(graph.class_names)
    if graph.node_ids is not None:
        data.node_ids = list(graph.node_ids)
    return data


def from_networkx(
    graph: Any, *, target: str | None = None, name: str = "graph", task: Task = "auto"
) -> Graph:
    """Convert a NetworkX graph: node ids become text, numeric node attributes become features.

    Args:
        graph: A directed or undirected graph or multigraph; edge attributes are not read.
        target: Node attribute that holds the label; nodes without it are unlabelled. Default: no
            labels.
        name: Id of the graph.
        task: Kind of the labels; see :func:`graphfm.graphs.labels.labels`.

    Raises:
        DataError: GFM104 if no node has the target, and the errors of :class:`Graph`.
    """
    nodes = list(graph.nodes)
    if not nodes:
        raise DataError("GFM101", "a graph needs at least one node, got none", where=name)
    node_ids = [str(node) for node in nodes]
    if len(set(node_ids)) < len(nodes):  # to NetworkX, 1 and "1" are two nodes
        node_ids = [repr(node) for node in nodes]
    import networkx as nx

    matrix = nx.to_scipy_sparse_array(graph, nodelist=nodes, weight=None, dtype=np.int64).tocoo()
    records = [record for _, record in graph.nodes(data=True)]
    made = Graph.from_edges(
        np.stack([matrix.row, matrix.col]).astype(np.int64),
        num_nodes=len(nodes),
        name=name,
        directed=None if graph.is_directed() else False,
        x=_numeric_attributes(records, target, name),
        node_ids=tuple(node_ids),
        **attribute_labels(records, target, name, task),
    )
    parallel = int(matrix.data.sum()) - matrix.nnz  # merged edges of a multigraph
    return made.replace(num_duplicates=parallel) if parallel else made


def features(x: Any) -> Tensor | sparse.csr_array | None:
    """Return features in the form of :class:`Graph`, (N, F); wide ones with many zeros as CSR.

    Returns None for features without columns, and for an identity matrix, which only numbers the
    nodes.
    """
    if x is None:
        return None
    if isinstance(x, Tensor) and x.layout != torch.strided:
        x = x.to_sparse_coo().coalesce()
        row, col = x.indices().numpy()
        x = sparse.coo_array((x.values().numpy(), (row, col)), shape=tuple(x.shape))
    elif hasattr(x, "to_scipy"):
        x = x.to_scipy()
    if sparse.issparse(x):
        matrix = sparse.csr_array(x).astype(np.float32)
    else:
        x = torch.as_tensor(x).detach().cpu().to(torch.float32)
        x = x[:, None] if x.ndim == 1 else x
        wide = x.ndim == 2 and x.shape[1] >= SPARSE_COLUMNS
        if not _may_be_identity(x) and not (wide and _density(x) < SPARSE_DENSITY):
            return x.contiguous() if x.shape[-1] else None
        matrix = sparse.csr_array(x.numpy())
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    num_rows, num_columns = matrix.shape
    if num_columns == 0 or _is_identity(matrix):
        return None
    if num_columns < SPARSE_COLUMNS or matrix.nnz > SPARSE_DENSITY * num_rows * num_columns:
        return torch.from_numpy(matrix.toarray())
    return matrix


def fill_missing(x: Any, name: str) -> Any:
    """Replace missing features by the mean of their column, and add a column that marks them.

    Args:
        x: A dense tensor or array, or a SciPy matrix, (N, F); anything else is returned unchanged.
        name: Name of the graph, for the log line that counts the missing values.
    """
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        x = torch.from_numpy(x)
    if sparse.issparse(x):
        return _fill_missing_sparse(sparse.csr_array(x), name)
    if not isinstance(x, Tensor) or x.layout != torch.strided or not x.is_floating_point():
        return x
    gone = torch.isnan(x)
    if x.ndim != 2 or not gone.any():
        return x
    columns = gone.any(dim=0)
    _warn_missing(name, int(gone.sum()), x.numel(), int(columns.sum()))
    mean = torch.nan_to_num(torch.nanmean(x, dim=0))
    return torch.cat([torch.where(gone, mean, x), gone[:, columns].to(x.dtype)], dim=1)


def _fill_missing_sparse(x: sparse.csr_array, name: str) -> sparse.csr_array:
    """Do what :func:`fill_missing` does for a sparse matrix."""
    gone = np.isnan(x.data) if x.dtype.kind == "f" else np.zeros(0, dtype=bool)
    if not gone.any():
        return x
    num_rows, width = x.shape
    missing = np.bincount(x.indices[gone], minlength=width)
    total = np.bincount(x.indices, weights=np.where(gone, 0, x.data), minlength=width)
    mean = total / np.maximum(num_rows - missing, 1)
    at = sparse.csr_array(x).tocoo()
    marked = sparse.csr_array(
        (np.ones(int(gone.sum()), x.dtype), (at.row[gone], at.col[gone])), shape=x.shape
    )
    columns = np.flatnonzero(missing)
    _warn_missing(name, int(gone.sum()), num_rows * width, len(columns))
    filled = sparse.csr_array(
        (np.where(gone, mean[x.indices], x.data).astype(x.dtype), x.indices, x.indptr),
        shape=x.shape,
    )
    return sparse.csr_array(sparse.hstack([filled, marked[:, columns]], format="csr"))


def _warn_missing(name: str, num_gone: int, num_values: int, num_columns: int) -> None:
    log.warning("%s: %.1f%% of the feature values are missing; they get the mean of their column, "
                "and %d columns mark them", name, 100 * num_gone / num_values,
                num_columns)  # fmt: skip


def _are_numbers(names: tuple[str, ...]) -> bool:
    """Return True if all names are whole numbers."""
    return all(name.isdecimal() for name in names)


def _density(x: Tensor) -> float:
    """Return the share of values that are not zero."""
    return int(torch.count_nonzero(x)) / max(x.numel(), 1)


def _may_be_identity(x: Tensor) -> bool:
    """Return True for a square matrix with as many nonzero values as rows."""
    return x.ndim == 2 and x.shape[0] == x.shape[1] and int(torch.count_nonzero(x)) == x.shape[0]


def _is_identity(matrix: sparse.csr_array) -> bool:
    """Return True for an identity matrix."""
    num_rows, num_columns = matrix.shape
    square = num_rows == num_columns == matrix.nnz
    return bool(square and (matrix.diagonal() == 1).all())


def _numeric_attributes(
    records: list[dict[str, Any]], target: str | None, name: str
) -> Tensor | sparse.csr_array | None:
    """Return the numeric node attributes but the target as features, (N, F)."""
    keys = sorted({key for record in records for key in record} - {target}, key=str)
    columns = []
    for key in keys:
        values = [record.get(key) for record in records]
        if not all(isinstance(v, (int, float, np.number, np.bool_)) or v is None for v in values):
            log.info("%s: node attribute %r is not numeric and is not used", name, key)
            continue
        column = np.array([np.nan if v is None else float(v) for v in values], dtype=np.float32)
        missing = np.isnan(column)
        if missing.any():
            log.warning("%s: %d of %d nodes lack %r; they get its mean", name, missing.sum(),
                        len(values), key)  # fmt: skip
            column[missing] = 0 if missing.all() else column[~missing].mean()
        columns.append(column)
    return features(np.stack(columns, axis=1)) if columns else None
