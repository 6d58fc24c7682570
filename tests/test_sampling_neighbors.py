"""Neighbor sampling: exact, uniform, without replacement, independent of everything but its key."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from graphfm.sampling.neighbors import mix, row_keys, sample_neighbors
from tests.graphs import synthetic

ZERO = torch.zeros(1, dtype=torch.int64)


def star_rows(degree: int, num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A CSR of rows that all have neighbors 0..degree-1."""
    rowptr = torch.arange(num_rows + 1) * degree
    return rowptr, torch.arange(degree).repeat(num_rows)


def keys_of(nodes: torch.Tensor, seed: int = 0, epoch: int = 0) -> torch.Tensor:
    return row_keys(nodes, ZERO.expand(len(nodes)), seed=seed, epoch=epoch)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("degree", "k"), [(5, 2), (7, 3), (8, 4), (12, 2), (6, 5)])
def test_every_subset_is_equally_likely(degree, k, seed):
    """Chi-squared over all C(d, k) subsets, 60,000 rows, fixed seeds: 15 tests at 1e-4 each.

    Fails when a repeated draw is kept instead of replaced by the top (Floyd's step).
    """
    num_rows = 60_000
    rowptr, col = star_rows(degree, num_rows)
    nodes = torch.arange(num_rows)
    chosen, mask = sample_neighbors(rowptr, col, nodes, keys_of(nodes, seed), k)
    assert mask.all()
    codes = (1 << chosen).sum(dim=1).numpy()
    subsets = [sum(1 << i for i in c) for c in combinations(range(degree), k)]
    counts = np.array([(codes == s).sum() for s in subsets])
    assert counts.sum() == num_rows, "some row holds a neighbor twice"
    assert stats.chisquare(counts).pvalue > 1e-4


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


def test_a_nodes_neighbors_do_not_depend_on_its_batch():
    graph = synthetic(num_nodes=300, mean_degree=12.0)
    rowptr, col = graph.neighbors
    nodes = torch.arange(300)
    whole, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes), 5)
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    for part in shuffled.split(37):
        alone, _ = sample_neighbors(rowptr, col, part, keys_of(part), 5)
        assert torch.equal(alone, whole[part])
    other, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes, epoch=1), 5)
    assert not torch.equal(other, whole)


def test_rows_and_epochs_are_independent():
    """Overlap of two samples of 5 out of 20 is hypergeometric, between rows and between epochs."""
    rowptr, col = star_rows(20, 20_001)
    nodes = torch.arange(20_001)
    first, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes), 5)
    later, _ = sample_neighbors(rowptr, col, nodes, keys_of(nodes, epoch=1), 5)
    expected = stats.hypergeom(20, 5, 5).pmf(np.arange(6)) * 20_000
    for a, b in [(first[:-1], first[1:]), (first[:-1], later[:-1])]:
        overlap = (a[:, :, None] == b[:, None, :]).any(dim=2).sum(dim=1)
        counts = np.bincount(overlap.numpy(), minlength=6)[:6]
        kept = expected > 5
        observed = np.append(counts[kept], counts[~kept].sum())
        wanted = np.append(expected[kept], expected[~kept].sum())
        assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-4


def test_mix_is_splitmix64():
    """Reference: splitmix64's finaliser in Python's own integers."""

    def reference(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    values = [0, 1, -1, 2**63 - 1, -(2**63), 123456789]
    wanted = [reference(v % 2**64) for v in values]
    assert [v % 2**64 for v in mix(torch.tensor(values)).tolist()] == wanted
