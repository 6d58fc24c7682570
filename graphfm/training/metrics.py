"""How good predictions are."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest


def accuracy(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of nodes whose likeliest class is theirs; for multi-label, share of right labels.

    Args:
        y: (Q,) classes, or (Q, C) labels of 0 and 1; -1 = unknown, not counted.
        probabilities: (Q, C).
    """
    if y.ndim == 2:
        known = y >= 0
        return float(((probabilities > 0.5) == (y == 1))[known].mean())
    known = y >= 0
    return float((probabilities.argmax(axis=1) == y)[known].mean())


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95% interval of a share of ``count`` independent trials (Wilson 1927).

    >>> [round(v, 3) for v in wilson_interval(0.8, 50)]
    [0.67, 0.888]
    """
    if count == 0:
        return 0.0, 1.0
    interval = binomtest(round(share * count), count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
