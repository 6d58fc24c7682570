"""Identifiability: can the runs determine the parameters of a law, and which runs would?

Shapes:
    n  runs   p  parameters
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np

from graphfm.scaling.law import Array, Law
from graphfm.scaling.runs import Runs

# Condition number of the Jacobian with columns of length 1. On Chinchilla's law a 3 x 4 grid has
# 24, Epoch's 245 runs 33, a grid of 4 x 4 within a factor of 4 has 230, D = 20 N with 10% of
# jitter 450, D = N^1.5 14,000, D = 20 N 1e7 and more.
REFUSE = 3000.0
WARN = 200.0
NOMINAL = 0.35  # alpha and beta of the published fits: 0.34 and 0.28, 0.348 and 0.366, 0.353
LEAST = 0.1  # least share of the largest term that each term is given
MOST_ADDED = 4  # limit of the runs that a message names
UNSEEN = 1e-6  # relative length of a column below which the loss does not depend on it


def condition(law: type[Law], theta: Array, x: Mapping[str, Array]) -> float:
    """Return the condition number of the design for a law, at common exponents.

    Fitted exponents would mislead: on a diagonal (D = 20 N), or if little varies, a fit runs away
    to exponents at which the design looks better than it is.
    """
    point = _nominal(law, theta)
    slopes = law.slopes(point, x)[1]
    length = np.linalg.norm(slopes, axis=0)
    seen = length > UNSEEN * length.max()
    return float(np.linalg.cond(slopes[:, seen] / length[seen]))


def unseen(law: type[Law], theta: Array, x: Mapping[str, Array]) -> list[str]:
    """Return the parameters that the loss of these runs does not depend on."""
    length = np.linalg.norm(law.slopes(theta, x)[1], axis=0)
    return [
        name for name, size in zip(law.parameters(), length, strict=True)
        if size <= UNSEEN * length.max()
    ]  # fmt: skip


def _nominal(law: type[Law], theta: Array) -> Array:
    """Return a ``theta`` with common exponents, in which no term is too small to matter."""
    point, names = theta.copy(), law.parameters()
    for i, name in enumerate(names):
        if name in law.exponents and name not in law.signed:
            point[i] = np.log(NOMINAL)
    m = len(law.coefficients)
    largest = point[:m].max()
    point[:m] = np.maximum(point[:m], largest + np.log(LEAST))
    return point


def settling_runs(
    law: type[Law], theta: Array, runs: Runs, centre: Mapping[str, float]
) -> list[tuple[float, float]]:
    """Return runs (params, targets) that would make the parameters identifiable.

    Candidates are the smallest, middle and largest values used so far. Runs are added greedily
    until the condition is below WARN or none helps, at most MOST_ADDED.
    """
    sizes, data = (
        np.unique(values)[[0, len(np.unique(values)) // 2, -1]]
        for values in (runs.params, runs.targets)
    )
    x = {k: v - centre[k] for k, v in runs.logs().items()}
    chosen: list[tuple[float, float]] = []
    now = condition(law, theta, x)
    while len(chosen) < MOST_ADDED and now > WARN:
        tried = []
        for n, d in product(sizes, data):
            new = {"params": np.log(n), "targets": np.log(d), "unique": np.log(d)}
            more = {k: np.append(v, new[k] - centre[k]) for k, v in x.items()}
            tried.append((condition(law, theta, more), (float(n), float(d)), more))
        best, cell, more = min(tried, key=lambda one: one[:2])
        # The first of a pair may help little: a corner separates the terms, the next one slopes.
        if best > 0.9 * now and chosen:
            break
        now, x = best, more
        chosen.append(cell)
    return chosen
