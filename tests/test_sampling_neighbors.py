"""Neighbor sampling: exact, uniform, without replacement, independent of everything but its key."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from graphfm.sampling import neighbors
from graphfm.sampling.neighbors import choose, mix, mix_int, row_keys, sample_neighbors
from tests.graphs import synthetic

ZERO = torch.zeros(1, dtype=torch.int64)


@pytest.fixture(autouse=True)
def torch_samples(monkeypatch):
    """Test torch only; test_sampling_numba.py compares numba with it."""
    monkeypatch.setenv("GRAPHFM_FAST", "0")


def star_rows(degree: int, num_rows: int) -> tuple[Tensor, Tensor]:
    """Return a CSR in which every row has neighbors 0..degree-1."""
    rowptr = torch.arange(num_rows + 1) * degree
    return rowptr, torch.arange(degree).repeat(num_rows)


def uneven_rows() -> tuple[Tensor, Tensor]:
    """Return a graph with 500 nodes of degree 0 to 96 and ten hubs of degree 40,000."""
    degree = (torch.arange(500) * 7919) % 97
    degree[::50] = 40_000
    rowptr = torch.cat([ZERO, degree.cumsum(0)])
    return rowptr, (torch.arange(int(rowptr[-1])) * 2654435761 % 500).int()


def keys_of(nodes: Tensor, seed: int = 0, epoch: int = 0) -> Tensor:
    return row_keys(nodes, ZERO.expand(len(nodes)), seed=seed, epoch=epoch)


def digest() -> str:
    """Return a digest of the neighbors of all uneven rows, for some keys and k."""
    rowptr, col = uneven_rows()
    nodes = torch.arange(500)
    found = hashlib.blake2b(digest_size=8)
    for k in (1, 10, 16):
        for graph_key in (0, -(2**63) + 12345):
            key = row_keys(nodes, torch.full((500,), graph_key), seed=3, epoch=k)
            chosen, mask = sample_neighbors(rowptr, col, nodes, key, k)
            found.update(chosen.numpy().tobytes() + mask.numpy().tobytes())
    return found.hexdigest()


# Of commit f0ed73e, whose sampler was the notes' pseudocode line by line.
DIGEST = "06628f681ea9b4e6"


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("degree", "k"), [(5, 2), (7, 3), (8, 4), (10, 5), (12, 2), (6, 5)])
def test_every_subset_is_equally_likely(degree, k, seed):
    """Chi-squared over all C(d, k) subsets, 60,000 rows, fixed seeds: 18 tests at 1e-4 each.

    Seen to fail when a repeated draw is kept instead of replaced by the top (Floyd's step), and
    with draws from 0..top-1, which is what torch-sparse 0.6.18 does.
    """
    num_rows = 60_000
    rowptr, col = star_rows(degree, num_rows)
    nodes = torch.arange(num_rows)
    chosen, mask = sample_neighbors(rowptr, col, nodes, keys_of(nodes, seed), k)
    assert mask.all()
    by_code = np.bincount((1 << chosen).sum(dim=1).numpy(), minlength=1 << degree)
    counts = by_code[[sum(1 << i for i in c) for c in combinations(range(degree), k)]]
    assert counts.sum() == num_rows, "some row holds a neighbor twice"
    assert stats.chisquare(counts).pvalue > 1e-4


def test_every_neighbor_of_a_large_row_is_equally_likely():
    """Marginals at d = 1000, k = 16. Seen to fail with 10 random bits in place of 48."""
    rowptr, col = star_rows(1000, 1)
    nodes = torch.zeros(100_000, dtype=torch.int64)
    keys = keys_of(torch.arange(100_000))
    chosen, _ = sample_neighbors(rowptr, col, nodes, keys, 16)
    ordered = chosen.sort(dim=1).values
    assert (ordered[:, 1:] > ordered[:, :-1]).all()
    counts = np.bincount(chosen.flatten().numpy(), minlength=1000)
    # Without replacement, a row takes a neighbor or not: the variance is (1 - k / d) of Poisson's.
    statistic = ((counts - 1600) ** 2 / 1600).sum() / (1 - 0.016)
    assert 1e-4 < stats.chi2(999).sf(statistic) < 1 - 1e-4


def test_rows_and_epochs_are_independent():
    """Overlap of two samples of 5 out of 20 is hypergeometric, between rows and between epochs.

    Seen to fail with a key without the node, and with one without the epoch.
    """
    rowptr, col = star_rows(20, 20_001)
    nodes = torch.arange(20_001)
    first, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes), 5)
    later, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes, epoch=1), 5)
    other, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes, seed=1), 5)
    for a, b in [(first[:-1], first[1:]), (first, later), (first, other)]:
        assert overlap_pvalue(a, b, degree=20, k=5) > 1e-4


def overlap_pvalue(a: Tensor, b: Tensor, *, degree: int, k: int) -> float:
    """Return the p-value of the overlap of rows, if samples are independent (hypergeometric)."""
    expected = stats.hypergeom(degree, k, k).pmf(np.arange(k + 1)) * len(a)
    overlap = (a[:, :, None] == b[:, None, :]).any(dim=2).sum(dim=1)
    counts = np.bincount(overlap.numpy(), minlength=k + 1)
    kept = expected > 5
    if not kept.all():
        counts = np.append(counts[kept], counts[~kept].sum())
        expected = np.append(expected[kept], expected[~kept].sum())
    return float(stats.chisquare(counts, expected).pvalue)


def floyd(degree: int, key: int, k: int) -> list[int]:
    """Run Floyd's algorithm in Python integers."""
    chosen: list[int] = []
    for j in range(k):
        top = max(degree - k, 0) + j
        z = (key + (j + 1) * 0xD1342543DE82EF95) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        z = z ^ (z >> 31)
        draw = ((z >> 16) * (top + 1)) >> 48
        chosen.append(top if draw in chosen or degree <= k else draw)
    return chosen


DEGREES = st.one_of(st.integers(0, 40), st.integers(0, 2**31 - 1))
KEYS = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(DEGREES, KEYS), min_size=1, max_size=9), st.integers(1, 20))
def test_both_ways_are_floyds_algorithm(rows, k):
    """Equal to Python integers for any degree and key, below 2^31 edges and above.

    Seen to fail with an arithmetic shift in the slab's mix.
    """
    degree, key = (torch.tensor(column) for column in zip(*rows, strict=True))
    wanted = torch.tensor([floyd(d, x, k) for d, x in rows]).T
    assert torch.equal(choose(degree, key, k, 2**31 - 1).long(), wanted)
    assert torch.equal(choose(degree, key, k, 2**31), wanted)


