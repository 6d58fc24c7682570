"""The plan: a pure function of (seed, sizes) in which every labelled node has its turn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphfm.errors import RecipeError
from graphfm.sampling.plan import GraphSize, Plan, StepCost, targets_of

sizes_lists = st.lists(st.integers(1, 500), min_size=1, max_size=12)


def plan_of(sizes: list[int], *, seed: int = 0, power: float = 0.5) -> Plan:
    return Plan(
        [GraphSize(num_targets=n, num_nodes=2 * n, weight=n**power) for n in sizes],
        seed=seed,
        max_targets=32,
        max_context=64,
        targets_per_step=100,
        cost=StepCost(graph=5.0, context_node=0.02),
    )


@settings(max_examples=30, deadline=None)
@given(sizes_lists, st.integers(0, 5))
def test_visits_of_a_graph_follow_each_other_without_a_gap(sizes, seed):
    """Over any number of epochs: so over n targets in a row every node comes exactly once."""
    plan = plan_of(sizes, seed=seed)
    expected = [0] * len(sizes)
    for step in range(3 * plan.steps_per_epoch):
        visits = plan.step(step)
        graphs = [v.graph for v in visits]
        assert graphs == sorted(set(graphs))
        for visit in visits:
            assert visit.start == expected[visit.graph]
            expected[visit.graph] += visit.num_targets
    per_epoch = plan.visits * np.array(plan.targets)
    assert expected == (3 * per_epoch).tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 3))
def test_every_target_comes_once_in_a_turn(num_targets, size, seed):
    from graphfm.sampling.plan import Visit

    places = []
    for i in range(3 * num_targets):
        visit = Visit(graph=0, start=i * size, num_targets=size)
        places += targets_of(visit, num_targets, seed=seed, graph_key=-5).tolist()
    for turn in range(len(places) // num_targets):
        part = places[turn * num_targets : (turn + 1) * num_targets]
        assert sorted(part) == list(range(num_targets))


def test_a_step_is_the_same_asked_in_any_order():
    """The cursor of a run is its step: fails if the plan kept a position of its own."""
    forward, backward = plan_of([300, 40, 7]), plan_of([300, 40, 7])
    steps = range(4 * forward.steps_per_epoch)
    wanted = [forward.step(i) for i in steps]
    assert [backward.step(i) for i in reversed(steps)] == wanted[::-1]
    assert wanted != [plan_of([300, 40, 7], seed=1).step(i) for i in steps]


def test_steps_cost_alike_and_every_graph_is_visited_each_epoch():
    rng = np.random.default_rng(0)
    plan = plan_of(rng.lognormal(6, 1.8, 152).astype(int).clip(1).tolist())
    costs, seen = [], set()
    for step in range(plan.steps_per_epoch):
        visits = plan.step(step)
        seen |= {v.graph for v in visits}
        counts = [v.num_targets // plan.targets[v.graph] for v in visits]
        costs.append(sum(c * plan.costs[v.graph] for c, v in zip(counts, visits, strict=True)))
    assert seen == set(range(152))
    assert max(costs) - min(costs) <= max(plan.costs)  # what longest-first promises


def test_a_graph_without_targets_is_refused():
    with pytest.raises(RecipeError, match="GFM207"):
        plan_of([3, 0])
