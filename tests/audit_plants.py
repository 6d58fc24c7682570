"""Altered copies that the leakage audit must recognise, and graphs that only look like copies.

Nodes always get new names. Columns of features are reordered unless the plant's name excludes it.
``tests/test_graphs_audit.py`` and ``tools/bench/audit.py`` use them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse

from graphfm.graphs.graph import Graph

Rng = np.random.Generator
NO_COLUMNS_IN_COMMON = 200  # columns of the features that replace none


def edges_of(graph: Graph) -> np.ndarray:
    """(2, M) every edge once, the smaller node first."""
    rowptr, col = (part.numpy() for part in graph.neighbors)
    row = np.repeat(np.arange(graph.num_nodes), np.diff(rowptr))
    return np.stack([row, col])[:, row < col]


def features_of(graph: Graph) -> sparse.csr_array | None:
    """The features, sparse."""
    if graph.x is None or isinstance(graph.x, sparse.csr_array):
        return graph.x
    return sparse.csr_array(graph.x.numpy())


def copy_of(
    graph: Graph,
    rng: Rng,
    *,
    edges: np.ndarray | None = None,
    x: sparse.csr_array | None = None,
    keep: np.ndarray | None = None,
    columns: bool = True,
) -> Graph:
    """The graph with other names for its nodes: some of them, other edges, other features.

    Args:
        graph: What is copied.
        rng: Names nodes and columns.
        edges: (2, M) instead of its own.
        x: Instead of its own features.
        keep: Nodes that are copied; None = all.
        columns: Whether columns are reordered too.
    """
    edges = edges_of(graph) if edges is None else edges
    x = features_of(graph) if x is None else x
    keep = np.arange(graph.num_nodes) if keep is None else keep
    keep = rng.permutation(keep)
    place = np.full(graph.num_nodes, -1)
    place[keep] = np.arange(len(keep))
    moved = place[edges]
    if x is not None:
        x = sparse.csr_array(x)[keep]
        x = x[:, rng.permutation(x.shape[1])] if columns else x
        x = sparse.csr_array(x).astype(np.float32)
    return Graph.from_edges(
        torch.from_numpy(moved[:, (moved >= 0).all(axis=0)]),
        num_nodes=len(keep),
        directed=False,
        name=f"{graph.name}-copy",
        x=x,
    )


def part(graph: Graph, rng: Rng, share: float = 0.3) -> np.ndarray:
    """Some nodes, drawn at random."""
    return rng.permutation(graph.num_nodes)[: round(share * graph.num_nodes)]


def rewired(graph: Graph, rng: Rng, share: float) -> np.ndarray:
    """Edges, some of which are replaced by edges between any two nodes."""
    edges = edges_of(graph)
    moved = rng.permutation(edges.shape[1])[: round(share * edges.shape[1])]
    fresh = rng.integers(0, graph.num_nodes, (2, len(moved)))
    whole = np.concatenate([np.delete(edges, moved, axis=1), fresh], axis=1)
    return whole[:, whole[0] != whole[1]]


def other_features(graph: Graph, rng: Rng) -> sparse.csr_array:
    """Features of the same shape that have nothing to do with the graph's."""
    x = features_of(graph)
    width = NO_COLUMNS_IN_COMMON if x is None else x.shape[1]
    density = 0.1 if x is None else max(x.nnz, 1) / (graph.num_nodes * width)
    shape = (graph.num_nodes, width)
    return sparse.random_array(shape, density=density, rng=rng, format="csr", dtype=np.float32)


def noised(graph: Graph, rng: Rng, share: float = 0.01) -> sparse.csr_array | None:
    """Features, some of whose entries have moved to another column."""
    x = features_of(graph)
    if x is None:
        return None
    x = sparse.coo_array(x)
    col = x.col.copy()
    moved = rng.random(len(col)) < share
    col[moved] = rng.integers(0, x.shape[1], moved.sum())
    return sparse.csr_array(sparse.coo_array((x.data, (x.row, col)), shape=x.shape))


def without_duplicates(graph: Graph) -> np.ndarray:
    """One node of each set with equal neighbors and label, as arXiv 2302.11640 does.

    There the label is the traffic of a page, of which this label is the quintile.
    """
    rowptr, col = graph.rowptr.numpy(), graph.col.numpy()
    y = np.zeros(graph.num_nodes) if graph.y is None else graph.y.numpy()
    alike = [(*col[rowptr[v] : rowptr[v + 1]], -1, y[v]) for v in range(graph.num_nodes)]
    return np.array(sorted({key: v for v, key in enumerate(alike)}.values()))


def redrawn(graph: Graph, rng: Rng) -> Graph:
    """A graph that shares nothing but degrees and how often columns have which values."""
    ends = edges_of(graph)
    ends = np.stack([ends[0], rng.permutation(ends[1])])
    x = features_of(graph)
    if x is not None:
        x = sparse.coo_array(x)
        drawn = rng.integers(0, x.nnz, x.nnz)
        row = rng.integers(0, graph.num_nodes, x.nnz)
        x = sparse.csr_array(sparse.coo_array((x.data[drawn], (row, x.col[drawn])), shape=x.shape))
    return copy_of(graph, rng, edges=ends[:, ends[0] != ends[1]], x=x, columns=False)


PLANTS: dict[str, Callable[[Graph, Rng], Graph]] = {
    "renamed": lambda g, r: copy_of(g, r),
    "30% of the nodes": lambda g, r: copy_of(g, r, keep=part(g, r)),
    "30% of the nodes, columns in place": lambda g, r: copy_of(
        g, r, keep=part(g, r), columns=False
    ),
    "5% of the edges rewired": lambda g, r: copy_of(g, r, edges=rewired(g, r, 0.05)),
    "10% of the edges rewired": lambda g, r: copy_of(g, r, edges=rewired(g, r, 0.1)),
    "20% of the edges rewired": lambda g, r: copy_of(g, r, edges=rewired(g, r, 0.2)),
    "1% of the features moved": lambda g, r: copy_of(g, r, x=noised(g, r)),
    "1% of the features moved, 5% of the edges": lambda g, r: copy_of(
        g, r, x=noised(g, r), edges=rewired(g, r, 0.05)
    ),
    "without duplicates": lambda g, r: copy_of(g, r, keep=without_duplicates(g)),
    "other edges, columns in place": lambda g, r: copy_of(
        g, r, edges=rewired(g, r, 1.0), columns=False
    ),
    "other features": lambda g, r: copy_of(g, r, x=other_features(g, r)),
    "other features, 5% of the edges rewired": lambda g, r: copy_of(
        g, r, x=other_features(g, r), edges=rewired(g, r, 0.05)
    ),
    "other features, 10% of the edges rewired": lambda g, r: copy_of(
        g, r, x=other_features(g, r), edges=rewired(g, r, 0.1)
    ),
    "other features, 20% of the edges rewired": lambda g, r: copy_of(
        g, r, x=other_features(g, r), edges=rewired(g, r, 0.2)
    ),
    "other features, 30% of the nodes": lambda g, r: copy_of(
        g, r, x=other_features(g, r), keep=part(g, r)
    ),
    "other features, 70% of the nodes": lambda g, r: copy_of(
        g, r, x=other_features(g, r), keep=part(g, r, 0.7)
    ),
}
