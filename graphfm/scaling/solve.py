"""Fit the parameters of a law: grid over the shapes, coefficients in closed form, L-BFGS.

The objective is Hoffmann's and Epoch's: the SUM over runs of Huber's loss of log loss, of width
``DELTA`` (arXiv 2203.15556, appendix D.3; 2404.10102). It is scaled by 1 / DELTA**2 wherever an
optimizer sees it. Unscaled, its gradients fall below the optimizer's stopping tolerance long before
the fit is good; the published fit stopped too early for this reason.

Shapes:
    n  runs   p  parameters   m  coefficients   g  grid points   R  problems solved side by side
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from graphfm.scaling.law import Array, Law

# Two equal columns (an exponent of 0 beside a floor) must not make a step singular.
LEAST_DAMPING = 1e-10
DELTA = 1e-3  # of log loss: a run further off than 0.1% pulls linearly, not squared
CANDIDATES = 6  # grid points that are refined; in practice the optimum comes from the first 2
NUM_STARTS = 243  # starts of multi-start: three values for each of five parameters


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A fit to solve: the law, coordinates and losses of the runs.

    Args:
        law: Class of the law.
        x: Centred log coordinates by name, each (n,).
        y: Log of the loss, (n,).
        weight: Weight of each run, (n,).
    """

    law: type[Law]
    x: Mapping[str, Array]
    y: Array
    weight: Array

    def objective(self, theta: Array) -> Array:
        """Return the sum of Huber's losses over runs, (...), for ``theta`` (..., p)."""
        with np.errstate(all="ignore"):
            off = self.law.log_curve(theta, self.x) - self.y
        total = np.sum(self.weight * huber(off), -1)
        return np.where(np.isfinite(total), total, np.inf)

    def scaled(self, theta: Array) -> tuple[float, Array]:
        """Return the objective divided by DELTA**2, and its gradient (p,), for an optimizer."""
        with np.errstate(all="ignore"):  # a start far away may overflow; the check below handles it
            value, slopes = self.law.slopes(theta, self.x)
            off = value - self.y
            total = float(np.sum(self.weight * huber(off))) / DELTA**2
            pull = self.weight * np.clip(off, -DELTA, DELTA) / DELTA**2
            slope = pull @ slopes
        if not (np.isfinite(total) and np.isfinite(slope).all()):
            return 1e300, np.zeros_like(theta)
        return total, slope


def huber(off: Array) -> Array:
    """Return Huber's loss of each residual: squared within DELTA, linear beyond."""
    size = np.abs(off)
    return np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA))


def nonnegative(columns: Array, target: Array, weight: Array) -> Array:
    """Solve weighted least squares without negative coefficients for g problems: (g, m).

    Solves every subset of the columns and keeps the best admissible one: 7 small systems for m = 3,
    instead of an active-set loop for each grid point.

    Args:
        columns: Design matrices, (g, n, m).
        target: Values to fit, (n,).
        weight: Weights of the rows, (g, n).
    """
    m = columns.shape[-1]
    weighted = columns * weight[..., None]
    gram = np.einsum("gni,gnj->gij", weighted, columns)
    right = np.einsum("gni,n->gi", weighted, target)
    scale = np.sqrt(np.maximum(np.einsum("gii->gi", gram), 1e-300))
    gram, right = gram / scale[:, :, None] / scale[:, None, :], right / scale
    best, lowest = np.zeros(right.shape), np.zeros(len(gram))  # no column: a gain of zero
    for size in range(1, m + 1):
        for chosen in map(list, combinations(range(m), size)):
            part = gram[:, chosen][:, :, chosen] + 1e-12 * np.eye(size)
            found = np.linalg.solve(part, right[:, chosen, None])[..., 0]
            value = -np.einsum("gi,gi->g", found, right[:, chosen])
            better = (found >= 0).all(-1) & (value < lowest)
            row = np.zeros_like(best)
            row[:, chosen] = found
            best, lowest = np.where(better[:, None], row, best), np.where(better, value, lowest)
    return best / scale


def profiled(problem: Problem, shape: Array, *, rounds: int = 4) -> tuple[Array, Array]:
    """Return the best coefficients for given shapes (variable projection; Golub and Pereyra 1973).

    Args:
        problem: The fit to solve.
        shape: Values of the shapes, (g, p - m).
        rounds: Reweightings; each makes least squares more like Huber's loss.

    Returns:
        ``theta`` (g, p) and its objective (g,).
    """
    law, loss = problem.law, np.exp(problem.y)
    weight = np.broadcast_to(problem.weight / loss**2, (len(shape), len(loss)))
    logs: Array | None = None
    floor = 1e-9 * loss.min()  # stands for a coefficient of zero, whose log would not exist
    for _ in range(rounds):
        columns = law.basis(shape, problem.x, logs)
        found = np.maximum(nonnegative(columns, loss, weight), floor)
        logs = np.log(found)
        fitted = np.maximum(np.einsum("gnm,gm->gn", columns, found), floor)
        off = np.log(fitted) - problem.y
        # huber'(off) / (fitted - loss), so that the least squares has Huber's slope
        linear = np.where(np.abs(fitted - loss) > 1e-12 * loss, off / (fitted - loss), 1 / loss)
        weight = problem.weight * np.minimum(1, 3 * DELTA / np.maximum(np.abs(off), 1e-30))
        weight = weight * np.abs(linear) / fitted
    assert logs is not None
    signed = [name in law.signed for name in law.shapes]
    with np.errstate(invalid="ignore", divide="ignore"):
        tail = np.where(signed, shape, np.log(np.abs(shape)))
    theta = np.concatenate([logs, tail], -1)
    return theta, problem.objective(theta)