@settings(max_examples=30, deadline=None)
@given(st.integers(2**31, 2**38 - 1), KEYS)
def test_a_row_of_more_than_int32_neighbors(degree, key):
    """Seen to fail with the slab, whose integers are int32."""
    chosen = choose(torch.tensor([degree]), torch.tensor([key]), 9, degree)
    assert chosen[:, 0].tolist() == floyd(degree, key, 9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 8))
def test_neighbors_are_real_and_differ(seed, k):
    graph = synthetic(num_nodes=50, mean_degree=4.0, seed=seed % 7)
    rowptr, col = graph.neighbors
    nodes = torch.arange(50)
    chosen, mask = sample_neighbors(rowptr, col, nodes, keys_of(nodes, seed), k)
    assert chosen.shape == mask.shape == (50, k)
    for v in range(50):
        own = col[rowptr[v] : rowptr[v + 1]].tolist()
        got = chosen[v][mask[v]].tolist()
        assert len(got) == min(k, len(own)) == len(set(got))
        assert set(got) <= set(own)
        assert (chosen[v][~mask[v]] == v).all()


def test_no_seeds_no_slots_no_edges_and_isolated_nodes():
    """The last node is isolated, and its row points beyond the last edge.

    Seen to fail without the clamp.
    """
    rowptr, col = torch.tensor([0, 2, 3, 3]), torch.tensor([1, 2, 0])
    nodes = torch.tensor([2, 0, 2])
    chosen, mask = sample_neighbors(rowptr, col, nodes, keys_of(nodes), 2)
    assert mask.tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert chosen.tolist() == [[2, 2], [1, 2], [2, 2]]
    none = nodes[:0]
    for rows, k in [(none, 2), (nodes, 0), (none, 0)]:
        chosen, mask = sample_neighbors(rowptr, col, rows, keys_of(rows), k)
        assert chosen.shape == mask.shape == (len(rows), k)
        assert chosen.dtype == torch.int64 and mask.dtype == torch.bool
    chosen, mask = sample_neighbors(rowptr * 0, col[:0], nodes, keys_of(nodes), 2)
    assert chosen.tolist() == [[2, 2], [0, 0], [2, 2]] and not mask.any()


def test_the_sampled_integers_do_not_change():
    """Results of a seed do not change with a release. Seen to fail with another multiplier."""
    assert digest() == DIGEST


