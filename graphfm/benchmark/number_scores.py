"""TODO: graphfm/benchmark/number_scores.py, from graphfm/cli/numbers.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphfm.benchmark.scores import NUM_RESAMPLES, Interval
from graphfm.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from graphfm.fitting.intervals import Values
    from graphfm.graphs.graph import Graph


@dataclass(frozen=True, kw_only=True)
class NumberScores:
    """Scores of predicted numbers for some nodes, in the unit of the target but for R2.

    ``bootstrap`` has the 95% interval of each, over nodes. ``r2`` is None where all nodes have the
    same number.
    """

    rmse: float
    mae: float
    r2: float | None
    bootstrap: dict[str, Interval]
    num_nodes: int

    def to_json(self) -> dict[str, Any]:
        """As a receipt keeps it."""
        return {
            "rmse": self.rmse,
            "mae": self.mae,
            "r2": self.r2,
            "bootstrap": {name: list(interval) for name, interval in self.bootstrap.items()},
            "num_nodes": self.num_nodes,
        }


def number_scores(values: np.ndarray, y: Tensor, mask: Tensor) -> NumberScores:
    """Score predictions on the nodes under a mask whose number is known.

    Args:
        values: (N,).
        y: (N,) float64, NaN = not known.
        mask: Nodes to be judged on, (N,) bool.

    Raises:
        DataError: GFM131 if none of them has a number.
    """
    import numpy as np

    known = _judged(y, mask)
    truth, given = y.numpy()[known], values[known]
    # Sums over nodes are all that the scores need: a resample is a weight of each node. Numbers are
    # centred first, as the variance of years would lose its digits.
    centred = truth - truth.mean()
    error = given - truth
    terms = np.stack([error**2, np.abs(error), centred, centred**2], axis=1)  # (n, 4)
    rng = np.random.default_rng(0)
    draws = np.empty((NUM_RESAMPLES, 4))
    for i in range(NUM_RESAMPLES):  # one at a time: 1,000 x 1M weights would take 8 GB
        draws[i] = terms[rng.integers(len(truth), size=len(truth))].mean(axis=0)
    points, resampled = _scores(terms.mean(axis=0)[None]), _scores(draws)
    bootstrap = {}
    for name, found in resampled.items():
        finite = found[np.isfinite(found)]
        if len(finite):
            low, high = np.quantile(finite, [0.025, 0.975])
            bootstrap[name] = (float(low), float(high))
    r2 = float(points["r2"][0])
    return NumberScores(
        rmse=float(points["rmse"][0]),
        mae=float(points["mae"][0]),
        r2=r2 if np.isfinite(r2) else None,
        bootstrap=bootstrap,
        num_nodes=len(truth),
    )


def interval_scores(said: Values, y: Tensor, mask: Tensor, *, coverage: float) -> dict[str, Any]:
    """How intervals keep their promise, on the nodes under a mask whose number is known.

    Args:
        said: With ``low`` and ``high``, (N,) each.
        y: (N,) float64, NaN = not known.
        mask: Nodes to be judged on, (N,) bool.
        coverage: What was asked for.

    Returns:
        ``asked``; ``coverage``, the share of intervals that hold the number of their node, and its
        95% ``interval`` by Wilson; ``mean_width``, None where it is infinite.
    """
    import numpy as np

    from graphfm.metrics import wilson_interval

    known = _judged(y, mask)
    assert said.low is not None and said.high is not None
    low, high, truth = said.low[known], said.high[known], y.numpy()[known]
    right = float(((low <= truth) & (truth <= high)).mean())
    width = float((high - low).mean())
    return {
        "asked": coverage,
        "coverage": right,
        "interval": list(wilson_interval(right, len(truth))),
        "mean_width": width if np.isfinite(width) else None,
    }


def compare_numbers(values: np.ndarray, graph: Graph) -> dict[str, NumberScores]:
    """Scores on the test nodes: the fitted model's predictions for all nodes, then the baselines.

    Args:
        values: (N,).
        graph: With its split.
    """
    from graphfm.baselines.numbers import features_only, mean

    assert graph.y is not None and graph.train_mask is not None and graph.test_mask is not None
    found = {
        "graphfm": values,
        "mean": mean(graph, graph.train_mask),
        "features-only ridge regression": features_only(graph, graph.train_mask),
    }
    return {name: number_scores(v, graph.y, graph.test_mask) for name, v in found.items()}


def _judged(y: Tensor, mask: Tensor) -> np.ndarray:
    import numpy as np

    known: np.ndarray = mask.numpy() & np.isfinite(y.numpy())
    if not known.any():
        raise DataError("GFM131", "there is no node with a known number to score on")
    return known


def _scores(means: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of means of squared error, error, number and squared number: (B, 4) -> (B,) each."""
    import numpy as np

    variance = means[:, 3] - means[:, 2] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(variance > 0, 1 - means[:, 0] / variance, np.nan)
    return {"rmse": np.sqrt(means[:, 0]), "mae": means[:, 1], "r2": r2}
