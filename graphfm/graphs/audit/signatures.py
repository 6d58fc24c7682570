"""Signatures: what of a graph can be found again in another one, whatever its nodes are called.

A signature is a 64-bit hash of a node, or of two or three nodes along edges, that does not depend
on the order of nodes. Node ``v`` of one graph and ``w`` of another are taken for the same, until
:mod:`graphfm.graphs.audit.matching` has looked at their edges, if it occurs once in each.

    rows       the feature row as it stands
    columns    the row, every column named by what it holds: survives a reordering of columns
    values     the values of the row over its largest, without columns: survives a choice of columns
    pairs      two rows that share an edge: their values and inner product; survives a choice of
               nodes and a reordering of columns also where the features are only zeros and ones
    paths      two such pairs that meet, for rows of few values
    wl2, wl3   degrees of the ball of two or three steps (Weisfeiler-Lehman), without features
    wlx1, wlx2 the same from the ``columns`` signature on
    fields     a whole column: survives other columns and other edges, not fewer nodes
    whole      every ``wl3`` of the graph: one hash

Labels are never read.

Shapes:
    N  nodes   E  entries of the adjacency   Z  features that are not zero   P  pairs   K  hubs
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.special import gammaln

from graphfm.graphs.graph import Graph

VERSION = 1
"""Raise it when a signature or a decision changes: results of pairs are cached."""

NODE_KINDS = ("rows", "columns", "values", "wlx2", "wlx1", "wl3", "wl2")

MIN_BITS = 10.0  # a row that is likelier than 2^-10 by its columns alone says nothing
MAX_ENTRIES = 8_000_000  # features of pairs whose inner products are taken: 1 s
MAX_PATHS = 500_000
MAX_PATH_DEGREE = 32
NUM_HUBS = 512
MIN_COLOURS = 8  # fewer are a star, a cycle or a complete graph, which anyone may draw
SCALE = 2.0**12  # values over the largest of the row, on a grid that a change of unit survives

Once = tuple[np.ndarray, np.ndarray]  # signatures that occur once, ascending; the node of each


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Signatures of some nodes together.

    Args:
        keys: (P,) ascending; each occurs once.
        nodes: (2, P) or (3, P) the nodes of each.
        level: How many low bits a hash had to lack to be kept: the fuller graph keeps fewer.
    """

    keys: np.ndarray
    nodes: np.ndarray
    level: int


NO_GROUPS = Groups(keys=np.zeros(0, np.uint64), nodes=np.zeros((2, 0), np.int64), level=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Signatures:
    """Signatures of one graph.

    Args:
        name: Id of the graph.
        rowptr: (N + 1,) neighbors in both directions, without self-loops.
        col: (E,)
        once: By kind of :data:`NODE_KINDS`.
        bits: By kind, (N,): minus the binary logarithm of how likely the row is if its columns
            are independent. For ``rows``, ``columns`` and ``values``.
        groups: ``pairs`` and ``paths``.
        fields: Hashes of the columns that hold enough different values, ascending.
        scaled: (N, F) features over the largest of their row; None without features.
        whole: Hash of the structure; empty where it is too regular to say anything.
        hubs: (K,) nodes of the highest degree.
        vectors: (K, .) degrees around each hub, so that nearness survives a few changed edges.
    """

    name: str
    rowptr: np.ndarray
    col: np.ndarray
    once: dict[str, Once]
    bits: dict[str, np.ndarray]
    groups: dict[str, Groups]
    fields: np.ndarray
    scaled: sparse.csr_array | None
    whole: str
    hubs: np.ndarray
    vectors: np.ndarray

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.rowptr) - 1

    @cached_property
    def degree(self) -> np.ndarray:
        """(N,) neighbors of each node."""
        return np.diff(self.rowptr)

    @cached_property
    def row(self) -> np.ndarray:
        """(E,) the near end of every entry."""
        return np.repeat(np.arange(self.num_nodes), self.degree)

    @cached_property
    def adjacency(self) -> sparse.csr_array:
        """(N, N) of ones."""
        ones = np.ones(len(self.col))
        return sparse.csr_array((ones, self.col, self.rowptr), shape=(self.num_nodes,) * 2)


