"""Conversion of PyG ``Data``, NetworkX graphs and adjacency matrices to :class:`Graph`.

Shapes:
    N  nodes   E  edges   F  feature columns   C  classes or labels
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import FEW, DataError
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.labels import label_fields
from graphfm.graphs.masks import read_mask
from graphfm.graphs.spec import Task

log = logging.getLogger(__name__)

READ = ("edge_index", "adj_t", "x", "y", "num_nodes", "node_ids", "class_names")  # fields of a Data
SPARSE_COLUMNS = 128  # narrower features are stored dense
SPARSE_DENSITY = 0.1  # CSR takes 8 bytes per entry, dense 4 per cell: at most a fifth of it


def is_networkx(thing: Any) -> bool:
    """Return True for an object with the methods of a NetworkX graph."""
    return hasattr(thing, "is_directed") and hasattr(thing, "nodes")


def from_pyg(
    data: Any, *, name: str = "graph", task: Task = "auto", split: int | None = None
) -> Graph:
    """Convert a PyG ``Data``.

    Missing features get the mean of their column and one more column that marks them. Features that
    are an identity matrix carry no information and are dropped. Classes without a node are dropped;
    the others keep their number as their name, unless ``class_names`` names them. Fields that are
    not read are logged.

    Args:
        data: A homogeneous PyG ``Data``.
        name: Id of the graph.
        task: Kind of the labels; see :func:`graphfm.graphs.labels.labels`.
        split: Split to take where the masks hold several. Default: such masks are an error.

    Raises:
        DataError: GFM102 for heterogeneous data, and the errors of :class:`Graph` and
            :func:`read_mask`.
    """
    if hasattr(data, "edge_types"):
        raise DataError(
            "GFM102",
            f"expected one kind of node and edge, got heterogeneous data: {type(data).__name__}",
            fix="pass data.to_homogeneous(), or one kind: Data(x=data['paper'].x, edge_index="
            "data['paper', 'cites', 'paper'].edge_index, y=data['paper'].y)",
        )
    edge_index = getattr(data, "edge_index", None)
    if edge_index is None and getattr(data, "adj_t", None) is not None:
        row, col, _ = data.adj_t.t().coo()
        edge_index = torch.stack([row, col])
    if edge_index is None:
        edge_index = torch.empty((2, 0), dtype=torch.int64)
    y = getattr(data, "y", None)
    fields = label_fields(y, task=task)
    names = getattr(data, "class_names", None)
    if names is not None and fields.get("class_names") and not _are_numbers(tuple(names)):
        fields |= {"class_names": _named(fields["class_names"], names, name), "class_dtype": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyG, where it has to guess
        num_nodes = int(data.num_nodes or 0)
    for mask in MASKS:
        values = getattr(data, mask, None)
        if values is not None:
            fields[mask] = read_mask(values, num_nodes, name=mask, where=name, split=split)
    node_ids = getattr(data, "node_ids", None)
    edge_index = torch.as_tensor(edge_index).detach().cpu()
    if edge_index.is_floating_point():
        if not bool(torch.isfinite(edge_index).all()):
            raise DataError(
                "GFM115", "edge_index must hold integers, got NaN or infinity", where=name
            )
        log.warning("%s: edge_index holds %s; its values are read as node numbers", name,
                    edge_index.dtype)  # fmt: skip
    unread = [key for key in _keys(data) if key not in (*READ, *MASKS)]
    if unread:
        log.warning("%s: %d fields are not read: %s", name, len(unread), ", ".join(unread[:FEW]))
    return Graph.from_edges(
        edge_index,
        num_nodes=num_nodes,
        name=name,
        x=features(fill_missing(getattr(data, "x", None), name)),
        node_ids=tuple(str(i) for i in node_ids) if node_ids is not None else None,
        **fields,
    )


def _keys(data: Any) -> list[str]:
    """Return the names of the fields of a PyG ``Data`` that hold something."""
    keys = data.keys() if callable(data.keys) else data.keys
    return [str(key) for key in keys if data[key] is not None]


def _named(numbers: tuple[str, ...], names: Any, where: str) -> tuple[str, ...]:
    """Return the names of the classes with these numbers."""
    places = [int(number) for number in numbers]
    if max(places) >= len(names):
        raise DataError(
            "GFM118", f"class_names has {len(names)} names, but y holds class {max(places)}",
            where=where,
        )  # fmt: skip
    return tuple(str(names[place]) for place in places)


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


def from_networkx(graph: Any, *, name: str = "graph") -> Graph:
    """Return the edges and the node ids of a NetworkX graph; ids become text.

    Args:
        graph: A directed or undirected graph or multigraph; its attributes are not read.
        name: Id of the graph.

    Raises:
        DataError: GFM101 for a graph without nodes, and the errors of :class:`Graph`.
    """
    nodes = list(graph.nodes)
    if not nodes:
        raise DataError("GFM101", "a graph needs at least one node, got none", where=name)
    node_ids = [str(node) for node in nodes]
    if len(set(node_ids)) < len(nodes):  # to NetworkX, 1 and "1" are two nodes
        node_ids = [repr(node) for node in nodes]
    import networkx as nx

    matrix = nx.to_scipy_sparse_array(graph, nodelist=nodes, weight=None, dtype=np.int64).tocoo()
    made = Graph.from_edges(
        np.stack([matrix.row, matrix.col]).astype(np.int64),
        num_nodes=len(nodes),
        name=name,
        directed=None if graph.is_directed() else False,
        node_ids=tuple(node_ids),
    )
    parallel = int(matrix.data.sum()) - matrix.nnz  # merged edges of a multigraph
    return made.replace(num_duplicates=parallel) if parallel else made


def _numeric(x: Any) -> Any:
    """Return an array of Python objects as numbers; anything else as it is.

    Raises:
        DataError: GFM117 for an object that is no number.
    """
    if not (isinstance(x, np.ndarray) and x.dtype.kind == "O"):
        return x
    try:
        return np.asarray(x).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            "GFM117",
            f"x must hold numbers, got an array of Python objects: {error}",
            fix="pass a table (pandas, polars, pyarrow) for columns of text, dates or categories",
        ) from None


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
        x = torch.as_tensor(_numeric(x)).detach().cpu().to(torch.float32)
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
