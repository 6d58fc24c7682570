"""Positional encoding of nodes: Laplacian eigenvectors, degree and return probability.

The eigenvectors are those of the normalised Laplacian L = I - D^-1/2 A D^-1/2 (Dwivedi et al.
2023), and each connected component has its own: a union of molecules is encoded like each molecule
by itself. Their sign is arbitrary, as is their basis if eigenvalues repeat, so a model must read
them through a function that does not depend on either.

Shapes:
    N  nodes   E  edges   C  components of one size   M  nodes of one component   k  eigenvectors
    S  columns of a basis
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
SMALL = 256  # largest component, in nodes, that is decomposed as a dense matrix
BATCH_ENTRIES = 2**22  # entries of the stacked dense matrices: 32 MB
TOLERANCE = 1e-6  # error of an eigenvalue; the encoding is stored with 7 digits
RESTART = 3  # 3 k Lanczos vectors are kept: 8 s on a grid of 60k nodes; scipy's 2k + 1: 18 s
DIFFUSION_ROUNDS = 4
DIFFUSION_STEPS = 16  # per round, 64 in all: 0.7 s on that grid, overlap with exact vectors 0.5
DIFFUSION_EXTRA = 8  # columns beyond k, because the last columns converge least
ROWS = 2**20  # rows of a tall matrix at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class Positions:
    """Positional encoding of the nodes of a graph, and its method.

    Args:
        pe: (N, 2k + 2) float32. Columns: k eigenvector entries, each vector with a mean square of 1
            over its component; the k eigenvalues of the component, ascending in (0, 2];
            log(1 + degree); the probability that a random walk returns after two steps. A
            component with fewer than k eigenvectors has zeros in their place.
        method: Methods, joined by ``+``: ``eigh`` for small components, ``eigsh`` for large ones,
            ``diffusion`` after the time limit, ``none`` without edges.
        seconds: Duration, in seconds.
    """

    pe: Tensor
    method: str
    seconds: float


def position_dim(k: int = NUM_EIGENVECTORS) -> int:
    """Return the number of columns of the encoding with k eigenvectors."""
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

    Components of more than 256 nodes share a time limit. Those that exceed it are approximated by
    diffusing random features; the approximation mixes eigenvectors with close eigenvalues. The
    method depends on the speed of the machine, so store the result and its ``method``.

    Args:
        rowptr: CSR row pointers, (N + 1,).
        col: Neighbors, (E,): both directions, no self-loops, no repeats.
        k: Number of eigenvectors and eigenvalues.
        time_limit_s: Time limit of all iterative decompositions together, in seconds.
        seed: Seed of the start vector and of the random features.
    """
    start = time.perf_counter()
    n = len(rowptr) - 1
    degree = np.diff(rowptr.numpy())
    inverse = np.where(degree > 0, 1 / np.maximum(degree, 1), 0.0)
    root = np.sqrt(inverse)
    small = max(n, len(col)) < 2**31
    places = col.numpy().astype(np.int32 if small else np.int64)  # half the memory
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
    place = np.empty(n, dtype=np.int64)  # position of a node within its component
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
            del normal, places  # the last component is the largest: hold it once in memory
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
    """Write the encodings of all small components to ``pe``; components of one size are batched."""
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
    """Return eigenvalues (k,) and eigenvectors (M, k) of a component; None after the time limit."""

    def times(v: np.ndarray) -> np.ndarray:
        if time.perf_counter() > deadline:
            raise _OutOfTime
        v = v.ravel()
        # The eigenvector of eigenvalue 0 is known. It is moved to the far end of the spectrum, so
        # that Lanczos need not find it, nor separate it from nearly disconnected clusters.
        out: np.ndarray = normal @ v - 2 * top * (top @ v)
        return out

    m = len(top)
    operator = LinearOperator((m, m), matvec=times, dtype=np.float64)
    v0 = np.random.default_rng(seed).standard_normal(m)
    options = {"ncv": RESTART * k, "tol": TOLERANCE, "maxiter": 10**6}  # the time limit ends it
    try:
        began = time.perf_counter()
        times(v0)
        least = RESTART * k * (time.perf_counter() - began)  # products until the first restart
        if time.perf_counter() + least > deadline:
            return None  # saves 20 s and 4 GB of vectors at 10 million nodes
        values, vectors = eigsh(operator, k=k, which="LA", v0=v0, **options)
    except (_OutOfTime, ArpackError):
        return None
    falling = np.argsort(-values, kind="stable")
    return 1 - values[falling], vectors[:, falling]


def _diffuse(
    normal: sparse.csr_array, top: np.ndarray, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Approximate the smoothest eigenvectors by diffusing random vectors.

    Each round is a Chebyshev filter (Zhou, Saad, Tiago, Chelikowsky 2006) followed by
    Rayleigh-Ritz. The filter damps components that vary faster than the current basis; t steps
    reach as far as t^2 steps of a random walk.

    Args:
        normal: D^-1/2 A D^-1/2, (M, M) float32, which takes half the time of double.
        top: Eigenvector of eigenvalue 0 of the Laplacian, (M,).
        k: Number of eigenvectors.
        seed: Seed of the random vectors.

    Returns:
        Eigenvalues (k,), ascending, and vectors (M, k).
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
        values, rotation = np.linalg.eigh(basis.T @ times(basis))
        basis, values = basis @ rotation[:, ::-1], values[::-1]
        low = max(float(values[-1]), 0.0)
    return 1 - values[:k], basis[:, :k]


def _shifted(times: Callable[[np.ndarray], np.ndarray], v: np.ndarray, low: float) -> np.ndarray:
    """Apply the operator, with the unwanted part of its spectrum, [-1, low], mapped to [-1, 1]."""
    out = times(v)
    for rows in _blocks(len(v)):
        out[rows] = (2 * out[rows] + (1 - low) * v[rows]) / (1 + low)
    return out


def _orthonormal(v: np.ndarray) -> np.ndarray:
    """Return orthonormal columns of the same span, (M, S): QR of row blocks, then of their R's.

    A single decomposition of 10 million rows in double precision would take 6 GB.
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
    """Yield slices of at most ROWS rows, which keeps temporary arrays small."""
    for start in range(0, num_rows, ROWS):
        yield slice(start, min(start + ROWS, num_rows))


class _OutOfTime(Exception):
    """Raised between two products to leave eigsh after the time limit."""
