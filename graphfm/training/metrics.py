"""How good predictions are."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from scipy.stats import binomtest

OGB_NODE_DATASETS = ("ogbn-arxiv", "ogbn-products", "ogbn-proteins")


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


def official_metric(
    dataset: str, y: np.ndarray, probabilities: np.ndarray
) -> tuple[str, float] | None:
    """The score that a dataset's leaderboard shows, by OGB's own Evaluator.

    Args:
        dataset: Id of the graph.
        y: (Q,) classes, or (Q, C) labels of 0 and 1; -1 = unknown, not counted.
        probabilities: (Q, C).

    Returns:
        Name of the metric and its value. None for a graph that is not of OGB, where ogb is not
        installed, and for labels that the Evaluator refuses: of another number than the
        dataset's, or none of them both 0 and 1.
    """
    evaluator = _ogb_evaluator(dataset) if dataset in OGB_NODE_DATASETS else None
    if evaluator is None:
        return None
    known = y >= 0
    if y.ndim == 2:
        truth, given = np.where(known, y, np.nan), probabilities
    else:
        truth, given = y[known, None], probabilities[known].argmax(axis=1)[:, None]
    try:
        ((name, value),) = evaluator.eval({"y_true": truth, "y_pred": given}).items()
    except (RuntimeError, ZeroDivisionError):
        return None
    return name, float(value)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95% interval of a share of ``count`` independent trials (Wilson 1927).

    >>> [round(v, 3) for v in wilson_interval(0.8, 50)]
    [0.67, 0.888]
    """
    if count == 0:
        return 0.0, 1.0
    interval = binomtest(round(share * count), count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _ogb_evaluator(dataset: str) -> Any:
    """OGB's judge of a dataset; None without ogb."""
    # Importing ogb starts a thread that asks the package index for a newer version, by way of
    # `outdated`; without that package, ogb does not.
    outdated = sys.modules.get("outdated")
    sys.modules["outdated"] = None  # type: ignore[assignment]
    try:
        from ogb.nodeproppred import Evaluator
    except ImportError:
        return None
    finally:
        del sys.modules["outdated"]
        if outdated is not None:
            sys.modules["outdated"] = outdated
    return Evaluator(dataset)
