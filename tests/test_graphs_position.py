"""Positional encodings: exact per component, blind to node order and to other components."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphfm.graphs.features.position import (
    NUM_EIGENVECTORS,
    Positions,
    encode_positions,
    position_dim,
)
from graphfm.graphs.graph import Graph

K = NUM_EIGENVECTORS
Csr = tuple[Tensor, Tensor]


def neighbors(edges: np.ndarray | list[list[int]], num_nodes: int) -> Csr:
    array = np.asarray(edges, dtype=np.int64).reshape(2, -1)
    return Graph.from_edges(array, num_nodes=num_nodes, directed=False).neighbors


def random_graph(seed: int, num_nodes: int, num_edges: int) -> Csr:
    """Connected: a random tree and more edges."""
    rng = np.random.default_rng(seed)
    child = np.arange(1, num_nodes)
    tree = np.stack([child, (rng.random(num_nodes - 1) * child).astype(np.int64)])
    more = rng.integers(0, num_nodes, size=(2, num_edges))
    return neighbors(np.concatenate([tree, more], axis=1), num_nodes)


def grid(rows: int, columns: int) -> Csr:
    i = np.arange(rows * columns).reshape(rows, columns)
    across = np.stack([i[:, :-1].ravel(), i[:, 1:].ravel()])
    down = np.stack([i[:-1].ravel(), i[1:].ravel()])
    return neighbors(np.concatenate([across, down], axis=1), i.size)


def union(*parts: Csr) -> Csr:
    """Disjoint, one after the other."""
    pointers, cols, nodes = [torch.zeros(1, dtype=torch.int64)], [], 0
    for rowptr, col in parts:
        pointers.append(rowptr[1:] + pointers[-1][-1])
        cols.append(col + nodes)
        nodes += len(rowptr) - 1
    return torch.cat(pointers), torch.cat(cols)


def dense(rowptr: Tensor, col: Tensor) -> Tensor:
    n = len(rowptr) - 1
    adjacency = torch.zeros(n, n, dtype=torch.float64)
    adjacency[torch.repeat_interleave(torch.arange(n), rowptr.diff()), col] = 1
    return adjacency


def laplacian(rowptr: Tensor, col: Tensor) -> Tensor:
    adjacency = dense(rowptr, col)
    degree = adjacency.sum(dim=1)
    root = torch.where(degree > 0, degree.clamp(min=1) ** -0.5, 0)
    return torch.diag((degree > 0).double()) - root[:, None] * adjacency * root[None, :]


def vectors(positions: Positions) -> Tensor:
    return positions.pe[:, :K].double()


def values(positions: Positions) -> Tensor:
    return positions.pe[:, K : 2 * K].double()


GRAPHS = {
    "one small": random_graph(0, 40, 30),
    "many small": union(*(random_graph(s, 5 + s, s) for s in range(20)), random_graph(7, 12, 7)),
    "one large": random_graph(1, 400, 900),
    "large and small": union(random_graph(2, 30, 9), random_graph(3, 300, 500), grid(2, 2)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_eigenvalue_equation_holds_in_every_component(name: str) -> None:
    """Seen to fail with vectors of the adjacency without its degrees."""
    rowptr, col = GRAPHS[name]
    found = encode_positions(rowptr, col)
    v = vectors(found)
    residual = laplacian(rowptr, col) @ v - values(found) * v
    assert float(residual.abs().max()) < 1e-5 * float(v.abs().max())
    assert "diffusion" not in found.method


@pytest.mark.parametrize("name", ["one small", "one large"])
def test_they_are_the_smallest_nonzero_eigenvalues(name: str) -> None:
    """Seen to fail with the constant vector left in, and with the largest ones."""
    rowptr, col = GRAPHS[name]
    found = encode_positions(rowptr, col)
    exact = torch.linalg.eigvalsh(laplacian(rowptr, col))[1 : K + 1]
    torch.testing.assert_close(values(found), exact.expand(len(rowptr) - 1, K), atol=1e-5, rtol=0)
    gram = vectors(found).T @ vectors(found) / (len(rowptr) - 1)
    torch.testing.assert_close(gram, torch.eye(K, dtype=torch.float64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("limit", [20.0, 0.0])
def test_a_component_does_not_see_the_others(name: str, limit: float) -> None:
    """Seen to fail with one decomposition for the whole graph."""
    alone = encode_positions(*GRAPHS[name], time_limit_s=limit).pe
    company = union(GRAPHS[name], grid(3, 100), GRAPHS[name], grid(1, 3))
    together = encode_positions(*company, time_limit_s=limit).pe
    n, m = len(alone), len(alone) + 300
    for copy in (together[:n], together[m : m + n]):
        torch.testing.assert_close(copy.abs(), alone.abs(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["one small", "one large"])
def test_permuting_nodes_permutes_rows(name: str) -> None:
    """On simple spectra, up to sign; seen to fail with nodes of a component out of order."""
    rowptr, col = GRAPHS[name]
    n = len(rowptr) - 1
    order = np.random.default_rng(0).permutation(n)  # new node i is old node order[i]
    place = np.argsort(order)
    row = np.repeat(np.arange(n), np.diff(rowptr.numpy()))
    turned = neighbors(np.stack([place[row], place[col.numpy()]]), n)
    before, after = encode_positions(rowptr, col).pe, encode_positions(*turned).pe
    gap = float(before[0, K : 2 * K].diff().min())
    assert gap > 1e-4
    torch.testing.assert_close(after.abs(), before[order].abs(), atol=1e-3, rtol=1e-3)


def test_a_component_has_zeros_beyond_its_own_eigenvectors() -> None:
    path = encode_positions(*neighbors([[0, 1], [1, 2]], 5))
    pe = path.pe
    assert pe.shape == (5, position_dim()) and path.method == "eigh"
    assert not pe[:, 2:K].any() and not pe[:, K + 2 : 2 * K].any()
    torch.testing.assert_close(pe[:3, K : K + 2], torch.tensor([[1.0, 2.0]]).expand(3, 2))
    torch.testing.assert_close(pe[:3, :2].square().mean(dim=0), torch.ones(2))
    assert not pe[3:].any()  # nodes without edges


@pytest.mark.parametrize("num_nodes", [1, 2, 3])
def test_the_smallest_graphs_work(num_nodes: int) -> None:
    none = encode_positions(*neighbors([[], []], num_nodes))
    assert none.method == "none" and not none.pe.any()
    if num_nodes == 2:
        pair = encode_positions(*neighbors([[0], [1]], 2)).pe
        torch.testing.assert_close(pair[:, 0].abs(), torch.ones(2))
        torch.testing.assert_close(pair[:, K], torch.full((2,), 2.0))
        torch.testing.assert_close(pair[:, 2 * K], torch.full((2,), float(np.log(2))))
        torch.testing.assert_close(pair[:, 2 * K + 1], torch.ones(2))  # there and back


@pytest.mark.parametrize("name", GRAPHS)
def test_return_probability_and_degree_are_exact(name: str) -> None:
    """Seen to fail with 1 / d of the node itself in place of its neighbors'."""
    rowptr, col = GRAPHS[name]
    walk = dense(rowptr, col)
    walk = walk / walk.sum(dim=1, keepdim=True).clamp(min=1)
    pe = encode_positions(rowptr, col).pe.double()
    torch.testing.assert_close(pe[:, 2 * K + 1], (walk @ walk).diag(), atol=1e-6, rtol=0)
    torch.testing.assert_close(pe[:, 2 * K], rowptr.diff().double().log1p(), atol=1e-6, rtol=1e-6)


