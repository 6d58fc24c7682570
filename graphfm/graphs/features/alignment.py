"""Sign and basis of eigenvectors, which a solver leaves open: fixed by content, or as in a fit.

Shapes:
    N  nodes   E  edges   P  columns of the encoding, 2 k + 2   k  eigenvectors   n  common nodes
    M  nodes of one component   m  common nodes of one component
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

MIN_SKEWNESS = 1e-3  # share of the third absolute moment from which on its sign is certain
SAME = 1e-4  # difference of entries up to which a component has the positions of the fit
MIN_COMMON = 0.5  # share of a component's nodes that must be known from the fit
MIN_EXPLAINED = 0.5  # share of the fit's squares that the eigenvectors must explain
RIDGE = 1e-3  # times the number of common nodes


def signed_positions(rowptr: Tensor, col: Tensor, pe: Tensor) -> Tensor:
    """Return the encoding with a sign of each eigenvector by its content.

    The third moment over a component becomes positive. A symmetric eigenvector keeps its sign.

    Args:
        rowptr: CSR row pointers, (N + 1,).
        col: Neighbors, (E,).
        pe: Positional encoding, (N, P).
    """
    owner, pe = _components(rowptr, col), pe.clone()
    vectors = pe.numpy()[:, : (pe.shape[1] - 2) // 2]
    for column in vectors.T:  # k of them; all at once would take k times the memory
        cubes = column.astype(np.float64) ** 3
        third, size = np.bincount(owner, cubes), np.bincount(owner, np.abs(cubes))
        column *= np.where(third < -MIN_SKEWNESS * size, -1, 1)[owner]
    return pe


def aligned_positions(
    rowptr: Tensor, col: Tensor, pe: Tensor, nodes: Tensor, known: Tensor, *, share: float
) -> Tensor:
    """Return the encoding in the basis of an earlier encoding of some of the nodes.

    In each component, least squares express the earlier eigenvectors by those of the component.
    The result depends on their span only: neither on signs, nor on the order of close eigenvalues,
    nor on the basis of repeated ones. Components with the earlier positions stay as they are, and
    so do those with few common nodes or with another structure.

    Args:
        rowptr: CSR row pointers, (N + 1,).
        col: Neighbors, (E,).
        pe: Result of :func:`signed_positions`, (N, P).
        nodes: Nodes that both graphs have, (n,).
        known: Their eigenvector entries in the earlier graph, (n, k).
        share: Share of the earlier graph's nodes for which ``known`` was kept.
    """
    owner, pe = _components(rowptr, col), pe.clone()
    values, before, k = pe.numpy(), known.double().numpy(), known.shape[1]
    own = owner[nodes.numpy()]
    far = np.abs(values[nodes.numpy(), :k] - before).max(axis=1, initial=0) > SAME
    changed = np.unique(own[far])
    members, common = _by_component(owner, changed), _by_component(own, changed)
    for all_rows, rows in zip(members, common, strict=True):
        if len(rows) < max(2, MIN_COMMON * share * len(all_rows)):
            continue
        here, then = values[nodes.numpy()[rows], :k].astype(np.float64), before[rows]
        gram = here.T @ here + RIDGE * len(rows) * np.eye(k)
        basis = np.linalg.solve(gram, here.T @ then)
        left = ((then - here @ basis) ** 2).sum()
        if left > (1 - MIN_EXPLAINED) * (then**2).sum():
            continue
        squares = basis**2
        means = values[all_rows[0], k : 2 * k] @ squares / np.maximum(squares.sum(axis=0), 1e-12)
        values[all_rows, :k] = values[all_rows, :k] @ basis
        values[all_rows, k : 2 * k] = means
    return pe


def _components(rowptr: Tensor, col: Tensor) -> np.ndarray:
    """Return the connected component of each node, (N,)."""
    n = len(rowptr) - 1
    ones = np.ones(len(col), dtype=np.int8)
    matrix = sparse.csr_array((ones, col.numpy(), rowptr.numpy()), shape=(n, n))
    owner: np.ndarray = connected_components(matrix, directed=False)[1]
    return owner


def _by_component(owner: np.ndarray, wanted: np.ndarray) -> list[np.ndarray]:
    """Return the places of each wanted component, in the order of ``wanted``."""
    order = np.argsort(owner, kind="stable")
    ends = np.searchsorted(owner[order], wanted, side="right")
    starts = np.searchsorted(owner[order], wanted, side="left")
    return [order[a:b] for a, b in zip(starts, ends, strict=True)]
