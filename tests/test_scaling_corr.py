"""Convex relaxation regression: the minimum of what it learns is the global one."""

import numpy as np
import pytest

from graphfm.scaling import corr, solve
from graphfm.scaling.laws import LAWS
from graphfm.scaling.solve import Problem
from tests.test_scaling_fit import PLANTED, places, runs_of


def wavy(x):
    """A bowl with many local minima; the global one is at 0.3 in every coordinate."""
    off = x - 0.3
    return np.sum(off**2 + 0.2 * (1 - np.cos(12 * off)), -1)


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_the_minimum_of_the_relaxation_is_near_the_global_one(dim):
    """Where descent from most points ends in another minimum.

    Seen to fail with a plane for the convex function.
    """
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (400, dim))
    value = wavy(points)
    tried = [corr.relaxed_minimum(points, value, mean, rng) for mean in corr._means(value)]
    best = min(tried, key=wavy)
    assert np.abs(best - 0.3).max() < 0.15


def test_the_mean_of_the_relaxation_is_the_one_that_was_asked_for():
    """A lower mean makes a function that lies further below the values.

    Seen to fail without the constraint: then all are the same.
    """
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (200, 1))
    value = np.where(np.abs(points[:, 0] - 0.6) < 0.1, -1.0, points[:, 0] ** 2)  # a narrow well

    def minimum(mean):
        return corr.relaxed_minimum(points, value, mean, np.random.default_rng(2))[0]

    assert min(abs(minimum(mean) - 0.6) for mean in corr._means(value)) < 0.1
    assert minimum(np.mean(points**2)) == pytest.approx(0.0, abs=0.2)  # the bowl around the well


def problem_of(name, seed):
    runs = runs_of(PLANTED[name], places(name), seed=seed)
    logs = runs.logs()
    centre = {k: v.mean() for k, v in logs.items()}
    centre["unique"] = centre["targets"]
    x = {k: v - centre[k] for k, v in logs.items()}
    return Problem(law=LAWS[name], x=x, y=np.log(runs.loss), weight=np.ones(len(runs)))


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_the_search_finds_what_variable_projection_finds(name):
    """Of every law, from two seeds. Seen to fail without descent and polish."""
    problem = problem_of(name, seed=5)
    expected = problem.objective(solve.varpro(problem))
    for seed in (0, 1):
        assert problem.objective(corr.search(problem, seed=seed)) <= expected * (1 + 1e-6)


def test_the_relaxation_alone_is_close(monkeypatch):
    """Without descent or polish: what CoRR itself contributes.

    A random point of the same number of evaluations is further off. Seen to fail with one round.
    """
    monkeypatch.setattr(corr, "polish", lambda problem, theta: theta)
    monkeypatch.setattr(corr, "descend", lambda problem, theta, y, weight: theta)
    problem = problem_of("chinchilla", seed=5)
    lowest = problem.objective(solve.varpro(problem))
    found = problem.objective(corr.search(problem))
    rng = np.random.default_rng(0)
    evaluations = corr.NUM_ROUNDS * (corr.NUM_POINTS + corr.NUM_MEANS)
    shapes = np.exp(rng.uniform(np.log(0.05), np.log(2.0), (evaluations, 2)))
    random = solve.profiled(problem, shapes)[1].min()
    assert lowest <= found < 1.1 * lowest
    assert found < random
