"""Scores of predicted numbers and of their intervals, with confidence intervals.

Shapes:
    N  nodes   n  evaluated nodes   B  bootstrap resamples
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from graphfm.benchmark.scores import NUM_RESAMPLES, Interval
from graphfm.errors import DataError
from graphfm.fitting.intervals import Values
from graphfm.metrics import wilson_interval


@dataclass(frozen=True, kw_only=True)
class NumberScores:
    """Scores of predicted numbers.

    Args:
        rmse: Root mean squared error, in the unit of the target.
        mae: Mean absolute error, in the unit of the target.
        r2: Coefficient of determination; None if all evaluated nodes have the same number.
        bootstrap: 95% bootstrap interval over nodes of each score.
        num_nodes: Number of evaluated nodes, n.
        influence: Influence of each evaluated node on -RMSE, (n,). Their mean is -RMSE, their
            spread gives its standard error. Not saved.
    """

    rmse: float
    mae: float
    r2: float | None
    bootstrap: dict[str, Interval]
    num_nodes: int
    influence: np.ndarray = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain data."""
        return {
            "rmse": self.rmse,
            "mae": self.mae,
            "r2": self.r2,
            "bootstrap": {name: list(interval) for name, interval in self.bootstrap.items()},
            "num_nodes": self.num_nodes,
        }


def number_scores(values: np.ndarray, y: Tensor, mask: Tensor) -> NumberScores:
    """Score predicted numbers on the nodes under a mask whose number is known.

    Args:
        values: Predictions, (N,).
        y: True numbers, (N,) float64; NaN = unknown.
        mask: Nodes to evaluate, (N,) bool.

    Raises:
        DataError: GFM131 if no number is known.
    """
    known = _known_under(mask, y)
    truth, given = y.numpy()[known], values[known]
    squared = (given - truth) ** 2  # in the order of the nodes, which pairs it with other methods
    order = np.lexsort((given, truth))  # resamples do not depend on the order of the nodes
    truth, given = truth[order], given[order]
    # All scores follow from sums over nodes, so that a resample is a weight of each node. Numbers
    # are centred first: the variance of years would otherwise lose its digits.
    centred = truth - truth.mean()
    error = given - truth
    terms = np.stack([error**2, np.abs(error), centred, centred**2], axis=1)  # (n, 4)
    rng = np.random.default_rng(0)
    resampled = np.empty((NUM_RESAMPLES, 4))
    for i in range(NUM_RESAMPLES):  # one at a time: 1,000 x 1M weights would take 8 GB
        resampled[i] = terms[rng.integers(len(truth), size=len(truth))].mean(axis=0)
    values_of = _scores_from_means(terms.mean(axis=0)[None])
    bootstrap = {}
    for name, found in _scores_from_means(resampled).items():
        finite = found[np.isfinite(found)]
        if len(finite):
            low, high = np.quantile(finite, [0.025, 0.975])
            bootstrap[name] = (float(low), float(high))
    r2 = float(values_of["r2"][0])
    rmse = float(values_of["rmse"][0])
    return NumberScores(
        rmse=rmse,
        mae=float(values_of["mae"][0]),
        r2=r2 if np.isfinite(r2) else None,
        bootstrap=bootstrap,
        num_nodes=len(truth),
        influence=-(squared + rmse**2) / (2 * rmse) if rmse > 0 else np.zeros(len(truth)),
    )


def interval_scores(
    predictions: Values, y: Tensor, mask: Tensor, *, coverage: float
) -> dict[str, Any]:
    """Score prediction intervals on the nodes under a mask whose number is known.

    Args:
        predictions: Predictions with intervals, ``low`` and ``high``, (N,) each.
        y: True numbers, (N,) float64; NaN = unknown.
        mask: Nodes to evaluate, (N,) bool.
        coverage: Requested share of intervals that contain the true number, between 0 and 1.

    Returns:
        ``asked``, the requested coverage; ``coverage``, the share of intervals that contain the
        true number, with its 95% ``interval`` by Wilson; ``mean_width``, None if it is infinite.
    """
    known = _known_under(mask, y)
    assert predictions.low is not None and predictions.high is not None
    low, high, truth = predictions.low[known], predictions.high[known], y.numpy()[known]
    covered = float(((low <= truth) & (truth <= high)).mean())
    width = float((high - low).mean())
    return {
        "asked": coverage,
        "coverage": covered,
        "interval": list(wilson_interval(covered, len(truth))),
        "mean_width": width if np.isfinite(width) else None,
    }


def _known_under(mask: Tensor, y: Tensor) -> np.ndarray:
    known: np.ndarray = mask.numpy() & np.isfinite(y.numpy())
    if not known.any():
        raise DataError("GFM131", "none of the nodes to evaluate has a known number")
    return known


def _scores_from_means(means: np.ndarray) -> dict[str, np.ndarray]:
    """Compute scores from mean squared error, absolute error, number and squared number.

    Args:
        means: The four means of each resample, (B, 4).

    Returns:
        Scores by name, (B,) each.
    """
    variance = means[:, 3] - means[:, 2] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(variance > 0, 1 - means[:, 0] / variance, np.nan)
    return {"rmse": np.sqrt(means[:, 0]), "mae": means[:, 1], "r2": r2}