def test_the_clock_stops_eigsh() -> None:
    """22,500 nodes take seconds; seen to fail with the time looked at afterwards only."""
    csr = grid(150, 150)
    start = time.perf_counter()
    found = encode_positions(*csr, time_limit_s=0.2)
    assert found.method == "diffusion"
    assert time.perf_counter() - start < 0.2 + 5  # diffusion itself takes 0.2 s on a free core
    v, w = vectors(found), values(found)
    torch.testing.assert_close(v.T @ v / len(v), torch.eye(K).double(), atol=1e-3, rtol=0)
    assert bool((w >= 0).all()) and bool((w[0].diff() >= -1e-6).all())
    # Smooth: the Rayleigh quotients are far below the mean eigenvalue, which is 1.
    assert float(w.max()) < 0.02


def test_diffusion_finds_eigenvectors_that_stand_apart() -> None:
    """Eight loosely joined blocks; seen to fail with one round, and with unfiltered noise."""
    rng = np.random.default_rng(0)
    block = rng.integers(0, 8, 6000)
    target = np.where(rng.random(6000) < 0.05, rng.integers(0, 8, 6000), block)
    edges = np.stack([block, target]) * 100 + rng.integers(0, 100, (2, 6000))
    rowptr, col = neighbors(edges, 800)
    exact, fallback = (encode_positions(rowptr, col, time_limit_s=t) for t in (20, 0))
    assert exact.method != fallback.method == "diffusion"
    overlap = vectors(exact)[:, :7].T @ vectors(fallback)[:, :7] / 800
    assert float(overlap.square().sum()) / 7 > 0.99
    torch.testing.assert_close(values(exact)[:, :7], values(fallback)[:, :7], atol=1e-3, rtol=0)