def signatures(graph: Graph) -> Signatures:
    """Compute all signatures of a graph: 0.1 s for 100,000 edges and as many features."""
    rowptr, col = (part.numpy() for part in graph.neighbors)
    degree = np.diff(rowptr)
    keys, bits, scaled = _features(graph)
    colours = _colours(mix(degree), rowptr, col, 3)
    keys["wl2"], keys["wl3"] = colours[2], colours[3]
    if "columns" in keys:
        around = _colours(keys["columns"], rowptr, col, 2)
        keys["wlx1"], keys["wlx2"] = around[1], around[2]
    for kind, values in bits.items():
        keys[kind] = np.where(values >= MIN_BITS, keys[kind], 0)
    ends = np.repeat(np.arange(len(degree)), degree)
    pairs, paths = _pairs(ends, col, keys.pop("bag", None), scaled)
    hubs, vectors = _hubs(rowptr, col)
    fields = keys.pop("fields", np.zeros(0, dtype=np.uint64))
    return Signatures(
        name=graph.name,
        rowptr=rowptr,
        col=col,
        once={kind: once(values) for kind, values in keys.items()},
        bits=bits,
        groups={"pairs": pairs, "paths": paths},
        fields=fields,
        scaled=scaled,
        whole=_whole(colours[3]),
        hubs=hubs,
        vectors=vectors,
    )


def mix(values: np.ndarray) -> np.ndarray:
    """Integers -> 64 bits that look random (the finalizer of splitmix64)."""
    z = np.array(values).astype(np.uint64)
    z += np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def row_sums(values: np.ndarray, ptr: np.ndarray) -> np.ndarray:
    """Sum of each row of a CSR array; 64-bit hashes wrap around."""
    total = np.zeros(len(values) + 1, dtype=values.dtype)
    np.cumsum(values, out=total[1:])
    sums: np.ndarray = total[ptr[1:]] - total[ptr[:-1]]
    return sums


def _features(
    graph: Graph,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], sparse.csr_array | None]:
    """Keys and bits of the rows, and the features over the largest of each row."""
    if graph.x is None:
        return {}, {}, None
    x = graph.x.copy() if isinstance(graph.x, sparse.csr_array) else graph.x.numpy()
    x = sparse.csr_array(x)
    x.eliminate_zeros()
    if not x.nnz:
        return {}, {}, None
    num_nodes, ptr, counts = x.shape[0], x.indptr, np.diff(x.indptr)
    row = np.repeat(np.arange(num_nodes), counts)
    stored = np.ascontiguousarray(x.data.astype(np.float32)).view(np.uint32)
    entry = mix(mix(x.indices) ^ mix(stored))  # (Z,)
    top = np.zeros(num_nodes)
    np.maximum.at(top, row, np.abs(x.data))
    over_top = x.data.astype(np.float64) / top[row]
    value = mix(np.round(over_top * SCALE).astype(np.int64))
    # A column is what it holds: as many of which values.
    columns = np.zeros(x.shape[1], dtype=np.uint64)
    np.add.at(columns, x.indices, mix(mix(stored)))
    renamed = mix(mix(columns)[x.indices] ^ mix(stored))
    keys = {
        "rows": mix(row_sums(mix(entry), ptr)),
        "columns": mix(row_sums(mix(renamed), ptr)),
        "values": mix(row_sums(mix(value), ptr) + mix(counts)),
    }
    for values in keys.values():
        values[counts == 0] = 0
    keys["bag"] = keys["values"]
    if len(np.unique(stored)) >= MIN_COLOURS:
        held = np.unique(x.indices.astype(np.uint64) << np.uint64(32) | stored) >> np.uint64(32)
        varied = np.bincount(held.astype(np.int64), minlength=x.shape[1]) >= MIN_COLOURS
        columns = columns[varied]
    else:
        columns = columns[:0]
    keys["fields"] = np.unique(columns)
    # The order of values within a row is not part of its bag, so log2 of the factorial goes off.
    shuffles = gammaln(counts + 1) / np.log(2)
    bits = {
        "rows": row_sums(_surprise(entry, num_nodes), ptr),
        "columns": row_sums(_surprise(renamed, num_nodes), ptr),
        "values": np.maximum(0.0, row_sums(_surprise(value, x.nnz), ptr) - shuffles),
    }
    return keys, bits, sparse.csr_array((over_top, x.indices, ptr), shape=x.shape)


def _surprise(keys: np.ndarray, total: int) -> np.ndarray:
    """Minus log2 of how often each key occurs in ``total`` places; 0 where it is in all of them."""
    _, where, counts = np.unique(keys, return_inverse=True, return_counts=True)
    surprise: np.ndarray = np.maximum(0.0, -np.log2(counts / total))[where]
    return surprise


def _colours(
    start: np.ndarray, rowptr: np.ndarray, col: np.ndarray, depth: int
) -> list[np.ndarray]:
    """Weisfeiler-Lehman colours of depth 0 to ``depth``, each (N,)."""
    colours = [start]
    for _ in range(depth):
        around = mix(row_sums(mix(colours[-1])[col], rowptr))
        colours.append(mix(colours[-1] + np.uint64(3) * around))
    return colours


