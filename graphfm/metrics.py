"""How good predictions are."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

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


def r2(y: np.ndarray, values: np.ndarray) -> float:
    """Share of the variance that is explained: 1 - squared error over that of the mean of ``y``.

    Args:
        y: (Q,) numbers.
        values: (Q,) predictions.

    Returns:
        At most 1; NaN for fewer than two numbers.
    """
    from sklearn.metrics import r2_score

    return float(r2_score(y, values)) if len(y) > 1 else float("nan")


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


def calibration_error(confidence: np.ndarray, correct: np.ndarray, num_bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and share correct, over bins.

    Bins hold equally many predictions each (Nguyen and O'Connor 2015, arXiv 1508.05154), as those
    of equal width are mostly empty. Finitely many never give 0: a bin of n / 15 is off by chance
    alone. Equal confidences share what they got right: the order of rows does not matter.

    Args:
        confidence: (n,) probability of the class that was named, or of a label.
        correct: (n,) whether it was right, or the label there.
        num_bins: At most; n if there are fewer.
    """
    order = np.argsort(confidence, kind="stable")
    given, right = confidence[order].astype(float), correct[order].astype(float)
    _, place = np.unique(given, return_inverse=True)
    right = (np.bincount(place, weights=right) / np.bincount(place))[place]
    gaps = np.add.reduceat(given - right, _bin_starts(len(given), num_bins))
    return float(np.abs(gaps).sum() / len(given))


def top_confidence(y: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidences and whether they were right, for :func:`calibration_error`.

    One class a node: the probability of the likeliest. Several labels: that of each label.

    Args:
        y: (Q,) classes, or (Q, C) labels of 0 and 1.
        probabilities: (Q, C).
    """
    if y.ndim == 2:
        return probabilities.ravel(), (y == 1).ravel()
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == y


def brier(y: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared error of the probabilities (Brier 1950): summed over classes, from 0 to 2.

    For several labels a node the mean over labels, from 0 to 1.

    Args:
        y: (Q,) classes, or (Q, C) labels of 0 and 1.
        probabilities: (Q, C).
    """
    if y.ndim == 2:
        return float(np.square(probabilities - y).mean())
    truth = np.eye(probabilities.shape[1])[y]
    return float(np.square(probabilities - truth).sum(axis=1).mean())


def roc_auc(y: np.ndarray, probabilities: np.ndarray) -> float | None:
    """Mean area under the ROC curve, each class against the rest, of the classes that have both.

    Args:
        y: (Q,) classes, or (Q, C) labels of 0 and 1.
        probabilities: (Q, C).

    Returns:
        None if no class has both.
    """
    from sklearn.metrics import roc_auc_score

    truth = y == 1 if y.ndim == 2 else y[:, None] == np.arange(probabilities.shape[1])
    areas = [
        roc_auc_score(there, given)
        for there, given in zip(truth.T, probabilities.T, strict=True)
        if there.any() and not there.all()
    ]
    return float(np.mean(areas)) if areas else None


def _bin_starts(count: int, num_bins: int) -> np.ndarray:
    bins = min(num_bins, count)
    return np.arange(bins) * count // bins


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """95% interval of a share of ``count`` independent trials (Wilson 1927).

    >>> [round(v, 3) for v in wilson_interval(0.8, 50)]
    [0.67, 0.888]
    """
    from scipy.stats import binomtest

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