def test_only_what_is_slow_falls_back() -> None:
    small, large = random_graph(4, 50, 20), random_graph(5, 400, 100)
    mixed = encode_positions(*union(small, large), time_limit_s=0)
    assert mixed.method == "diffusion+eigh"
    torch.testing.assert_close(mixed.pe[:50], encode_positions(*small).pe)


@pytest.mark.parametrize("limit", [20.0, 0.0])
def test_the_same_seed_is_the_same_encoding(limit: float) -> None:
    csr = GRAPHS["large and small"]
    one, two = (encode_positions(*csr, time_limit_s=limit, seed=1) for _ in range(2))
    assert torch.equal(one.pe, two.pe) and one.method == two.method


@settings(deadline=None, max_examples=150)
@given(data=st.data(), num_nodes=st.integers(1, 30), k=st.integers(1, 20))
def test_never_a_nan(data: st.DataObject, num_nodes: int, k: int) -> None:
    """Seen to fail with 1 / sqrt(0) for isolated nodes."""
    node = st.integers(0, num_nodes - 1)
    edges = data.draw(st.lists(st.tuples(node, node), max_size=60))
    array = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    found = encode_positions(*neighbors(array, num_nodes), k=k)
    assert found.pe.shape == (num_nodes, position_dim(k)) and found.pe.dtype == torch.float32
    assert bool(torch.isfinite(found.pe).all())
    assert bool((found.pe[:, k : 2 * k] >= 0).all()) and bool((found.pe[:, k : 2 * k] <= 2).all())


@pytest.mark.parametrize("shape", ["star", "complete", "ring", "two halves"])
@pytest.mark.parametrize("limit", [20.0, 0.0])
def test_repeated_eigenvalues_and_hubs_stay_finite(shape: str, limit: float) -> None:
    n = 300
    i, j = np.triu_indices(n, 1)
    edges = {
        "star": np.stack([np.zeros(n - 1), np.arange(1, n)]),
        "complete": np.stack([i, j]),
        "ring": np.stack([np.arange(n), (np.arange(n) + 1) % n]),
        "two halves": np.stack([i, j])[:, (i % 2 != j % 2)],
    }[shape]
    pe = encode_positions(*neighbors(edges, n), time_limit_s=limit).pe
    assert bool(torch.isfinite(pe).all())
    torch.testing.assert_close(pe[:, :K].square().mean(dim=0), torch.ones(K), atol=1e-3, rtol=0)