def _whole(colours: np.ndarray) -> str:
    if len(np.unique(colours)) < MIN_COLOURS:
        return ""
    return hashlib.sha256(np.sort(colours).tobytes()).hexdigest()[:32]


def once(keys: np.ndarray) -> Once:
    """Keys that occur once, ascending, and where; 0 says nothing."""
    unique, first, counts = np.unique(keys, return_index=True, return_counts=True)
    kept = (counts == 1) & (unique != 0)
    return unique[kept], first[kept]


def _pairs(
    row: np.ndarray, col: np.ndarray, bag: np.ndarray | None, scaled: sparse.csr_array | None
) -> tuple[Groups, Groups]:
    """Signatures of edges, the end with the smaller bag first, and of two edges at one node."""
    if bag is None or scaled is None:
        return NO_GROUPS, NO_GROUPS
    kept = (bag[row] < bag[col]) & (bag[row] != 0)
    u, v = row[kept], col[kept]
    base = mix(mix(bag[u]) + np.uint64(7) * bag[v])
    counts = np.diff(scaled.indptr)
    level = _level(base, MAX_ENTRIES, weight=counts[u] + counts[v])
    kept = (base & low_bits(level)) == 0
    u, v, base = u[kept], v[kept], base[kept]
    inner = np.zeros(len(u))
    for at in range(0, len(u), 10_000):
        some = slice(at, at + 10_000)
        inner[some] = np.asarray(scaled[u[some]].multiply(scaled[v[some]]).sum(axis=1)).ravel()
    pair = mix(base + mix(np.round(inner * 256).astype(np.int64)))
    keys, first = once(pair)
    pairs = Groups(keys=keys, nodes=np.stack([u, v])[:, first], level=level)
    return pairs, _paths(np.concatenate([u, v]), np.concatenate([v, u]), np.tile(pair, 2), level)


def _paths(middle: np.ndarray, end: np.ndarray, pair: np.ndarray, level: int) -> Groups:
    """Two edges that meet; at nodes of few edges, since a hub has too many."""
    order = np.lexsort((pair, middle))
    middle, end, pair = middle[order], end[order], pair[order]
    degree = np.bincount(middle, minlength=1)
    start = np.cumsum(degree) - degree
    kept = np.flatnonzero(degree[middle] <= MAX_PATH_DEGREE)
    later = (start + degree)[middle[kept]] - 1 - kept  # edges of the same node that come after
    first = np.repeat(kept, later)
    second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later)
    apart = pair[first] != pair[second]
    first, second = first[apart], second[apart]
    path = mix(pair[first] + np.uint64(3) * mix(pair[second]))
    level_of_paths = _level(path, MAX_PATHS)
    kept = np.flatnonzero((path & low_bits(level_of_paths)) == 0)
    keys, at = once(path[kept])
    first, second = first[kept[at]], second[kept[at]]
    nodes = np.stack([middle[first], end[first], end[second]])
    return Groups(keys=keys, nodes=nodes, level=level_of_paths)


def _level(hashes: np.ndarray, most: int, weight: np.ndarray | None = None) -> int:
    """How many low bits must be 0 so that not too many are left.

    By hash, so that two graphs that share something both keep it or both leave it out.
    """
    level = 0
    while level < 40:
        kept = (hashes & low_bits(level)) == 0
        if (kept.sum() if weight is None else weight[kept].sum()) <= most:
            break
        level += 1
    return level


def low_bits(level: int) -> np.uint64:
    """A mask of so many bits."""
    return np.uint64((1 << level) - 1)


def _hubs(rowptr: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of the highest degree, and how the degrees of their neighbors are distributed.

    Square roots of counts in overlapping bins of half a power of two: their noise is the same for
    few and for many. With bins that do not overlap a fifth fewer hubs of a rewired graph are found.
    """
    degree = np.diff(rowptr)
    centres = np.arange(0, 16, 0.5)
    near = np.exp(-((np.log2(1 + degree)[:, None] - centres) ** 2) / (2 * 0.35**2))
    near /= near.sum(axis=1, keepdims=True)
    ones = np.ones(len(col))
    adjacency = sparse.csr_array((ones, col, rowptr), shape=(len(degree),) * 2)
    one = adjacency @ near  # (N, 32)
    hubs = np.argsort(-degree, kind="stable")[:NUM_HUBS]
    two = adjacency[hubs] @ (one / np.sqrt(np.maximum(1, degree))[:, None])
    return hubs, np.concatenate([np.sqrt(one[hubs]), 0.5 * np.sqrt(two)], axis=1)
