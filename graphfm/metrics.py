"""Metrics of predictions.

Shapes:
    Q  nodes   C  classes or labels   n  predictions
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

OGB_NODE_DATASETS = ("ogbn-arxiv", "ogbn-products", "ogbn-proteins")


def accuracy(y: np.ndarray, proba: np.ndarray) -> float:
    """Compute the share of nodes whose most probable class is correct.

    With several labels per node: the share of correct labels, where a probability above 0.5
    predicts the label.

    Args:
        y: Classes, (Q,), or labels of 0 and 1, (Q, C); -1 = unknown, left out.
        proba: Probabilities, or scores with the same order, (Q, C).
    """
    known = y >= 0
    correct = (proba > 0.5) == (y == 1) if y.ndim == 2 else proba.argmax(axis=1) == y
    return float(correct[known].mean())


def r2(y: np.ndarray, values: np.ndarray) -> float:
    """Compute the coefficient of determination R2: the share of variance that is explained.

    Args:
        y: True numbers, (Q,).
        values: Predicted numbers, (Q,).

    Returns:
        At most 1; NaN for fewer than two numbers.
    """
    from sklearn.metrics import r2_score

    return float(r2_score(y, values)) if len(y) > 1 else float("nan")


def brier(y: np.ndarray, proba: np.ndarray) -> float:
    """Compute the Brier score: the mean squared error of the probabilities (Brier 1950).

    The errors are summed over classes: the score lies between 0 and 2. With several labels per
    node it is the mean over labels, between 0 and 1.

    Args:
        y: Classes, (Q,), or labels of 0 and 1, (Q, C).
        proba: Probabilities, (Q, C).
    """
    if y.ndim == 2:
        return float(np.square(proba - y).mean())
    truth = np.eye(proba.shape[1])[y]
    return float(np.square(proba - truth).sum(axis=1).mean())


def roc_auc(y: np.ndarray, proba: np.ndarray) -> float | None:
    """Compute the mean area under the ROC curve, each class against the rest.

    Args:
        y: Classes, (Q,), or labels of 0 and 1, (Q, C).
        proba: Probabilities, (Q, C).

    Returns:
        The mean over classes that have both positive and negative nodes; None if there is none.
    """
    from sklearn.metrics import roc_auc_score

    truth = y == 1 if y.ndim == 2 else y[:, None] == np.arange(proba.shape[1])
    areas = [
        roc_auc_score(positive, score)
        for positive, score in zip(truth.T, proba.T, strict=True)
        if positive.any() and not positive.all()
    ]
    return float(np.mean(areas)) if areas else None


def calibration_error(confidence: np.ndarray, correct: np.ndarray, num_bins: int = 15) -> float:
    """Compute the expected calibration error: the mean gap between confidence and accuracy.

    Bins hold equally many predictions (Nguyen and O'Connor 2015, arXiv 1508.05154), since bins of
    equal width are mostly empty. The error is never 0 for finitely many predictions: a bin of
    n / 15 deviates by chance alone. Predictions of equal confidence share their mean correctness,
    so that the order of rows does not matter.

    Args:
        confidence: Probability of the predicted class, or of a label, (n,).
        correct: True where the class is correct, or the label is present, (n,).
        num_bins: Maximum number of bins; n if there are fewer predictions.
    """
    order = np.argsort(confidence, kind="stable")
    given, right = confidence[order].astype(float), correct[order].astype(float)
    _, place = np.unique(given, return_inverse=True)
    right = (np.bincount(place, weights=right) / np.bincount(place))[place]
    gaps = np.add.reduceat(given - right, _bin_starts(len(given), num_bins))
    return float(np.abs(gaps).sum() / len(given))


def top_confidence(y: np.ndarray, proba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence and correctness of each prediction, for :func:`calibration_error`.

    With one class per node, the confidence is the probability of the most probable class. With
    several labels per node, it is the probability of each label.

    Args:
        y: Classes, (Q,), or labels of 0 and 1, (Q, C).
        proba: Probabilities, (Q, C).
    """
    if y.ndim == 2:
        return proba.ravel(), (y == 1).ravel()
    return proba.max(axis=1), proba.argmax(axis=1) == y


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Compute the 95% confidence interval of a share of independent trials (Wilson 1927).

    Args:
        share: Share of successes, between 0 and 1.
        count: Number of trials.

    >>> [round(v, 3) for v in wilson_interval(0.8, 50)]
    [0.67, 0.888]
    """
    from scipy.stats import binomtest

    if count == 0:
        return 0.0, 1.0
    interval = binomtest(round(share * count), count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def official_metric(dataset: str, y: np.ndarray, proba: np.ndarray) -> tuple[str, float] | None:
    """Compute the score of a dataset's leaderboard with OGB's own Evaluator.

    Args:
        dataset: Id of the graph.
        y: Classes, (Q,), or labels of 0 and 1, (Q, C); -1 = unknown, left out.
        proba: Probabilities, (Q, C).

    Returns:
        Name of the metric and its value. None for a graph that is not of OGB, if ogb is not
        installed, and if the Evaluator rejects the labels: their number differs from the
        dataset's, or no label has both 0 and 1.
    """
    evaluator = _ogb_evaluator(dataset) if dataset in OGB_NODE_DATASETS else None
    if evaluator is None:
        return None
    known = y >= 0
    if y.ndim == 2:
        truth, given = np.where(known, y, np.nan), proba
    else:
        truth, given = y[known, None], proba[known].argmax(axis=1)[:, None]
    try:
        ((name, value),) = evaluator.eval({"y_true": truth, "y_pred": given}).items()
    except (RuntimeError, ZeroDivisionError):
        return None
    return name, float(value)


def _ogb_evaluator(dataset: str) -> Any:
    """Evaluator of an OGB dataset; None if ogb is not installed."""
    # Importing ogb imports `outdated`, whose thread asks the package index for a newer version;
    # without that package, ogb asks nothing.
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


def _bin_starts(count: int, num_bins: int) -> np.ndarray:
    bins = min(num_bins, count)
    return np.arange(bins) * count // bins
