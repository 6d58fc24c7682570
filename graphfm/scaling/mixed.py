"""One law for many datasets: a floor for each dataset, exponents that all share.

The loss of dataset k is the law's with floor E + u_k, u_k ~ Normal(0, spread^2). For given shapes
this is a linear mixed model, solved in closed form by quasi-demeaning. Its likelihood is profiled
over the shapes and the ratio of the two variances. Least squares are in loss, not in log loss,
because floors add to the loss.

Shapes:
    n  rows, one for a run on a dataset   K  datasets   m  coefficients   R  resamples
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from graphfm.errors import DataError
from graphfm.scaling import identify
from graphfm.scaling.fitted import (
    Interval,
    finite,
    hardly_known,
    interval,
    no_power,
    not_determined,
)
from graphfm.scaling.law import Array, Law
from graphfm.scaling.laws import LAWS
from graphfm.scaling.runs import Runs
from graphfm.scaling.solve import nonnegative

log = logging.getLogger(__name__)

LAWS_WITH_A_FLOOR = ("power", "power-params", "power-unique", "chinchilla")
RATIOS = (0.1, 10.0, 1000.0)  # starts: variance between datasets over that within
MOST_RATIO = np.log(1e8)


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """A law with shared exponents and a floor for each dataset.

    Args:
        law: The shared law; its E is the mean floor.
        params: Parameters by name, with 95% intervals.
        exponents: The exponents among the parameters.
        floors: Floor E + u of each dataset, shrunk to the mean if the dataset has few runs.
        spread: Standard deviation of the floors, in units of the loss.
        noise: Standard deviation of a run on a dataset, in units of the loss.
        condition: Condition number of the design; see :mod:`graphfm.scaling.identify`.
        no_power: Exponents without meaning; see :class:`graphfm.scaling.fitted.Fit`.
        warnings: Warnings for the reader, one sentence each.
        num_rows: Number of fitted rows.
    """

    law: Law
    params: dict[str, Interval]
    exponents: dict[str, Interval]
    floors: dict[str, float]
    spread: Interval
    noise: Interval
    condition: float
    no_power: tuple[str, ...]
    warnings: tuple[str, ...]
    num_rows: int

    def predict(self, params: Any, targets: Any, unique: Any = None, *, dataset: str = "") -> Array:
        """Predict the loss, (n,), on one dataset; on a dataset with the mean floor if not given."""
        if dataset and dataset not in self.floors:
            raise DataError("GFM704", f"no dataset {dataset!r} in this fit")
        own = self.floors[dataset] - self.law.values["E"] if dataset else 0.0
        return self.law.predict(params, targets, unique) + own

    def to_json(self) -> str:
        """Return the fit as JSON text."""
        plain = {**asdict(self), "law": self.law.name, "formula": self.law.formula}
        return json.dumps(finite(plain), indent=1) + "\n"


@dataclass(frozen=True)
class _Table:
    """Rows sorted by dataset."""

    law: type[Law]
    x: Mapping[str, Array]
    loss: Array
    owner: Array  # (n,), number of the dataset
    weight: Array  # (n,), precision of a row
    share: Array  # (K,), weight of a dataset

    def sums(self, values: Array) -> Array:
        """Return the sum over the rows of each dataset: (n, ...) -> (K, ...)."""
        first = np.searchsorted(self.owner, np.arange(len(self.share)))
        return np.asarray(np.add.reduceat(values, first, axis=0))

    def solve(self, point: Array) -> tuple[float, Array, float, Array]:
        """Return deviance, coefficients (m,), noise variance and offsets of floors (K,) at a point.

        Args:
            point: Logs of the shapes, then of the ratio of the variances.
        """
        shape, ratio = np.exp(point[:-1]), np.exp(min(float(point[-1]), MOST_RATIO))
        columns = self.law.basis(shape, self.x, None)
        total = self.sums(self.weight)
        keep = (1 - 1 / np.sqrt(1 + ratio * total)) / total
        both = np.concatenate([columns, self.loss[:, None]], 1)
        means = self.sums(both * self.weight[:, None])
        moved = both - (keep[:, None] * means)[self.owner]
        row = self.weight * self.share[self.owner]
        coefficients = nonnegative(moved[None, :, :-1], moved[:, -1], row[None])[0]
        off = moved[:, -1] - moved[:, :-1] @ coefficients
        counted = self.sums(np.ones_like(row)) @ self.share
        variance = max(float(row @ off**2 / counted), 1e-300)
        deviance = counted * np.log(variance) + self.share @ np.log1p(ratio * total)
        plain = means[:, -1] - means[:, :-1] @ coefficients
        return float(deviance), coefficients, variance, ratio * plain / (1 + ratio * total)


def fit_mixed(
    runs: Runs,
    law: str = "chinchilla",
    *,
    by_seed: bool = False,
    resamples: int = 0,
    seed: int = 0,
) -> MixedFit:
    """Fit one law to the runs of many datasets.

    Args:
        runs: Runs with ``dataset``; rows of one training run on several datasets share ``run``.
        law: One of :data:`LAWS_WITH_A_FLOOR`.
        by_seed: True gives a dataset a floor for each seed, named ``dataset@seed``, for datasets
            that the seed splits anew. Datasets are still resampled whole.
        resamples: Resamples for the intervals. Datasets and runs are both resampled, with weights
            that multiply (Owen and Eckles 2012, arXiv 1106.2125): the interval is for other
            datasets and other runs of the same kind.
        seed: Seed of the resampling.

    Raises:
        DataError: GFM701 without datasets, GFM702 for a confounded design, GFM703 for too few rows,
            GFM704 for a law without such a floor.
    """
    if law not in LAWS_WITH_A_FLOOR:
        raise DataError("GFM704", f"no mixed fit of {law!r}", fix=", ".join(LAWS_WITH_A_FLOOR))
    if runs.dataset is None:
        raise DataError(
            "GFM701", "a mixed fit needs the dataset of each row", fix="add a column dataset"
        )
    if by_seed and runs.seed is None:
        raise DataError(
            "GFM701", "a floor for each seed needs the seed of each row", fix="add a column seed"
        )
    dataset, own = runs.dataset, runs.dataset
    if by_seed and runs.seed is not None:
        own = np.array([f"{d}@{s}" for d, s in zip(dataset, runs.seed, strict=True)])
    order = np.argsort(own, kind="stable")
    runs = runs.take(order)
    names, first, owner = np.unique(own[order], return_index=True, return_inverse=True)
    family = np.unique(dataset[order][first], return_inverse=True)[1]  # (K,), dataset of a floor
    kind, logs = LAWS[law], runs.logs()
    size = len(kind.parameters()) - 1 + len(names)
    points = len(set(zip(*(logs[axis] for axis in kind.axes), strict=True)))
    if len(runs) <= size or points < len(kind.parameters()):
        raise DataError(
            "GFM703", f"{len(names)} floors and {law} are {size} parameters, got {len(runs)} rows "
            f"at {points} different places",
            fix="add runs, or fit the mean over datasets",
        )  # fmt: skip
    centre = {k: float(v.mean()) for k, v in logs.items()}
    x = {k: v - centre[k] for k, v in logs.items()}
    weight = np.ones(len(runs)) if runs.weight is None else runs.weight
    table = _Table(kind, x, runs.loss, owner, weight, np.ones(len(names)))
    point = _search(table)
    _, coefficients, variance, offsets = table.solve(point)
    theta = np.r_[np.log(np.maximum(coefficients, 1e-9 * runs.loss.min())), point[:-1]]
    bad = identify.condition(kind, theta, x)
    if bad > identify.REFUSE:
        raise DataError(
            "GFM702", f"these runs do not determine the parameters of {law}: the condition "
            f"number of the design is {bad:.3g}, above {identify.REFUSE:g}",
            fix="add small models on much data, and large ones on little",
        )  # fmt: skip
    drawn = _resample(table, runs, family, point, resamples=resamples, seed=seed)
    unseen = identify.unseen(kind, theta, x)
    best = point, coefficients, variance, offsets
    return _report(table, names, centre, bad, unseen, best, drawn)


_Solved = tuple[Array, Array, float, Array]  # point, coefficients, noise variance, offsets


def _search(table: _Table) -> Array:
    """Return the point of least deviance: a grid, then Nelder-Mead."""
    shapes = list(product(*(np.log(values) for values in table.law.shapes.values())))
    grid = [np.array([*shape, np.log(RATIOS[1])]) for shape in shapes]
    best = min(grid, key=lambda point: table.solve(point)[0])
    best = min(
        (np.r_[best[:-1], np.log(ratio)] for ratio in RATIOS),
        key=lambda point: table.solve(point)[0],
    )
    return _simplex(table, _simplex(table, best, 0.2, 1e-4), 0.02, 1e-7)


def _simplex(table: _Table, start: Array, size: float, tolerance: float) -> Array:
    from scipy.optimize import minimize

    corners = np.vstack([start, start + size * np.eye(len(start))])
    found = minimize(
        lambda point: table.solve(point)[0], start, method="Nelder-Mead",
        options={"initial_simplex": corners, "xatol": tolerance, "fatol": 1e-9 + tolerance / 10,
                 "maxfev": 600},
    )  # fmt: skip
    return np.asarray(found.x)


def _resample(
    table: _Table, runs: Runs, family: Array, point: Array, *, resamples: int, seed: int
) -> list[_Solved]:
    rng = np.random.default_rng(seed)
    if runs.run is None:
        cells = [f"{n}/{d}/{s}" for n, d, s in zip(
            runs.params, runs.targets, np.zeros(len(runs)) if runs.seed is None else runs.seed,
            strict=True,
        )]  # fmt: skip
        group = np.unique(cells, return_inverse=True)[1]
    else:
        group = np.unique(runs.run, return_inverse=True)[1]
    drawn = []
    for _ in range(resamples):
        weight = table.weight * rng.exponential(size=group.max() + 1)[group]
        share = rng.exponential(size=family.max() + 1)[family]
        one = _Table(table.law, table.x, table.loss, table.owner, weight, share)
        found = _simplex(one, point, 0.05, 1e-3)
        drawn.append((found, *one.solve(found)[1:]))
    return drawn


def _report(
    table: _Table, names: Array, centre: dict[str, float], bad: float, unseen: list[str],
    best: _Solved, drawn: list[_Solved],
) -> MixedFit:  # fmt: skip
    def law_of(solved: _Solved) -> Law:
        logs = np.log(np.maximum(solved[1], 1e-300))
        return table.law.of_theta(np.r_[logs, solved[0][:-1]], centre)

    law, laws = law_of(best), [law_of(one) for one in drawn]
    params = {k: interval(v, [one.values[k] for one in laws]) for k, v in law.values.items()}

    def spread(solved: _Solved) -> float:
        return float(np.sqrt(solved[2] * np.exp(min(float(solved[0][-1]), MOST_RATIO))))

    texts = []
    if bad > identify.WARN:
        texts.append(f"the runs hardly determine the parameters (condition {bad:.0f})")
    if best[0][-1] >= MOST_RATIO:
        texts.append("the floors differ so much that none is shrunk to the mean")
    fewest = int(np.bincount(table.owner).min())
    if fewest < len(table.law.parameters()):
        texts.append(f"a dataset has only {fewest} rows: its floor is shrunk to the mean")
    texts += [*not_determined(unseen), *hardly_known(law, params, unseen)]
    for text in texts:
        log.warning(text)
    return MixedFit(
        law=law, params=params, exponents={k: params[k] for k in law.exponents},
        floors={str(k): float(law.values["E"] + u) for k, u in zip(names, best[3], strict=True)},
        spread=interval(spread(best), [spread(one) for one in drawn]),
        noise=interval(float(np.sqrt(best[2])), [float(np.sqrt(one[2])) for one in drawn]),
        condition=bad, no_power=no_power(law, params, unseen), warnings=tuple(texts),
        num_rows=len(table.loss),
    )  # fmt: skip