def descend(problem: Problem, theta: Array, y: Array, weight: Array, *, steps: int = 40) -> Array:
    """Take Levenberg-Marquardt steps on reweighted least squares for R problems: (R, p).

    Args:
        problem: Gives the law and the coordinates.
        theta: Starting points, (R, p).
        y: Log losses, (R, n).
        weight: Weights, (R, n).
        steps: Limit of the steps.
    """
    law, x = problem.law, problem.x

    def value(theta: Array, rows: Array) -> Array:
        with np.errstate(all="ignore"):
            total = np.sum(weight[rows] * huber(law.log_curve(theta, x) - y[rows]), -1)
        return np.where(np.isfinite(total), total, np.inf)

    theta, live = theta.copy(), np.arange(len(theta))
    damping = np.full(len(theta), 1e-3)
    now = value(theta, live)
    quiet = np.zeros(len(theta), int)
    for _ in range(steps):
        with np.errstate(all="ignore"):
            fitted, slopes = law.slopes(theta[live], x)
        off = fitted - y[live]
        pull = weight[live] / np.maximum(np.abs(off), DELTA)  # DELTA times it is Huber's weight
        weighted = slopes * pull[..., None]
        gram = np.swapaxes(weighted, -1, -2) @ slopes
        right = np.einsum("rnp,rn->rp", weighted, off)
        diagonal = np.maximum(np.einsum("rpp->rp", gram), 1e-12 * np.trace(gram, 0, 1, 2)[:, None])
        gram = gram + np.eye(gram.shape[-1]) * (damping[live, None] * diagonal)[:, None, :]
        step = np.linalg.solve(gram, right[..., None])[..., 0]
        # Each part is clipped by itself: a part that no run depends on takes a large step, which
        # would shrink the steps of the others.
        tried = theta[live] - np.clip(step, -1, 1)
        new = value(tried, live)
        better = new < now[live]
        gain = np.where(better, now[live] - new, 0.0)
        theta[live] = np.where(better[:, None], tried, theta[live])
        quiet[live] = np.where(gain > 1e-5 * now[live], 0, quiet[live] + 1)
        now[live] = np.where(better, new, now[live])
        damping[live] = np.maximum(
            np.where(better, damping[live] / 5, damping[live] * 8), LEAST_DAMPING
        )
        live = live[(quiet[live] < 3) & (damping[live] < 1e8)]
        if not len(live):
            break
    return theta


def polish(problem: Problem, theta: Array) -> Array:
    """Refine to the last digit by L-BFGS, restarted until nothing improves, (p,)."""
    from scipy.optimize import minimize

    best, lowest = theta, problem.scaled(theta)[0]
    for _ in range(5):
        found = minimize(
            problem.scaled, best, jac=True, method="L-BFGS-B",
            options={"maxiter": 500, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20},
        )  # fmt: skip
        if found.fun >= lowest * (1 - 1e-12):
            return found.x if found.fun < lowest else best
        best, lowest = found.x, found.fun
    return best


def varpro(problem: Problem) -> Array:
    """Return the best ``theta`` (p,): grid over the shapes, coefficients projected out, L-BFGS."""
    shape = np.array(list(product(*problem.law.shapes.values())))
    theta, value = profiled(problem, shape)
    first = theta[np.argsort(value)[:CANDIDATES]]
    many = (len(first), 1)
    theta = descend(problem, first, np.tile(problem.y, many), np.tile(problem.weight, many))
    return polish(problem, theta[np.argmin(problem.objective(theta))])


def starts(problem: Problem) -> Array:
    """Return the starts (NUM_STARTS, p): three values of each parameter, or a sample of these.

    Coefficients at a tenth, a third and nearly all of the middle loss; shapes at the first, the
    middle and the last of the grid of variable projection.
    """
    law, middle = problem.law, float(np.median(problem.y))
    levels: list[list[float]] = [[middle + np.log(s) for s in (0.1, 0.33, 0.9)]] * len(
        law.coefficients
    )
    for name, values in law.shapes.items():
        three = [values[0], values[len(values) // 2], values[-1]]
        levels.append(three if name in law.signed else np.log(three).tolist())
    grid = np.array(list(product(*levels)))
    if len(grid) > NUM_STARTS:
        grid = np.random.default_rng(0).permutation(grid)[:NUM_STARTS]
    return grid


def multistart(problem: Problem) -> Array:
    """Return the best ``theta`` (p,) of L-BFGS from :func:`starts`: the usual method."""
    from scipy.optimize import minimize

    found = [minimize(problem.scaled, s, jac=True, method="L-BFGS-B", options={"maxiter": 1000,
             "ftol": 1e-12}) for s in starts(problem)]  # fmt: skip
    return polish(problem, min(found, key=lambda result: result.fun).x)
