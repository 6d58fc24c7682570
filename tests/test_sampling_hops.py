"""Sampling over several hops: real edges, every node once, equal alone and among others."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from graphfm.sampling.neighbors import Hops, node_numbers, row_keys, sample_hops, sample_neighbors
from tests.graphs import synthetic
from tests.test_sampling_neighbors import overlap_pvalue, star_rows


@pytest.fixture(params=["0", "1"], ids=["torch", "numba"])
def either(request, monkeypatch):
    if request.param == "1":
        pytest.importorskip("numba")
    monkeypatch.setenv("GRAPHFM_FAST", request.param)


def hops_of(rowptr, col, nodes, fanouts, *, seed=0, epoch=0, graph_key=0, **more) -> Hops:
    key = torch.full_like(nodes, graph_key)
    return sample_hops(rowptr, col, nodes, nodes, key, fanouts, seed=seed, epoch=epoch, **more)


def some_graph(seed: int, num_nodes: int = 60) -> tuple[Tensor, Tensor]:
    rowptr, col = synthetic(num_nodes=num_nodes, mean_degree=5.0, seed=seed).neighbors
    return rowptr, col.int()


def plain_hops(rowptr, col, nodes, fanouts, *, seed, epoch):
    """Return (n_id, edges as pairs of nodes) by the plain definition, node by node."""
    n_id = list(dict.fromkeys(nodes.tolist()))
    edges, begin = [], 0
    for hop, k in enumerate(fanouts):
        end = len(n_id)
        for v in n_id[begin:end]:
            row = torch.tensor([v])
            key = row_keys(row, torch.zeros(1, dtype=torch.int64), seed=seed, epoch=epoch)
            key = key + torch.tensor(((hop << 20) * 0xD1342543DE82EF95 + 2**63) % 2**64 - 2**63)
            found, mask = sample_neighbors(rowptr, col, row, key, k)
            for u in found[mask].tolist():
                edges.append((u, v))
                if u not in n_id:
                    n_id.append(u)
        begin = end
    return n_id, edges


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 5),
    st.lists(st.integers(0, 59), max_size=12),
    st.lists(st.integers(0, 4), max_size=3),
    st.integers(0, 99),
)
@pytest.mark.parametrize("fast", ["0", "1"], ids=["torch", "numba"])
def test_hops_are_the_plain_definition(fast, graph, nodes, fanouts, epoch):
    """Repeated seeds, no seeds, no slots, no hops; the scratch array is restored.

    Seen to fail with numbers in the order of ``torch.unique``, with a frontier of all nodes found
    so far, and with a scratch that keeps the first hop's numbers.
    """
    if fast == "1":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFM_FAST", fast)
        rowptr, col = some_graph(graph)
        seeds = torch.tensor(nodes, dtype=torch.int64)
        numbers = node_numbers(60)
        found = hops_of(rowptr, col, seeds, fanouts, epoch=epoch, numbers=numbers)
        assert torch.equal(numbers, node_numbers(60))
    n_id, edges = plain_hops(rowptr, col, seeds, fanouts, seed=0, epoch=epoch)
    assert found.n_id.tolist() == n_id
    assert [tuple(e) for e in found.n_id[found.edge_index].T.tolist()] == edges
    assert found.n_id[found.query].tolist() == nodes
    assert len(found.ptr) == len(fanouts) + 2 and found.ptr[-1] == len(n_id)
    assert [m.shape[0] for m in found.masks] == torch.tensor(found.ptr[:-1]).diff().tolist()


def test_edges_are_real_and_nodes_are_there_once(either):
    """The graph is so small that hops often find each other's nodes."""
    rowptr, col = some_graph(3, num_nodes=2000)
    seeds = torch.randperm(2000, generator=torch.Generator().manual_seed(0))[:200]
    found = hops_of(rowptr, col, seeds, [4, 3, 2])
    assert torch.equal(found.n_id[:200], seeds) and found.ptr[1] == 200
    assert len(found.n_id.unique()) == len(found.n_id) == found.ptr[-1]
    source, target = found.n_id[found.edge_index]
    pairs = target * 2000 + source
    owner = torch.arange(2000).repeat_interleave(rowptr.diff())
    assert torch.isin(pairs, owner * 2000 + col).all()
    assert len(pairs.unique()) == len(pairs)
    sampled = found.n_id[: found.ptr[-2]]
    fanout = torch.tensor([4, 3, 2]).repeat_interleave(torch.tensor(found.ptr[:-1]).diff())
    taken = torch.bincount(found.edge_index[1], minlength=len(sampled))
    assert torch.equal(taken, torch.minimum(rowptr.diff()[sampled], fanout))
    assert (found.edge_index[1].diff() >= 0).all()


