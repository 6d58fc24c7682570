"""Signatures: hashes that find the nodes of one graph again in another, whatever their names.

A signature is a 64-bit hash of a node, of an edge or of a path of two edges. It does not depend on
the order of nodes. A signature that occurs once in each of two graphs proposes that its nodes are
the same; :mod:`graphfm.graphs.audit.overlap` then compares their edges and rows.

    rows        the feature row
    columns     the row, each column named by the values it holds; columns may be reordered
    values      the values of the row over its largest, without columns; columns may be missing
    pairs       the values of two rows that an edge joins, and their inner product; nodes may be
                missing and columns reordered, also where features are only zeros and ones
    paths       two such pairs with a common node, for rows of few values
    wl2, wl3    degrees of the nodes within two or three steps (Weisfeiler-Lehman), no features
    wlx1, wlx2  the same, starting from ``columns``
    fields      a whole column; other columns and edges may change, nodes may not
    whole       all ``wl3`` of the graph in one hash

Labels are never read.

Shapes:
    N  nodes   E  entries of the adjacency   F  features   Z  features that are not zero   K  hubs
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.special import gammaln

from graphfm.graphs.audit.groups import NO_GROUPS, Groups, edge_groups, unique_keys
from graphfm.graphs.graph import Graph
from graphfm.graphs.hashing import splitmix64

VERSION = 1
"""Version of the signatures and the decisions: raise it with each change, results are cached."""

NODE_KINDS = ("rows", "columns", "values", "wlx2", "wlx1", "wl3", "wl2")

MIN_BITS = 10.0  # a row that its columns alone make likelier than 2^-10 gets no signature
NUM_HUBS = 512
MIN_COLOURS = 8  # fewer are a star, a cycle or a complete graph, which are not data
SCALE = 2.0**12  # grid of values over the largest of the row: a change of unit leaves them equal

Once = tuple[np.ndarray, np.ndarray]
"""Signatures that occur once, ascending, and the node of each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Signatures:
    """Signatures of one graph.

    Args:
        name: Id of the graph.
        rowptr: CSR row pointers of neighbors in both directions, without self-loops, (N + 1,).
        col: Neighbors, (E,).
        once: Signatures that occur once, by kind of :data:`NODE_KINDS`.
        bits: Surprise of each node's row, (N,), by kind: minus log2 of its probability if columns
            are independent. For ``rows``, ``columns`` and ``values``.
        groups: Signatures of edges and paths: ``pairs`` and ``paths``.
        fields: Hashes of the columns that hold enough different values, ascending.
        scaled: Features over the largest of their row, (N, F); None without features.
        whole: Hash of the structure; empty if the structure is too regular to identify a graph.
        hubs: Nodes of the highest degrees, (K,).
        vectors: Distribution of degrees around each hub, (K, 64); a few changed edges change it
            little.
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
        """Number of nodes, N."""
        return len(self.rowptr) - 1

    @cached_property
    def degree(self) -> np.ndarray:
        """Number of neighbors of each node, (N,)."""
        return np.diff(self.rowptr)

    @cached_property
    def row(self) -> np.ndarray:
        """First node of each entry of the adjacency, (E,)."""
        return np.repeat(np.arange(self.num_nodes), self.degree)

    @cached_property
    def adjacency(self) -> sparse.csr_array:
        """Adjacency matrix of ones, (N, N)."""
        ones = np.ones(len(self.col))
        return sparse.csr_array((ones, self.col, self.rowptr), shape=(self.num_nodes,) * 2)


def signatures(graph: Graph) -> Signatures:
    """Compute all signatures of a graph: 0.1 s for 100,000 edges and as many features."""
    rowptr, col = (part.numpy() for part in graph.neighbors)
    degree = np.diff(rowptr)
    keys, bits, scaled = _features(graph)
    colours = _colours(splitmix64(degree), rowptr, col, 3)
    keys["wl2"], keys["wl3"] = colours[2], colours[3]
    if "columns" in keys:
        around = _colours(keys["columns"], rowptr, col, 2)
        keys["wlx1"], keys["wlx2"] = around[1], around[2]
    for kind, surprise in bits.items():
        keys[kind] = np.where(surprise >= MIN_BITS, keys[kind], 0)
    values = keys.pop("all_values", None)
    pairs = paths = NO_GROUPS
    if values is not None and scaled is not None:
        pairs, paths = edge_groups(np.repeat(np.arange(len(degree)), degree), col, values, scaled)
    hubs, vectors = _hubs(rowptr, col)
    fields = keys.pop("fields", np.zeros(0, dtype=np.uint64))
    return Signatures(
        name=graph.name,
        rowptr=rowptr,
        col=col,
        once={kind: unique_keys(found) for kind, found in keys.items()},
        bits=bits,
        groups={"pairs": pairs, "paths": paths},
        fields=fields,
        scaled=scaled,
        whole=_whole(colours[3]),
        hubs=hubs,
        vectors=vectors,
    )


def row_sums(values: np.ndarray, ptr: np.ndarray) -> np.ndarray:
    """Return the sum of each row of a CSR array, (Z,) and (N + 1,) -> (N,); hashes wrap around."""
    total = np.zeros(len(values) + 1, dtype=values.dtype)
    np.cumsum(values, out=total[1:])
    sums: np.ndarray = total[ptr[1:]] - total[ptr[:-1]]
    return sums


def _features(
    graph: Graph,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], sparse.csr_array | None]:
    """Return hashes and surprise of the rows, and the features over the largest of each row."""
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
    entry = splitmix64(splitmix64(x.indices) ^ splitmix64(stored))  # (Z,)
    top = np.zeros(num_nodes)
    np.maximum.at(top, row, np.abs(x.data))
    over_top = x.data.astype(np.float64) / top[row]
    value = splitmix64(np.round(over_top * SCALE).astype(np.int64))
    # A column is named by the values that it holds.
    columns = np.zeros(x.shape[1], dtype=np.uint64)
    np.add.at(columns, x.indices, splitmix64(splitmix64(stored)))
    renamed = splitmix64(splitmix64(columns)[x.indices] ^ splitmix64(stored))
    keys = {
        "rows": splitmix64(row_sums(splitmix64(entry), ptr)),
        "columns": splitmix64(row_sums(splitmix64(renamed), ptr)),
        "values": splitmix64(row_sums(splitmix64(value), ptr) + splitmix64(counts)),
    }
    for values in keys.values():
        values[counts == 0] = 0
    keys["all_values"] = keys["values"]  # those of ``values`` with few bits are dropped later
    if len(np.unique(stored)) >= MIN_COLOURS:
        held = np.unique(x.indices.astype(np.uint64) << np.uint64(32) | stored) >> np.uint64(32)
        varied = np.bincount(held.astype(np.int64), minlength=x.shape[1]) >= MIN_COLOURS
        columns = columns[varied]
    else:
        columns = columns[:0]
    keys["fields"] = np.unique(columns)
    # ``values`` has no order within a row, so log2 of the number of orders is subtracted.
    shuffles = gammaln(counts + 1) / np.log(2)
    bits = {
        "rows": row_sums(_surprise(entry, num_nodes), ptr),
        "columns": row_sums(_surprise(renamed, num_nodes), ptr),
        "values": np.maximum(0.0, row_sums(_surprise(value, x.nnz), ptr) - shuffles),
    }
    return keys, bits, sparse.csr_array((over_top, x.indices, ptr), shape=x.shape)


def _surprise(keys: np.ndarray, total: int) -> np.ndarray:
    """Return minus log2 of the share of ``total`` places that hold each key, (Z,)."""
    _, where, counts = np.unique(keys, return_inverse=True, return_counts=True)
    surprise: np.ndarray = np.maximum(0.0, -np.log2(counts / total))[where]
    return surprise


def _colours(
    start: np.ndarray, rowptr: np.ndarray, col: np.ndarray, depth: int
) -> list[np.ndarray]:
    """Return the Weisfeiler-Lehman colours of depth 0 to ``depth``, each (N,)."""
    colours = [start]
    for _ in range(depth):
        around = splitmix64(row_sums(splitmix64(colours[-1])[col], rowptr))
        colours.append(splitmix64(colours[-1] + np.uint64(3) * around))
    return colours


def _whole(colours: np.ndarray) -> str:
    """Return the hash of all colours; empty for fewer than MIN_COLOURS different ones."""
    if len(np.unique(colours)) < MIN_COLOURS:
        return ""
    return hashlib.sha256(np.sort(colours).tobytes()).hexdigest()[:32]


def _hubs(rowptr: np.ndarray, col: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes of the highest degrees, and the degrees within one and two steps of each.

    The vectors hold square roots of counts, whose noise does not depend on the count. Bins are
    half a power of two wide and overlap: without overlap a fifth fewer hubs of a rewired graph are
    found.
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
