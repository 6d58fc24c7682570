"""Choice of runs: the ones that determine a law's exponents best within a budget.

A run informs about a law's parameters by the gradient of its log loss, a row of the Jacobian J. The
covariance of the fitted parameters is ``noise^2 (J^T J)^-1``. The chosen runs minimise the
determinant of its block of exponents while all other parameters are unknown too (D_s-optimality:
Atkinson, Donev and Tobias, Optimum Experimental Designs, 2007, section 10.3), by greedy filling and
exchange (Fedorov 1972) under a budget of FLOPs. J depends on the exponents that are to be found, so
the criterion is a mean over exponents around a first guess.

Shapes:
    n  points of a design   c  candidate points   p  parameters of the law   s  guesses
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import erf, exp, pi, sqrt

import numpy as np

from graphfm.errors import RecipeError
from graphfm.scaling.exchange import Exchange
from graphfm.scaling.law import Array, Cost, Law
from graphfm.scaling.solve import DELTA, Problem, descend

Range = tuple[float, float]

GUESSES = 12  # sets of exponents around the first guess; more change little (scaling-fits.md)
NULL = 1e-9  # singular values below this share of the largest count as zero


@dataclass(frozen=True, kw_only=True)
class Design:
    """Runs to make.

    Args:
        params: Trunk parameters, (n,).
        targets: Targets seen, (n,).
        seeds: Runs at each point, (n,).
        unique: Different targets, (n,), for a law with repeats.
        flops: FLOPs of all runs.
    """

    params: Array
    targets: Array
    seeds: Array
    unique: Array | None = None
    flops: float = 0.0

    @property
    def num_runs(self) -> int:
        """Number of all runs, seeds included."""
        return int(self.seeds.sum())

    @property
    def points(self) -> Array:
        """Index of the point of each run, (num_runs,)."""
        return np.repeat(np.arange(len(self.params)), self.seeds)

    def logs(self) -> dict[str, Array]:
        """Return the log coordinates of the points by name, (n,) each."""
        unique = self.targets if self.unique is None else np.minimum(self.unique, self.targets)
        return _logs(self.params, self.targets, unique)


def variance(
    design: Design, law: Law, *, noise: float = 0.005, cost: Cost | None = None
) -> dict[str, float]:
    """Return the variance of each parameter of :func:`graphfm.scaling.fit.fit`, to first order.

    Args:
        design: The runs.
        law: The law that is assumed to be true.
        noise: Standard deviation of the log loss between runs that differ by their seed.
        cost: Cost of a run, for ``frontier``. Default: 6 N D.

    Returns:
        Variance by parameter, infinite if the runs do not determine it. For a law with a compute
        frontier also ``frontier``: the variance of the exponent of the best size in compute.
    """
    centre, x = _centred(design.logs())
    theta = law.theta(centre)
    rows = law.slopes(theta, x)[1] * np.sqrt(design.seeds)[:, None]
    _, size, turn = np.linalg.svd(np.pad(rows, ((0, len(theta)), (0, 0))), full_matrices=False)
    seen = size > size[0] * NULL
    root = (
        noise * np.sqrt(_price_of_huber(noise)) * turn[seen].T / size[seen]
    )  # covariance of theta = root root^T
    blind = (np.abs(turn[~seen]) > 1e-6).any(0) if not seen.all() else np.zeros(len(theta), bool)
    # Only coefficients at the centre are determined well; those at 1 are never reported alone.
    scale = np.array([1.0 if k in law.signed else v for k, v in law.values.items()])
    found = np.where(blind, np.inf, (root**2).sum(1) * scale**2)
    named = dict(zip(law.parameters(), found.tolist(), strict=True))
    kept = {k: v for k, v in named.items() if k not in law.coefficients or k == "E"}
    if hasattr(law, "frontier"):
        slope = np.array([_frontier_slope(law, k, cost) for k in law.parameters()])
        unknown = bool(np.any(blind & (slope != 0)))
        kept["frontier"] = float("inf") if unknown else float(((slope @ root) ** 2).sum())
    return kept


def simulate(
    design: Design, law: Law, *, noise: float = 0.005, draws: int = 200, seed: int = 0,
    cost: Cost | None = None,
) -> dict[str, Array]:  # fmt: skip
    """Fit simulated losses of a design, assuming that ``law`` is true: (draws,) by parameter.

    Every draw adds noise to the log loss of each run and is fitted as :mod:`graphfm.scaling.fit`
    does, starting from the truth, so that local optima play no role.

    Args:
        design: The runs.
        law: The law that is assumed to be true.
        noise: Standard deviation of the log loss.
        draws: Number of simulated tables.
        seed: Seed of the noise.
        cost: Cost of a run, for ``frontier``. Default: 6 N D.
    """
    centre, x = _centred({name: values[design.points] for name, values in design.logs().items()})
    theta = law.theta(centre)
    truth = law.log_curve(theta, x)
    y = truth + noise * np.random.default_rng(seed).standard_normal((draws, len(truth)))
    weight = np.ones_like(y)
    problem = Problem(law=type(law), x=x, y=truth, weight=weight[0])
    found = [
        type(law).of_theta(one, centre)
        for one in descend(problem, np.tile(theta, (draws, 1)), y, weight)
    ]
    names = ("E", *law.shapes)
    values = {k: np.array([one.values[k] for one in found]) for k in names if k in law.values}
    if hasattr(law, "frontier"):
        values["frontier"] = np.array([one.frontier(cost)["params"] for one in found])  # type: ignore[attr-defined]
    return values


def naive_grid(
    budget: float,
    cost: Cost,
    *,
    params: Range,
    targets: Range,
    unique: float | None = None,
    levels: tuple[int, int] = (4, 4),
    seeds: int = 3,
    branch: float = 1.0,
) -> Design:
    """Return a plain grid: equal steps in log N and log D, the same number of seeds everywhere.

    If it costs more than the budget, the upper ends of both ranges are lowered by the same factor
    of their span until it fits. Arguments: see :func:`design_runs`.
    """

    def grid(reach: float) -> Design:
        sizes, data = (
            np.geomspace(low, low * (high / low) ** reach, count)
            for (low, high), count in zip((params, targets), levels, strict=True)
        )
        n, d = (v.ravel() for v in np.meshgrid(sizes, data, indexing="ij"))
        spent = cost.flops(n, d)
        longest = spent.reshape(levels).max(1).sum()
        return Design(
            params=n,
            targets=d,
            seeds=np.full(len(n), seeds),
            unique=None if unique is None else np.full_like(n, unique),
            flops=float(seeds * (branch * spent.sum() + (1 - branch) * longest)),
        )

    low, high = 0.0, 1.0
    if grid(high).flops <= budget:
        return grid(high)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if grid(middle).flops <= budget else (low, middle)
    return grid(low)


def design_runs(
    budget: float,
    law: Law,
    cost: Cost,
    *,
    params: Range,
    targets: Range,
    unique: tuple[float, ...] | None = None,
    levels: tuple[int, int] = (10, 10),
    max_seeds: int = 3,
    max_runs: int | None = None,
    spread: float = 0.2,
    branch: float = 1.0,
    seed: int = 0,
) -> Design:
    """Choose the runs within a budget that determine the law's exponents best.

    Args:
        budget: FLOPs of all runs.
        law: First guess of the law.
        cost: Cost of a run.
        params: Smallest and largest trunk to consider.
        targets: Fewest and most targets to consider.
        unique: Numbers of different targets to choose among, for a law with repeats.
        levels: Candidate sizes and candidate amounts of data, at equal steps of the logarithm.
        max_seeds: Limit of the runs at one point. Without it the best design repeats p points, and
            no residual could show that the law is wrong.
        max_runs: Limit of all runs, seeds included; designs tend to many small runs.
        spread: Standard deviation of the first guess's exponents, as a share of them.
        branch: Share of its cost that a run adds beside a longer one of the same size, data and
            seed: with a warm-up-stable-decay schedule it continues from that one and only pays
            for its decay. 1: every run is trained by itself.
        seed: Seed of the guesses around the first one.

    Raises:
        RecipeError: GFM705 for an empty range, or a budget of too few runs for the law.
    """
    for name, (low, high) in (("params", params), ("targets", targets)):
        if not 0 < low < high:
            raise RecipeError(
                "GFM705",
                f"{name} must be a range LEAST:MOST above zero, got {low:g}:{high:g}",
            )
    sizes = np.geomspace(*params, levels[0])
    data = np.geomspace(*targets, levels[1])
    kinds = np.array(unique) if unique else np.array([targets[1]])
    n, u, d = (v.ravel() for v in np.meshgrid(sizes, kinds, data, indexing="ij"))
    centre, x = _centred(_logs(n, d, np.minimum(u, d) if unique else d))
    search = Exchange(
        rows=law.slopes(_guesses(law, centre, spread, seed), x)[1],
        wanted=[law.parameters().index(name) for name in law.exponents],
        flops=cost.flops(n, d),
        family=np.repeat(np.arange(len(sizes) * len(kinds)), len(data)),
        budget=budget,
        max_seeds=max_seeds,
        max_runs=max_runs or max_seeds * len(n),
        branch=branch,
    )
    counts = search.best()
    taken = counts > 0
    if taken.sum() < len(law.parameters()):
        raise RecipeError(
            "GFM705",
            f"{law.name} has {len(law.parameters())} parameters and needs as many different runs, "
            f"but a budget of {budget:.3g} FLOPs allows {taken.sum()}",
            why=f"the cheapest run of the ranges takes {search.flops.min():.3g} FLOPs",
            fix="use a larger budget, or lower the smallest size or data",
        )
    return Design(
        params=n[taken],
        targets=d[taken],
        seeds=counts[taken],
        unique=u[taken] if unique else None,
        flops=float(search.spent(counts)),
    )


def _price_of_huber(noise: float) -> float:
    """Return the variance of a fit by Huber's loss over that by least squares (Huber 1964).

    1.42 at a noise of 0.5%: DELTA is a fifth of the noise, so that the fit is nearly a median.
    """
    c = DELTA / noise
    inside = erf(c / sqrt(2))
    second = inside - 2 * c * exp(-c * c / 2) / sqrt(2 * pi) + c * c * (1 - inside)
    return second / inside**2


def _guesses(law: Law, centre: Mapping[str, float], spread: float, seed: int) -> Array:
    """Return the first guess, and others with other exponents through the same centre, (s, p)."""
    theta = np.repeat(law.theta(centre)[None], GUESSES, 0)
    rng = np.random.default_rng(seed)
    for name in law.exponents:
        at = law.parameters().index(name)
        scale = abs(theta[0, at]) if name in law.signed else 1.0
        theta[1:, at] += scale * spread * rng.standard_normal(GUESSES - 1)
    return theta


def _frontier_slope(law: Law, name: str, cost: Cost | None) -> float:
    """Return the derivative of the frontier's exponent in the theta of one parameter."""
    step = 1e-6
    values = law.values
    if name not in law.exponents:
        return 0.0
    high, low = (
        type(law)(**{**values, name: values[name] * np.exp(sign * step)}).frontier(cost)["params"]  # type: ignore[attr-defined]
        for sign in (1, -1)
    )
    return float((high - low) / (2 * step))


def _logs(params: Array, targets: Array, unique: Array) -> dict[str, Array]:
    return {"params": np.log(params), "targets": np.log(targets), "unique": np.log(unique)}


def _centred(x: Mapping[str, Array]) -> tuple[dict[str, float], dict[str, Array]]:
    """Return the centre of log coordinates, and the centred ones; D and U share a centre."""
    centre = {name: float(np.mean(values)) for name, values in x.items()}
    centre["unique"] = centre["targets"]
    return centre, {name: values - centre[name] for name, values in x.items()}
