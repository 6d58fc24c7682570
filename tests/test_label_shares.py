"""Shares of known labels around a node: its own label is never counted."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.experts.label_shares import FEW, PRIOR_NODES, REACHES, WALKS, label_shares
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from tests.graphs import synthetic

C = 3
ISOLATED = (0, 1)
WITHOUT_WAY_BACK = [i for i, name in enumerate(REACHES) if name != "two-hops"]


@pytest.fixture(scope="module")
def graph() -> PreparedGraph:
    """Sixty nodes, the first two of them without a neighbor."""
    whole = synthetic("around", num_nodes=60, mean_degree=4.0)
    row = torch.arange(60).repeat_interleave(whole.rowptr.diff())
    keep = ~torch.isin(row, torch.tensor(ISOLATED)) & ~torch.isin(whole.col, torch.tensor(ISOLATED))
    rowptr = torch.cat([torch.zeros(1, dtype=torch.int64), _count(row[keep], 60).cumsum(0)])
    return prepare(whole.replace(rowptr=rowptr, col=whole.col[keep]))


def _count(row: Tensor, num_nodes: int) -> Tensor:
    return torch.bincount(row, minlength=num_nodes)


def labels(graph: PreparedGraph, num: int, seed: int = 0) -> Tensor:
    """Labels of the two nodes without a neighbor and of some others, -1 elsewhere."""
    rng = torch.Generator().manual_seed(seed)
    some = 2 + torch.randperm(graph.num_nodes - 2, generator=rng)[: num - 2]
    known = torch.full((graph.num_nodes,), -1)
    nodes = torch.cat([torch.tensor(ISOLATED), some])
    known[nodes] = torch.arange(len(nodes)) % C  # every class is there
    return known


def shares(graph: PreparedGraph, known: Tensor, seed: int = 0) -> Tensor:
    return label_shares(graph.rowptr, graph.col, known, C, seed=seed).shares


def dense(graph: PreparedGraph, known: Tensor) -> Tensor:
    """The same by matrices: powers of the random walk, and the inverse of personalised PageRank.

    Of a labelled node the row is computed with its own label taken away, one node at a time.
    """
    n = graph.num_nodes
    a = torch.zeros(n, n, dtype=torch.float64)
    row = torch.arange(n).repeat_interleave(graph.rowptr.diff())
    a[row, graph.col] = 1.0
    degree = a.sum(dim=1).clamp(min=1)
    walk = a / degree[:, None]
    twice = walk @ walk
    back = twice.diagonal().clamp(min=1e-4)
    ways = [(walk, degree), (twice, degree / back)]
    for on, _ in WALKS:
        lasting = (1 - on) * torch.linalg.inv(torch.eye(n, dtype=a.dtype) - on * walk)
        ways.append((lasting - (1 - on) * torch.eye(n, dtype=a.dtype), degree / (1 - on)))
    start = F.one_hot(known.clamp(min=0), C).double() * (known >= 0)[:, None]
    prior = start.sum(dim=0) / start.sum()
    found = []
    for way, paths in ways:
        counts = paths[:, None] * ((way - way.diagonal().diag()) @ start)  # none of its own
        found.append((counts + PRIOR_NODES * prior) / (counts.sum(1, keepdim=True) + PRIOR_NODES))
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("num", [4, 9])
def test_equal_to_matrix_powers_and_to_exact_pagerank(graph: PreparedGraph, num: int) -> None:
    """With ten labels or fewer each is a fold of its own, so that folds are exact too.

    The long walk ends after 25 steps: 7% of it is left out. Seen to fail without `- back * start`,
    without the folds, and with 5 steps in place of 8.
    """
    known = labels(graph, num)
    found, exact = shares(graph, known).double(), dense(graph, known)
    place = {name: i for i, name in enumerate(REACHES)}
    for name, off in (("one-hop", 1e-6), ("two-hops", 1e-5), ("near", 5e-4), ("far", 0.02)):
        difference = (found - exact)[:, place[name]].abs().max()
        assert difference < off, name


@pytest.mark.parametrize("num", [3, 9, 40])
def test_a_node_is_not_told_its_own_label(graph: PreparedGraph, num: int) -> None:
    """Its label and that of a node without neighbors change places: its row keeps every bit.

    (The frequencies of all known labels are a part of every row; the exchange keeps them. At two
    hops the way back is subtracted, to the last bit but one.) The shares of other nodes change.

    Seen to fail without `- back * start` (two hops), and
    without the folds (near and far).
    """
    known = labels(graph, num)
    for node in (known >= 0).nonzero().flatten()[2:].tolist():
        other = next(v for v in ISOLATED if known[v] != known[node])
        turned = known.clone()
        turned[node], turned[other] = known[other], known[node]
        before, after = shares(graph, known), shares(graph, turned)
        torch.testing.assert_close(before[node], after[node], atol=1e-6, rtol=0)
        assert torch.equal(before[node, WITHOUT_WAY_BACK], after[node, WITHOUT_WAY_BACK])
        around = graph.col[graph.rowptr[node] : graph.rowptr[node + 1]]
        if len(around):
            assert ((before - after)[around, 0].abs() > 1e-3).any()


def test_a_label_enters_its_own_row_through_the_frequencies_only(graph: PreparedGraph) -> None:
    """One label changes, nothing else: its row moves along the change of the prior, by less."""
    known = labels(graph, 40)
    node = int((known >= 0).nonzero().flatten()[5])
    turned = known.clone()
    turned[node] = (known[node] + 1) % C
    first, second = (label_shares(graph.rowptr, graph.col, k, C, seed=0) for k in (known, turned))
    moved = second.prior - first.prior
    assert moved.abs().max() == pytest.approx(1 / 40)
    change = (second.shares - first.shares)[node]  # (H, C)
    part = change @ moved / moved.square().sum()
    torch.testing.assert_close(change, part[:, None] * moved, atol=1e-6, rtol=0)
    assert bool((part > 0).all() and (part <= 1 + 1e-5).all())


def test_shares_are_shares(graph: PreparedGraph) -> None:
    """Rows sum to 1, none is negative, and where no label is in reach they are the frequencies."""
    known = labels(graph, 9)
    context = label_shares(graph.rowptr, graph.col, known, C, seed=0)
    found = context.shares
    torch.testing.assert_close(found.sum(dim=2), torch.ones(60, len(REACHES)))
    assert float(found.min()) > 0
    for node in ISOLATED:
        torch.testing.assert_close(found[node], context.prior.expand(len(REACHES), C))
    lonely = torch.full_like(known, -1)
    lonely[list(ISOLATED)] = torch.tensor([0, 2])
    torch.testing.assert_close(
        shares(graph, lonely), torch.tensor([0.5, 0.0, 0.5]).expand(60, len(REACHES), C)
    )


def test_a_path_of_three_nodes() -> None:
    """Three nodes in a row, both ends known: shares by hand."""
    rowptr, col = torch.tensor([0, 1, 3, 4]), torch.tensor([1, 0, 2, 1])
    found = label_shares(rowptr, col, torch.tensor([0, -1, 1]), 2, seed=0).shares
    one, two = REACHES.index("one-hop"), REACHES.index("two-hops")
    assert torch.equal(found[0, one], torch.tensor([0.5, 0.5]))  # its neighbor is not known
    # Two steps from an end: half of the walks come back, the other half finds the other end.
    torch.testing.assert_close(found[0, two], torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(found[2, two], torch.tensor([0.75, 0.25]))
    assert torch.equal(found[1, one], torch.tensor([0.5, 0.5]))


def test_nodes_may_be_renumbered(graph: PreparedGraph) -> None:
    """Shares follow their node: all of them where folds are single nodes, else all but the walks.

    Folds are drawn by place, so that the walks of labelled nodes may differ; of others they do not.
    """
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    place = order.argsort()
    row = torch.arange(60).repeat_interleave(graph.rowptr.diff())
    row, col = place[row], place[graph.col]
    by = (row * 60 + col).argsort()
    rowptr = torch.cat([torch.zeros(1, dtype=torch.int64), _count(row, 60).cumsum(0)])
    for num in (9, 40):
        known = labels(graph, num)
        turned = label_shares(rowptr, col[by], known[order], C, seed=0).shares[place]
        same = shares(graph, known)
        torch.testing.assert_close(turned[:, :2], same[:, :2])
        free = known < 0 if num == 40 else known > -2
        torch.testing.assert_close(turned[free], same[free])


def test_classes_may_be_renumbered(graph: PreparedGraph) -> None:
    known = labels(graph, 40)
    order = torch.tensor([2, 0, 1])
    turned = torch.where(known >= 0, order[known], -1)
    torch.testing.assert_close(shares(graph, turned)[..., order], shares(graph, known))


def test_the_seed_draws_the_folds_and_nothing_else(graph: PreparedGraph) -> None:
    known = labels(graph, 40)
    first, again, other = (shares(graph, known, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first[known < 0], other[known < 0])
    assert torch.equal(first[:, :2], other[:, :2])
    assert not torch.equal(first, other)


def test_many_labels_have_five_folds() -> None:
    """Above FEW a walk does not see a fifth of the labels, and its own label is still not counted.

    Near shares are 0.03 off those of folds of single nodes; with two folds it was 0.06.
    """
    graph = prepare(synthetic("many", num_nodes=2 * FEW, mean_degree=6.0))
    known = torch.full((2 * FEW,), -1)
    known[: FEW + 50] = graph.y[: FEW + 50]
    node = int((graph.rowptr.diff()[:50] > 2).nonzero()[0])
    other = int((known != known[node]).nonzero().flatten()[3])
    moved = known.clone()
    moved[node] = known[other]
    before, after = shares(graph, known), shares(graph, moved)
    prior = (after - before)[node].abs().max()
    assert prior < 1.01 / (FEW + 50)  # through the frequencies
    off = (before.double() - dense(graph, known))[known >= 0].abs().mean(dim=(0, 2))
    assert off[:2].max() < 1e-6 and off[2:].max() < 0.045
