"""Signatures of edges and of paths of two edges, from the features of their nodes.

Shapes:
    N  nodes   E  entries of the adjacency   P  edges or paths   F  features
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from graphfm.graphs.hashing import splitmix64

MAX_ENTRIES = 8_000_000  # feature entries of the edges whose inner products are computed: 1 s
MAX_PATHS = 500_000
MAX_PATH_DEGREE = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Signatures of two or three nodes together.

    Args:
        keys: Signatures, (P,) uint64, ascending; each occurs once in the graph.
        nodes: Nodes of each signature, (2, P) or (3, P).
    """

    keys: np.ndarray
    nodes: np.ndarray


NO_GROUPS = Groups(keys=np.zeros(0, np.uint64), nodes=np.zeros((2, 0), np.int64))


def unique_keys(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys that occur once, ascending, and their positions; 0 stands for no key."""
    unique, first, counts = np.unique(keys, return_index=True, return_counts=True)
    kept = (counts == 1) & (unique != 0)
    return unique[kept], first[kept]


def edge_groups(
    row: np.ndarray, col: np.ndarray, values: np.ndarray, scaled: sparse.csr_array
) -> tuple[Groups, Groups]:
    """Return the signatures of edges and of paths of two edges.

    The signature of an edge is a hash of the values of both feature rows and of their inner
    product.

    Args:
        row: First node of each entry of the adjacency, (E,).
        col: Second node, (E,).
        values: Hash of the values of each feature row, without columns, (N,); 0 for an empty row.
        scaled: Features divided by the largest of their row, (N, F).
    """
    # The node with the smaller hash comes first; nodes with equal hashes have no order.
    kept = (values[row] < values[col]) & (values[row] != 0)
    u, v = row[kept], col[kept]
    base = splitmix64(splitmix64(values[u]) + np.uint64(7) * values[v])
    counts = np.diff(scaled.indptr)
    kept = _sample(base, MAX_ENTRIES, weight=counts[u] + counts[v])
    u, v, base = u[kept], v[kept], base[kept]
    inner = np.zeros(len(u))
    for at in range(0, len(u), 10_000):
        some = slice(at, at + 10_000)
        inner[some] = np.asarray(scaled[u[some]].multiply(scaled[v[some]]).sum(axis=1)).ravel()
    edge = splitmix64(base + splitmix64(np.round(inner * 256).astype(np.int64)))
    keys, first = unique_keys(edge)
    edges = Groups(keys=keys, nodes=np.stack([u, v])[:, first])
    return edges, _paths(np.concatenate([u, v]), np.concatenate([v, u]), np.tile(edge, 2))


def _paths(middle: np.ndarray, end: np.ndarray, edge: np.ndarray) -> Groups:
    """Return the signatures of two edges with a common node of at most MAX_PATH_DEGREE edges."""
    order = np.lexsort((edge, middle))
    middle, end, edge = middle[order], end[order], edge[order]
    degree = np.bincount(middle, minlength=1)
    start = np.cumsum(degree) - degree
    kept = np.flatnonzero(degree[middle] <= MAX_PATH_DEGREE)
    later = (start + degree)[middle[kept]] - 1 - kept  # further edges of the same node
    first = np.repeat(kept, later)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later)
    apart = edge[first] != edge[second]
    first, second = first[apart], second[apart]
    path = splitmix64(edge[first] + np.uint64(3) * splitmix64(edge[second]))
    kept = np.flatnonzero(_sample(path, MAX_PATHS))
    keys, at = unique_keys(path[kept])
    first, second = first[kept[at]], second[kept[at]]
    return Groups(keys=keys, nodes=np.stack([middle[first], end[first], end[second]]))


def _sample(hashes: np.ndarray, most: int, weight: np.ndarray | None = None) -> np.ndarray:
    """Return a mask of the hashes whose lowest bits are 0, with as few bits as the limit needs.

    The choice depends on the hash alone: of two graphs with the same edge, both keep it or neither.

    Args:
        hashes: (P,) uint64.
        most: Limit on the number of hashes, or on the sum of their weights.
        weight: (P,); default: each counts as 1.
    """
    for level in range(41):
        kept: np.ndarray = (hashes & np.uint64((1 << level) - 1)) == 0
        if (kept.sum() if weight is None else weight[kept].sum()) <= most:
            break
    return kept
