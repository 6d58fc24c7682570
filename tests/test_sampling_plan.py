"""Plan: a pure function of (seed, sizes) that visits every labelled node."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphfm.errors import RecipeError
from graphfm.sampling.plan import SMALLEST_PIECE, GraphSize, Plan, StepCost, Visit, targets_of
from tools.bench.plan import padding

sizes_lists = st.lists(st.integers(1, 500), min_size=1, max_size=12)
strategies = st.sampled_from(["balanced", "snake", "uniform"])
bin_counts = st.integers(1, 9)
some = settings(max_examples=30, deadline=None)


def plan_of(
    sizes: list[int],
    *,
    seed: int = 0,
    power: float = 0.5,
    strategy: str = "balanced",
    bins: int = 1,
    budget: int = 100,
    graph: float = 5.0,
) -> Plan:
    return Plan(
        [GraphSize(num_targets=n, num_nodes=2 * n, weight=n**power) for n in sizes],
        seed=seed,
        max_targets=32,
        max_context=64,
        targets_per_step=budget,
        cost=StepCost(graph=graph, context_node=0.02),
        strategy=strategy,
        bins_per_step=bins,
    )


def places(visits: list[Visit]) -> list[tuple[int, int]]:
    """Return (graph, position in its endless sequence) of every target."""
    return [(v.graph, v.start + i) for v in visits for i in range(v.num_targets)]


def drawn_sizes(seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).lognormal(6, 1.8, 152).astype(int).clip(1).tolist()


@some
@given(sizes_lists, st.integers(0, 5), strategies)
def test_visits_of_a_graph_follow_each_other_without_a_gap(sizes, seed, strategy):
    """This holds over any number of epochs."""
    plan = plan_of(sizes, seed=seed, strategy=strategy)
    expected = [0] * len(sizes)
    for step in range(3 * plan.steps_per_epoch):
        visits = plan.step(step)
        graphs = [v.graph for v in visits]
        assert visits and graphs == sorted(set(graphs))
        for visit in visits:
            assert visit.start == expected[visit.graph]
            expected[visit.graph] += visit.num_targets
    per_epoch = plan.visits * np.array(plan.targets)
    assert expected == (3 * per_epoch).tolist()


@some
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 3))
def test_every_target_comes_once_in_a_turn(num_targets, size, seed):
    """Also with a cache of orders, of this graph and of another.

    Seen to fail with the turn left out of what a kept order is known by.
    """
    kept: dict = {}
    found = []
    for i in range(3 * num_targets):
        visit = Visit(graph=0, start=i * size, num_targets=size)
        targets_of(visit, num_targets + 1, seed=seed, graph_key=7, kept=kept)
        new = targets_of(visit, num_targets, seed=seed, graph_key=-5, kept=kept).tolist()
        assert new == targets_of(visit, num_targets, seed=seed, graph_key=-5).tolist()
        found += new
    for turn in range(len(found) // num_targets):
        part = found[turn * num_targets : (turn + 1) * num_targets]
        assert sorted(part) == list(range(num_targets))


def test_a_cached_order_is_not_used_for_another_size():
    """Seen to fail without a check of the length of the cached order."""
    kept: dict = {}
    visit = Visit(graph=0, start=0, num_targets=5)
    for n in (5, 9):
        got = targets_of(visit, n, seed=0, graph_key=1, kept=kept)
        assert got.tolist() == targets_of(visit, n, seed=0, graph_key=1).tolist()


@pytest.mark.parametrize("strategy", ["balanced", "snake", "uniform"])
def test_steps_can_be_read_in_any_order(strategy):
    """The state of a run is its step: the plan keeps no position."""

    def fresh(seed: int = 0) -> Plan:
        return plan_of(drawn_sizes()[:20], seed=seed, strategy=strategy, bins=3, budget=600)

    forward, backward = fresh(), fresh()
    steps = range(4 * forward.steps_per_epoch)
    wanted = [(forward.step(i), forward.bins(i)) for i in steps]
    assert [(backward.step(i), backward.bins(i)) for i in reversed(steps)] == wanted[::-1]
    other = fresh(seed=1)
    assert wanted != [(other.step(i), other.bins(i)) for i in steps]


@some
@given(sizes_lists, strategies, bin_counts, st.integers(50, 2000))
def test_every_target_of_a_step_is_in_exactly_one_bin(sizes, strategy, bins, budget):
    """Seen to fail with the rest of a cut visit dropped, and with its start left where it was."""
    plan = plan_of(sizes, strategy=strategy, bins=bins, budget=budget)
    for step in range(plan.steps_per_epoch + 1):
        in_bins = plan.bins(step)
        assert len(in_bins) == bins
        for visits in in_bins:
            graphs = [v.graph for v in visits]
            assert graphs == sorted(set(graphs))
            assert all(v.num_targets > 0 for v in visits)
        assert sorted(places(sum(in_bins, []))) == places(plan.step(step))
        if bins == 1:
            assert in_bins == [plan.step(step)]


@some
@given(sizes_lists, st.integers(50, 2000), bin_counts)
def test_the_targets_of_a_step_do_not_depend_on_its_bins(sizes, budget, bins):
    """Seen to fail with the budget of a step taken times its bins."""
    one, many = plan_of(sizes, budget=budget), plan_of(sizes, budget=budget, bins=bins)
    assert one.steps_per_epoch == many.steps_per_epoch
    for step in range(one.steps_per_epoch):
        assert one.step(step) == many.step(step)


@some
@given(sizes_lists, strategies, bin_counts, st.integers(1, 8))
def test_any_number_of_ranks_does_the_same_work(sizes, strategy, bins, world):
    """Every bin is processed by exactly one rank."""
    plan = plan_of(sizes, strategy=strategy, bins=bins, budget=400)
    for step in range(plan.steps_per_epoch):
        ranks = [plan.bins(step)[rank::world] for rank in range(world)]
        assert [ranks[i % world][i // world] for i in range(bins)] == plan.bins(step)


@some
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=30),
    st.integers(2, 16),
    st.integers(50, 5000),
    st.floats(0, 300),
)
def test_the_cost_of_a_bin_is_below_its_bound(sizes, bins, budget, graph_cost):
    """Seen to fail with the search for a capacity started 3 encodings higher."""
    plan = Plan(
        [GraphSize(num_targets=n, num_nodes=n, weight=n) for n in sizes],
        seed=0,
        max_targets=256,
        max_context=100,
        targets_per_step=budget,
        cost=StepCost(graph=graph_cost, context_node=0.5),
        bins_per_step=bins,
    )
    for step in range(min(3, plan.steps_per_epoch)):
        visits, in_bins = plan.step(step), plan.bins(step)
        encoding = max(plan.encoding[v.graph] for v in visits)
        costs = [plan.cost(b) for b in in_bins]
        promised = plan.cost(visits) / bins + 2.5 * encoding + 2
        assert max(costs) <= promised + 1e-6
        for world in (w for w in range(1, bins + 1) if bins % w == 0):
            sums = [sum(costs[rank::world]) for rank in range(world)]
            assert max(sums) - min(sums) <= max(costs) - min(costs) + 1e-6


def test_ranks_share_the_expensive_bins_of_a_step_and_of_an_epoch():
    """The graphs are too small to cut, so that bins are unequal.

    Seen to fail with bins in the order they were filled, and with the dearest always first.
    """
    rng = np.random.default_rng(0)
    for _ in range(10):
        plan = Plan(
            [
                GraphSize(num_targets=int(t), num_nodes=int(n))
                for t, n in rng.integers(1, [9, 60], size=(10, 2))
            ],
            seed=0,
            max_targets=8,
            max_context=60,
            targets_per_step=10_000,
            cost=StepCost(graph=20.0, context_node=1.0),
            bins_per_step=4,
        )
        costs = np.array([[plan.cost(b) for b in plan.bins(step)] for step in range(4)])
        sums = costs[:, :2] + costs[:, 2:]
        assert (np.ptp(sums, axis=1) <= np.ptp(costs, axis=1)).all()
        ranks = costs.sum(axis=0)
        assert np.ptp(ranks) == pytest.approx(0) and np.ptp(costs) > 0


def test_visits_are_not_cut_into_tiny_pieces():
    """Ten targets of a graph that costs 50 to encode stay one piece for any number of bins.

    Seen to fail with pieces of a single target: ten bins of 51 in place of one of 60.
    """
    cost = StepCost(graph=50.0, context_node=0.0)
    size = GraphSize(num_targets=10, num_nodes=10)
    common = {"seed": 0, "max_targets": 5000, "max_context": 9, "cost": cost, "bins_per_step": 64}
    assert sum(map(bool, Plan([size], targets_per_step=512, **common).bins(0))) == 1
    big = Plan([replace(size, num_targets=5000)], targets_per_step=512, **common)
    pieces = sorted(v.num_targets for b in big.bins(0) for v in b)
    assert len(pieces) == 64
    assert pieces[1] >= SMALLEST_PIECE * 50  # the smallest is what is left


def test_a_graph_larger_than_a_step_and_a_graph_alone():
    plan = plan_of([5000], bins=4, budget=100)
    assert plan.steps_per_epoch == 1 and len(plan.step(0)) == 1
    large = plan_of([100_000, 3, 3], power=1.0, bins=4, budget=4000)
    for step in range(3):
        costs = [large.cost(b) for b in large.bins(step)]
        assert max(costs) / np.mean(costs) < 1.01
        assert large.bins(step) != large.bins(step + 3)


def test_more_bins_than_there_is_work_for_are_empty():
    for strategy in ("balanced", "snake", "uniform"):
        plan = plan_of([3, 3], bins=64, strategy=strategy)
        assert len(plan.bins(0)) == 64
        assert {v.graph for b in plan.bins(0) for v in b} == {v.graph for v in plan.step(0)}
        assert sum(map(bool, plan.bins(0))) <= 2


def test_steps_cost_alike_and_every_graph_is_visited_each_epoch():
    plan = plan_of(drawn_sizes())
    costs, seen = [], set()
    for step in range(plan.steps_per_epoch):
        visits = plan.step(step)
        seen |= {v.graph for v in visits}
        counts = [v.num_targets // plan.targets[v.graph] for v in visits]
        costs.append(sum(c * plan.costs[v.graph] for c, v in zip(counts, visits, strict=True)))
    assert seen == set(range(152))
    assert max(costs) - min(costs) <= max(plan.costs)  # what longest-first promises


def test_a_step_costs_its_budget_where_graphs_have_more_visits_than_there_are_steps():
    """A graph is encoded once in a step.

    Seen to fail with the encoding of each visit counted in the number of steps, and in dealing
    (max/mean 1.13).
    """
    plan = plan_of(drawn_sizes(), power=1.0, budget=2000, graph=25.0)
    assert max(plan.visits) > 2 * plan.steps_per_epoch > 1000
    costs = [plan.cost(plan.step(step)) for step in range(plan.steps_per_epoch)]
    assert 0.9 < np.mean(costs) / 2000 < 1.05
    assert max(costs) / np.mean(costs) < 1.09


def test_snake_and_uniform_keep_graphs_whole():
    """With snake, ranks get equally many graphs, and graphs of a step are similar in size."""
    sizes = drawn_sizes()
    for strategy in ("snake", "uniform"):
        plan = plan_of(sizes, strategy=strategy, bins=8, budget=800)
        assert plan.steps_per_epoch == 19
        ranks = np.zeros(8, dtype=int)
        spans = []
        for step in range(19):
            ranks += [len(b) for b in plan.bins(step)]
            visits = plan.step(step)
            for v in visits:
                assert v.num_targets == plan.visits[v.graph] * plan.targets[v.graph]
            spans.append({v.num_targets for v in visits})
        assert ranks.tolist() == [19] * 8
        spans.sort(key=min)
        in_order = all(max(a) <= min(b) for a, b in zip(spans, spans[1:], strict=False))
        assert in_order == (strategy == "snake")


def test_the_snake_by_hand():
    """Seen to fail with every block assigned in the same direction."""
    plan = plan_of([50, 40, 30, 20, 10], power=0.0, strategy="snake", bins=2, budget=10**6)
    assert [[v.graph for v in b] for b in plan.bins(0)] == [[0, 3, 4], [1, 2]]


def test_padding_by_hand():
    assert padding([10, 20], []) == 0.0
    assert padding([5, 8], [8]) == 1 - 13 / 16
    assert padding([5, 9], [16, 6]) == 1 - 14 / 22
    assert padding([5, 90], [8]) == 1 - 95 / 98


def test_a_graph_without_targets_is_refused():
    with pytest.raises(RecipeError, match="GFM207"):
        plan_of([3, 0])