def test_graphs_in_a_bank_are_sampled_as_if_alone(either):
    """One call samples for shuffled seeds of three graphs.

    Seen to fail with the salt of a row's place in place of its seed's.
    """
    graphs = [some_graph(seed, num_nodes=n) for seed, n in ((0, 50), (1, 80), (2, 70))]
    keys = [11, -5, 2**60]
    offset = [0, 50, 130, 200]
    rowptr = torch.cat([graphs[0][0][:1]] + [r[1:] for r, _ in graphs])
    starts = torch.tensor([len(c) for _, c in graphs]).cumsum(0)
    rowptr[51:] += starts[0]
    rowptr[131:] += starts[1] - starts[0]
    col = torch.cat([c + b for (_, c), b in zip(graphs, offset, strict=False)])
    nodes = torch.randperm(200, generator=torch.Generator().manual_seed(0))[:40]
    owner = torch.bucketize(nodes, torch.tensor(offset[1:]), right=True)
    local = nodes - torch.tensor(offset)[owner]
    both = sample_hops(
        rowptr, col, nodes, local, torch.tensor(keys)[owner], [3, 2, 2], seed=4, epoch=9
    )
    edges = {tuple(e) for e in both.n_id[both.edge_index].T.tolist()}
    alone = set()
    for g, (own_rowptr, own_col) in enumerate(graphs):
        seeds = local[owner == g]
        one = hops_of(own_rowptr, own_col, seeds, [3, 2, 2], seed=4, epoch=9, graph_key=keys[g])
        alone |= {tuple(e) for e in (one.n_id[one.edge_index] + offset[g]).T.tolist()}
    assert edges == alone


def two_steps(num: int, degree: int) -> tuple[Tensor, Tensor]:
    """Nodes 0..num-1 point to num..2 num-1 one by one, and those to the same ``degree`` leaves."""
    rowptr = torch.cat([torch.arange(num), num + torch.arange(num + 1) * degree])
    rowptr = torch.cat([rowptr, rowptr[-1:].expand(degree)])
    leaves = 2 * num + torch.arange(degree)
    return rowptr, torch.cat([num + torch.arange(num), leaves.repeat(num)])


def test_hops_are_independent_and_the_second_is_uniform(either):
    """A node sampled in the first hop and in the second: the overlap is hypergeometric.

    Seen to fail without the hop in the key: then the two samples are the same.
    """
    num = 20_000
    rowptr, col = two_steps(num, 12)
    middle = num + torch.arange(num)
    later = hops_of(rowptr, col, torch.arange(num), [1, 4])
    first = hops_of(rowptr, col, middle, [4])
    assert torch.equal(later.n_id[num : 2 * num], middle)
    a, b = first.n_id[first.neighbors[0]], later.n_id[later.neighbors[1]]
    assert overlap_pvalue(a, b, degree=12, k=4) > 1e-4
    counts = torch.bincount(b.flatten() - 2 * num, minlength=12).numpy()
    statistic = ((counts - num / 3) ** 2 / (num / 3)).sum() / (1 - 4 / 12)
    assert 1e-4 < stats.chi2(11).sf(statistic)


def test_the_first_hop_equals_sample_neighbors(either):
    rowptr, col = star_rows(30, 50)
    nodes = torch.arange(49, -1, -1)
    found = hops_of(rowptr, col, nodes, [6], seed=2, epoch=3)
    key = row_keys(nodes, torch.zeros_like(nodes), seed=2, epoch=3)
    wanted, mask = sample_neighbors(rowptr, col, nodes, key, 6)
    assert torch.equal(found.n_id[found.neighbors[0]], wanted)
    assert torch.equal(found.masks[0], mask)


@pytest.mark.gpu
def test_cuda_numbers_nodes_alike():
    """Many threads write the same entries; the first appearance still wins."""
    rowptr, col = some_graph(1, num_nodes=5000)
    nodes = torch.arange(5000).repeat(3)[::2].contiguous()
    wanted = hops_of(rowptr, col, nodes, [5, 4])
    found = hops_of(rowptr.cuda(), col.cuda(), nodes.cuda(), [5, 4])
    assert found.ptr == wanted.ptr and torch.equal(found.n_id.cpu(), wanted.n_id)
    assert torch.equal(found.edge_index.cpu(), wanted.edge_index)
    assert torch.equal(found.query.cpu(), wanted.query)
