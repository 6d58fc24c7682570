"""Where a node stands in its graph: Laplacian eigenvectors, degree and return probability.

Every connected component has its own spectrum, so a union of molecules is encoded as each molecule
alone would be. Eigenvectors are given up to sign (and rotation, where eigenvalues repeat): the
model that reads them must not see the difference.

Shapes:
    N  nodes   E  edges   C  components of one size   M  nodes of one component   k  eigenvectors
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

NUM_EIGENVECTORS = 16
VERSION = 1
SMALL = 256  # nodes of a component that is decomposed whole
BATCH_ENTRIES = 2**22  # of the stacked dense matrices: 32 MB
TOLERANCE = 1e-6  # of an eigenvalue; the encoding is stored with 7 digits
RESTART = 3  # times k Lanczos vectors kept: 60k-node grid 8 s; with scipy's 2k + 1, 18 s
DIFFUSION_ROUNDS = 4
DIFFUSION_STEPS = 16  # a round; 64 in all: 0.7 s on that grid, overlap with the exact ones 0.5
ROWS = 2**20  # of a tall matrix at a time
DIFFUSION_EXTRA = 8  # columns beyond k, so that the k-th is not the worst of them


@dataclass(frozen=True, kw_only=True, eq=False)
class Positions:
    """The encoding of every node, and how it came about.

    Args:
        pe: (N, 2k + 2) float32: k eigenvector entries, each vector scaled to mean square 1 over
            its component; the k eigenvalues of the node's component, ascending in (0, 2];
            log(1 + degree); the probability that a random walk is back after two steps. Both
            eigen parts are 0 beyond what a component has.
        method: Which ways were taken, joined by ``+``: ``eigh`` for small components, ``eigsh``
            for large ones, ``diffusion`` where time ran out, ``none`` without any edge.
        seconds: What it took.
    """

    pe: Tensor
    method: str
    seconds: float


def position_dim(k: int = NUM_EIGENVECTORS) -> int:
    """Columns of the encoding with k eigenvectors."""
    return 2 * k + 2


def encode_positions(
    rowptr: Tensor,
    col: Tensor,
    *,
    k: int = NUM_EIGENVECTORS,
    time_limit_s: float = 20.0,
    seed: int = 0,
) -> Positions:
    """Encode the nodes of one graph.

    Components of more than 256 nodes share ``time_limit_s``; what is not done by then is
    approximated by diffusing random features: smooth, but blurred where many eigenvalues lie
    close together. Whether a component makes it depends on the machine, so store the result and
    read ``method``.

    Args:
        rowptr: (N + 1,) CSR offsets.
        col: (E,) neighbors: both directions, no self-loops, no repeats.
        k: Eigenvectors and eigenvalues per node.
        time_limit_s: For all iterative decompositions together.
        seed: Of the start vector and of the random features.
    """
    start = time.perf_counter()
    n = len(rowptr) - 1
    degree = np.diff(rowptr.numpy())
    inverse = np.where(degree > 0, 1 / np.maximum(degree, 1), 0.0)
    root = np.sqrt(inverse)
    small = max(n, len(col)) < 2**31
    places = col.numpy().astype(np.int32 if small else np.int64)  # half the bytes of a large graph
    ends = rowptr.numpy().astype(places.dtype)
    pe = np.zeros((n, position_dim(k)), dtype=np.float32)
    pe[:, 2 * k] = np.log1p(degree)
    normal = sparse.csr_array((inverse[places], places, ends), shape=(n, n))
    # sum over neighbors of 1 / (d_i d_j)
    pe[:, 2 * k + 1] = inverse * np.asarray(normal.sum(axis=1)).ravel()
    normal.data[:] = root[places]
    normal.data *= np.repeat(root, degree)
    num_components, owner = connected_components(normal, directed=False)
    sizes = np.bincount(owner, minlength=num_components)
    order = np.argsort(sizes[owner] * num_components + owner, kind="stable")  # by size, then owner
    by_size = np.sort(sizes)
    place = np.empty(n, dtype=np.int64)  # of a node within its component
    place[order] = np.arange(n) - np.repeat(np.cumsum(by_size) - by_size, by_size)
    limit = max(SMALL, 4 * k)

    methods = set()
    if (sizes[sizes <= limit] > 1).any():
        _encode_small(pe, normal, order, place, by_size[by_size <= limit], k)
        methods.add("eigh")
    deadline = start + time_limit_s
    first = int(by_size[by_size <= limit].sum())
    for size in by_size[by_size > limit]:  # each has more than 256 nodes
        nodes = order[first : first + size]
        first += size
        rows = normal[nodes] if size < n else normal
        if first == n:
            del normal, places  # the last component is the largest: not twice in memory
        if size < n:
            rows.indices = place[rows.indices].astype(rows.indices.dtype)
        part = sparse.csr_array((rows.data, rows.indices, rows.indptr), shape=(size, size))
        del rows
        top = np.sqrt(degree[nodes] / degree[nodes].sum())
        found = _lanczos(part, top, k, deadline, seed)
        methods.add("eigsh" if found else "diffusion")
        if not found:
            part = part.astype(np.float32)  # half the time of double
        values, vectors = found or _diffuse(part, top, k, seed)
        pe[nodes, :k] = vectors * np.sqrt(size)
        pe[nodes, k : 2 * k] = np.clip(values, 0, 2)
    return Positions(
        pe=torch.from_numpy(pe),
        method="+".join(sorted(methods)) or "none",
        seconds=time.perf_counter() - start,
    )


def _encode_small(
    pe: np.ndarray,
    normal: sparse.csr_array,
    order: np.ndarray,
    place: np.ndarray,
    sizes: np.ndarray,
    k: int,
) -> None:
    """Write the encodings of all small components into pe, one size after the other."""
    first = 0
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        nodes = order[first : first + size * count].reshape(count, size)
        first += size * count
        step = max(1, BATCH_ENTRIES // size**2)
        for at in range(0, count if size > 1 else 0, step):
            batch = nodes[at : at + step]  # (C, M)
            rows = normal[batch.ravel()].tocoo()
            dense = np.zeros((len(batch), size, size))
            dense[rows.row // size, rows.row % size, place[rows.col]] = -rows.data
            dense[:, np.arange(size), np.arange(size)] += 1  # Laplacian = identity - adjacency
            values, vectors = np.linalg.eigh(dense)
            kept = min(k, size - 1)  # without the constant one, whose eigenvalue is 0
            pe[batch, :kept] = vectors[:, :, 1 : kept + 1] * np.sqrt(size)
            pe[batch, k : k + kept] = values[:, None, 1 : kept + 1]


def _lanczos(
    normal: sparse.csr_array, top: np.ndarray, k: int, deadline: float, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Eigenvalues (k,) and eigenvectors (M, k) of one component; None if time runs out."""

    def times(v: np.ndarray) -> np.ndarray:
        if time.perf_counter() > deadline:
            raise _OutOfTime
        v = v.ravel()
        # The eigenvector of 0 is known: moving it to the far end of the spectrum leaves Lanczos
        # one vector less to find, and keeps it apart from clusters that are nearly disconnected.
        out: np.ndarray = normal @ v - 2 * top * (top @ v)
        return out

    m = len(top)
    operator = LinearOperator((m, m), matvec=times, dtype=np.float64)
    v0 = np.random.default_rng(seed).standard_normal(m)
    options = {"ncv": RESTART * k, "tol": TOLERANCE, "maxiter": 10**6}  # the clock ends it
    try:
        began = time.perf_counter()
        times(v0)
        least = RESTART * k * (time.perf_counter() - began)  # products until the first restart
        if time.perf_counter() + least > deadline:
            return None  # at 10 million nodes, 20 s and 4 GB of vectors for nothing
        values, vectors = eigsh(operator, k=k, which="LA", v0=v0, **options)
    except (_OutOfTime, ArpackError):
        return None
    falling = np.argsort(-values, kind="stable")
    return 1 - values[falling], vectors[:, falling]


