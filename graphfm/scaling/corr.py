"""Global search by convex relaxation regression: fit a convex function, take its minimum.

Azar, Dyer and Kording 2016, "Convex Relaxation Regression" (UAI; arXiv 1602.02191). Among convex
functions with the mean of the convex envelope, the envelope is the one closest to the objective in
mean absolute error, and it has the same minimum. The mean is not known, so several are tried, and
the minimum with the lowest objective is kept.

Shapes:
    T  evaluations   d  shapes of the law   k  ridges
"""

from __future__ import annotations

import numpy as np

from graphfm.scaling.law import Array
from graphfm.scaling.solve import Problem, descend, polish, profiled

NUM_POINTS = 120  # evaluations of a round
NUM_MEANS = 5  # means of the envelope that are tried
NUM_ROUNDS = 3  # each in a box half as wide around the last minimum


def search(problem: Problem, *, seed: int = 0) -> Array:
    """Return the best ``theta`` (p,): relaxation over the shapes, then L-BFGS.

    The coefficients are projected out, as in variable projection; in them the problem is convex.
    """
    rng = np.random.default_rng(seed)
    signed = np.array([name in problem.law.signed for name in problem.law.shapes])
    ends = [(min(values), max(values)) for values in problem.law.shapes.values()]
    low, high = np.array(ends).T
    low = np.where(signed, low, np.log(np.where(signed, 1, low)))
    high = np.where(signed, high, np.log(np.where(signed, 1, high)))

    def evaluate(points: Array) -> tuple[Array, Array]:
        theta, value = profiled(problem, np.where(signed, points, np.exp(points)))
        return theta, np.log(
            value
        )  # spans many decades: the log has the same minimum and a better shape

    best, lowest = np.empty(0), np.inf
    box_low, box_high = low, high
    for _ in range(NUM_ROUNDS):
        points = rng.uniform(box_low, box_high, (NUM_POINTS, len(low)))
        theta, value = evaluate(points)
        unit = 2 * (points - box_low) / (box_high - box_low) - 1
        tried = [relaxed_minimum(unit, value, mean, rng) for mean in _means(value)]
        found = box_low + (np.array(tried) + 1) / 2 * (box_high - box_low)
        theta_found, value_found = evaluate(found)
        # The best evaluation counts too: the relaxation only has to show where to search.
        theta, value = np.concatenate([theta, theta_found]), np.concatenate([value, value_found])
        i = int(np.argmin(value))
        if value[i] < lowest:
            best, lowest = theta[i], value[i]
        middle = found[np.argmin(value_found)]
        half = (box_high - box_low) / 4
        box_low, box_high = np.maximum(middle - half, low), np.minimum(middle + half, high)
    one = descend(problem, best[None], problem.y[None], problem.weight[None])
    return polish(problem, one[0])


def _means(value: Array) -> Array:
    """Return means of the envelope to try: from near the lowest value to the mean of all."""
    share = np.linspace(0.1, 0.9, NUM_MEANS)
    return value.min() + share * (value.mean() - value.min())


def relaxed_minimum(points: Array, value: Array, mean: float, rng: np.random.Generator) -> Array:
    """Return the minimum (d,) of the convex function of given mean that is closest to the values.

    The function is a plane plus non-negative multiples of squared ridges, (a . x - b)^2, so it is
    convex. Least absolute error makes it a linear program.

    Args:
        points: Points in [-1, 1], (T, d).
        value: Values at the points, (T,).
        mean: Required mean of the function over the points.
        rng: Random numbers for the directions of the ridges.
    """
    from scipy.optimize import linprog, minimize

    num, dim = points.shape
    axes = np.eye(dim)
    extra = rng.standard_normal((4 * dim, dim))
    ridges = np.concatenate([axes, extra / np.linalg.norm(extra, axis=1, keepdims=True)])
    offsets = np.array([-0.6, 0.0, 0.6])
    slope = np.repeat(ridges, len(offsets), 0)  # (k, d)
    shift = np.tile(offsets, len(ridges))
    curved = (points @ slope.T - shift) ** 2
    design = np.concatenate([np.ones((num, 1)), points, curved], 1)
    width = design.shape[1]
    # min sum u, -u <= design @ c - value <= u, mean(design @ c) = mean
    eye = np.eye(num)
    result = linprog(
        np.r_[np.zeros(width), np.ones(num)],
        A_ub=np.block([[design, -eye], [-design, -eye]]), b_ub=np.r_[value, -value],
        A_eq=np.r_[design.mean(0), np.zeros(num)][None], b_eq=[mean],
        bounds=[(None, None)] * (1 + dim) + [(0, None)] * (len(slope) + num), method="highs",
    )  # fmt: skip
    if result.x is None:
        return points[np.argmin(value)]
    c = result.x[:width]

    def relaxation(x: Array) -> tuple[float, Array]:
        off = slope @ x - shift
        total = c[0] + c[1 : 1 + dim] @ x + c[1 + dim :] @ off**2
        return float(total), c[1 : 1 + dim] + 2 * (c[1 + dim :] * off) @ slope

    found = minimize(relaxation, np.zeros(dim), jac=True, method="L-BFGS-B",
                     bounds=[(-1, 1)] * dim)  # fmt: skip
    return np.asarray(found.x)