def test_a_nodes_neighbors_do_not_depend_on_its_batch(monkeypatch):
    """Neither the order of rows nor the number of rows at once changes the result."""
    graph = synthetic(num_nodes=300, mean_degree=12.0)
    rowptr, col = graph.neighbors
    nodes = torch.arange(300)
    whole, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes), 5)
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    for part in shuffled.split(37):
        alone, _ = sample_neighbors(rowptr, col, part, keys_of(part), 5)
        assert torch.equal(alone, whole[part])
    monkeypatch.setattr(neighbors, "_ROWS", 64)
    blocks, mask = sample_neighbors(rowptr, col, shuffled, keys_of(shuffled), 5)
    assert torch.equal(blocks, whole[shuffled]) and torch.equal(mask.sum(1), degrees(rowptr, 5))
    monkeypatch.setattr(neighbors, "_WIDE", 0)  # the way of 2^31 edges
    assert torch.equal(sample_neighbors(rowptr, col, shuffled, keys_of(shuffled), 5)[0], blocks)
    other, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes, epoch=1), 5)
    assert not torch.equal(other, whole)


def degrees(rowptr: Tensor, most: int) -> Tensor:
    shuffled = torch.randperm(len(rowptr) - 1, generator=torch.Generator().manual_seed(0))
    return rowptr.diff().clamp(max=most)[shuffled]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7])
def test_ranks_and_workers_sample_the_same_as_one_process(num_ranks):
    """Rank r takes rows r, r + W, ...; the ranks run at the same time, in threads."""
    rowptr, col = uneven_rows()
    nodes = torch.arange(500)
    whole, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes), 10)

    def of_rank(rank: int) -> Tensor:
        own = nodes[rank::num_ranks]
        return sample_neighbors(rowptr, col, own, keys_of(own), 10)[0]

    with ThreadPoolExecutor(num_ranks) as pool:
        for rank, found in enumerate(pool.map(of_rank, range(num_ranks))):
            assert torch.equal(found, whole[rank::num_ranks])


def test_another_process_with_more_threads_finds_the_same():
    code = "import torch; torch.set_num_threads(2); import tests.test_sampling_neighbors as t; "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(t.digest())"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONHASHSEED": "9"},
        check=True,
    )
    assert done.stdout.strip() == DIGEST


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, -(2**63), 123456789])
def test_mix_is_splitmix64(value):
    """The reference is the finalizer in Python integers."""
    z = value % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    assert mix(torch.tensor(value)).item() % 2**64 == z ^ (z >> 31)
    assert mix_int(value) == mix(torch.tensor(value)).item()


def compiled_is_eager(backend: str | Callable, k: int) -> None:
    rowptr, col = uneven_rows()
    torch.compiler.reset()
    compiled = torch.compile(sample_neighbors, fullgraph=True, backend=backend, dynamic=True)
    for nodes in (torch.arange(500), torch.arange(100, 350)):
        wanted = sample_neighbors(rowptr, col, nodes, keys_of(nodes), k)
        found = compiled(rowptr, col, nodes, keys_of(nodes), k)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_compiles_as_one_graph_without_a_loop_of_its_own():
    """No graph break, one graph for all numbers of rows, and nothing is read on the host.

    Seen to fail with ``if mask.all():`` and with ``nodes + int(mask.sum())``.
    """
    graphs = []

    def backend(module: torch.fx.GraphModule, _: list[Tensor]) -> Callable:
        graphs.append(module)
        return module.forward

    compiled_is_eager(backend, 3)
    assert len(graphs) == 1
    assert "item" not in {str(node.target) for node in graphs[0].graph.nodes}


@pytest.mark.slow
def test_inductor_gives_the_same_integers():
    """A C++ compiler and 10 to 120 seconds."""
    compiled_is_eager("inductor", 10)


@pytest.mark.gpu
def test_cuda_gives_the_same_integers():
    """Bit for bit; on the device, the hash of all 16 columns wraps as on the host."""
    rowptr, col = uneven_rows()
    nodes = torch.arange(500).repeat(40)
    for k in (1, 10, 16):
        wanted = sample_neighbors(rowptr, col, nodes, keys_of(nodes), k)
        on_device = [t.cuda() for t in (rowptr, col, nodes)]
        keys = row_keys(on_device[2], ZERO.cuda().expand(len(nodes)), seed=0, epoch=0)
        torch.cuda.set_sync_debug_mode("error")  # nothing below may wait for the device
        try:
            found = sample_neighbors(*on_device, keys, k)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(torch.equal(a.cpu(), b) for a, b in zip(found, wanted, strict=True))