def _diffuse(
    normal: sparse.csr_array, top: np.ndarray, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The smoothest vectors in the span of some diffused random ones, and their eigenvalues.

    One round is a Chebyshev filter (Zhou, Saad, Tiago, Chelikowsky 2006): it damps what varies
    faster than the basis does by now, and t steps reach as far as t^2 steps of a random walk.
    Rayleigh-Ritz then turns the basis so that it looks like eigenvectors, in the same order.

    Args:
        normal: (M, M) float32: half the time of double.
        top: (M,), the eigenvector of 0.
        k: How many.
        seed: Of the random vectors.
    """
    top = top.astype(np.float32)

    def times(v: np.ndarray) -> np.ndarray:
        out: np.ndarray = normal @ v
        weights = top @ v
        for rows in _blocks(len(out)):
            out[rows] -= 2 * np.outer(top[rows], weights)
        return out

    rng = np.random.default_rng(seed)
    basis, low = np.empty((len(top), k + DIFFUSION_EXTRA), dtype=np.float32), 0.0
    for rows in _blocks(len(top)):
        basis[rows] = rng.standard_normal(basis[rows].shape)
    for _ in range(DIFFUSION_ROUNDS):
        before, after = basis, _shifted(times, basis, low)
        for _ in range(DIFFUSION_STEPS - 1):
            further = _shifted(times, after, low)
            for rows in _blocks(len(top)):
                further[rows] = 2 * further[rows] - before[rows]
            before, after = after, further
        del before, further
        basis = _orthonormal(after)
        values, turn = np.linalg.eigh(basis.T @ times(basis))
        basis, values = basis @ turn[:, ::-1], values[::-1]
        low = max(float(values[-1]), 0.0)
    return 1 - values[:k], basis[:, :k]


def _shifted(times: Callable[[np.ndarray], np.ndarray], v: np.ndarray, low: float) -> np.ndarray:
    """Apply the operator with the unwanted part of its spectrum, [-1, low], moved to [-1, 1]."""
    out = times(v)
    for rows in _blocks(len(v)):
        out[rows] = (2 * out[rows] + (1 - low) * v[rows]) / (1 + low)
    return out


def _orthonormal(v: np.ndarray) -> np.ndarray:
    """Orthonormal columns of the same span, (M, S): QR of blocks of rows, then of their R's.

    One decomposition of 10 million rows, which numpy does in double, would take 6 GB.
    """
    blocks = list(_blocks(len(v)))
    if len(blocks) == 1:
        return np.linalg.qr(v)[0]
    upper = []
    for rows in blocks:
        v[rows], r = np.linalg.qr(v[rows].astype(np.float64))
        upper.append(r)
    left = np.linalg.qr(np.concatenate(upper))[0].reshape(len(blocks), -1, v.shape[1])
    for rows, part in zip(blocks, left, strict=True):
        v[rows] = v[rows] @ part
    return v


def _blocks(num_rows: int) -> Iterator[slice]:
    """Rows of a tall matrix in pieces: what is made in passing stays small."""
    for start in range(0, num_rows, ROWS):
        yield slice(start, min(start + ROWS, num_rows))


class _OutOfTime(Exception):
    """Leaves eigsh from within, between two products."""
