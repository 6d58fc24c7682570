"""Scores of predicted classes and of prediction sets, with confidence intervals.

Shapes:
    N  nodes   n  evaluated nodes   C  classes or labels   B  bootstrap resamples
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from graphfm.errors import DataError
from graphfm.metrics import brier, calibration_error, roc_auc, top_confidence, wilson_interval

NUM_RESAMPLES = 1000  # bootstrap resamples of nodes, for scores without a formula of the interval

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of predicted classes.

    Args:
        metric: Name of the main score: ``accuracy``, or ``micro_f1`` with several labels per node.
        main: Value of the main score.
        low: Lower end of its 95% confidence interval: Wilson's for accuracy, which is valid near 0
            and 1 and for few nodes; a bootstrap over nodes for micro F1.
        high: Upper end of that interval.
        macro_f1: Mean F1 of the classes that occur.
        balanced_accuracy: Mean recall of the classes that occur; None with several labels per node.
        roc_auc: Mean area under the ROC curve, each class against the rest; None if undefined.
        brier: Brier score.
        ece: Expected calibration error over 15 bins of equal mass.
        ece_uncalibrated: Calibration error before temperature scaling; None if unknown.
        bootstrap: 95% bootstrap interval over nodes of each score of the predicted classes.
        num_nodes: Number of evaluated nodes, n.
        influence: Influence of each evaluated node on the main score, (n,). Their mean is the
            score, their spread gives its standard error. Not saved.
    """

    metric: str
    main: float
    low: float
    high: float
    macro_f1: float
    balanced_accuracy: float | None
    roc_auc: float | None
    brier: float
    ece: float
    ece_uncalibrated: float | None
    bootstrap: dict[str, Interval]
    num_nodes: int
    influence: np.ndarray = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the scores as plain data; ``interval`` and ``bootstrap`` are at 95%."""
        return {
            self.metric: self.main,
            "interval": [self.low, self.high],
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "roc_auc": self.roc_auc,
            "brier": self.brier,
            "ece": self.ece,
            "ece_uncalibrated": self.ece_uncalibrated,
            "bootstrap": {name: list(interval) for name, interval in self.bootstrap.items()},
            "num_nodes": self.num_nodes,
        }


def scores(
    proba: np.ndarray, y: Tensor, mask: Tensor, *, uncalibrated: np.ndarray | None = None
) -> Scores:
    """Score class probabilities on the labelled nodes under a mask.

    Args:
        proba: Probabilities, (N, C).
        y: Classes, (N,), or labels, (N, C); -1 = unlabelled.
        mask: Nodes to evaluate, (N,) bool.
        uncalibrated: Probabilities before temperature scaling, (N, C). Default: unknown.

    Raises:
        DataError: GFM131 if none of the nodes is labelled.
    """
    known = labelled_under(mask, y)
    truth, given = y.numpy()[known], proba[known]
    multilabel = truth.ndim == 2
    values, bootstrap = (
        _label_scores(truth, given >= 0.5) if multilabel else _class_scores(truth, given)
    )
    metric = "micro_f1" if multilabel else "accuracy"
    low, high = bootstrap[metric]
    if metric == "accuracy":
        low, high = wilson_interval(values[metric], len(truth))
    before = None
    if uncalibrated is not None:
        before = calibration_error(*top_confidence(truth, uncalibrated[known]))
    return Scores(
        metric=metric,
        main=values[metric],
        low=low,
        high=high,
        macro_f1=values["macro_f1"],
        balanced_accuracy=values.get("balanced_accuracy"),
        roc_auc=roc_auc(truth, given),
        brier=brier(truth, given),
        ece=calibration_error(*top_confidence(truth, given)),
        ece_uncalibrated=before,
        bootstrap=bootstrap,
        num_nodes=len(truth),
        influence=_f1_influence(truth, given >= 0.5)
        if multilabel
        else (truth == given.argmax(axis=1)).astype(np.float64),
    )


def set_scores(sets: np.ndarray, y: Tensor, mask: Tensor, *, coverage: float) -> dict[str, Any]:
    """Score prediction sets on the labelled nodes under a mask.

    Args:
        sets: Prediction sets, (N, C) bool.
        y: Classes, (N,), or labels, (N, C); -1 = unlabelled.
        mask: Nodes to evaluate, (N,) bool.
        coverage: Requested share of sets that contain the true class, between 0 and 1.

    Returns:
        ``asked``, the requested coverage; ``coverage``, the share of sets that contain the true
        class, or all true labels, with its 95% ``interval`` by Wilson; ``mean_size``, classes per
        set; ``one_class``, the share of sets with one class.
    """
    known = labelled_under(mask, y)
    truth, given = y.numpy()[known], sets[known]
    if truth.ndim == 2:
        covered = (given | (truth != 1)).all(axis=1)
    else:
        covered = given[np.arange(len(truth)), truth]
    sizes = given.sum(axis=1)
    return {
        "asked": coverage,
        "coverage": float(covered.mean()),
        "interval": list(wilson_interval(float(covered.mean()), len(truth))),
        "mean_size": float(sizes.mean()),
        "one_class": float((sizes == 1).mean()),
    }


def labelled_under(mask: Tensor, y: Tensor) -> np.ndarray:
    """Return the labelled nodes under a mask, (N,) bool; with several labels, all must be known.

    Raises:
        DataError: GFM131 if there is none.
    """
    labels = y.numpy()
    known: np.ndarray = mask.numpy() & (
        labels >= 0 if labels.ndim == 1 else (labels >= 0).all(axis=1)
    )
    if not known.any():
        raise DataError("GFM131", "none of the nodes to evaluate has a label")
    return known


def _class_scores(
    truth: np.ndarray, proba: np.ndarray
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Score the most probable class; mean scores cover the classes that occur.

    A bootstrap over nodes is a multinomial sample of the cells of the confusion matrix: 1,000
    resamples take as long for a million nodes as for a thousand.

    Args:
        truth: Classes, (n,).
        proba: Probabilities, (n, C).
    """
    num_classes = proba.shape[1]
    cells, counts = np.unique(truth * num_classes + proba.argmax(axis=1), return_counts=True)
    row, column = cells // num_classes, cells % num_classes
    correct = row == column
    present = np.unique(truth)

    def per_class(resamples: np.ndarray, classes: np.ndarray) -> np.ndarray:  # (B, cells) -> (B, C)
        table = np.zeros((len(cells), num_classes))
        table[np.arange(len(cells)), classes] = 1
        found: np.ndarray = (resamples @ table)[:, present]
        return found

    def all_scores(resamples: np.ndarray) -> dict[str, np.ndarray]:
        hits = per_class(resamples * correct, row)
        num_true, num_predicted = per_class(resamples, row), per_class(resamples, column)
        drawn = num_true > 0  # a class without a node in the resample does not enter the means
        recall = hits / np.maximum(num_true, 1)
        f1 = 2 * hits / np.maximum(num_true + num_predicted, 1)
        return {
            "accuracy": (resamples * correct).sum(axis=1) / resamples.sum(axis=1),
            "balanced_accuracy": (recall * drawn).sum(axis=1) / drawn.sum(axis=1),
            "macro_f1": (f1 * drawn).sum(axis=1) / drawn.sum(axis=1),
        }

    rng = np.random.default_rng(0)
    resamples = rng.multinomial(len(truth), counts / len(truth), size=NUM_RESAMPLES)
    values = {name: float(v[0]) for name, v in all_scores(counts[None, :]).items()}
    return values, _percentiles(all_scores(resamples))


def _label_scores(
    truth: np.ndarray, predicted: np.ndarray
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Score several labels per node: micro F1 with its interval, and macro F1.

    Args:
        truth: Labels of 0 and 1, (n, C).
        predicted: Predicted labels, (n, C) bool.
    """
    from scipy.stats import bootstrap
    from sklearn.metrics import f1_score

    def micro_f1(hits: np.ndarray, errors: np.ndarray, axis: int = -1) -> np.ndarray:
        hits, errors = hits.sum(axis=axis), errors.sum(axis=axis)
        return 2 * hits / np.maximum(2 * hits + errors, 1)

    hits = ((truth == 1) & predicted).sum(axis=1)
    errors = ((truth == 1) != predicted).sum(axis=1)
    main = float(micro_f1(hits, errors))
    interval = (main, main)
    if len(truth) > 1:
        low, high = bootstrap(
            (hits, errors),
            micro_f1,
            paired=True,
            n_resamples=NUM_RESAMPLES,
            batch=10,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        interval = (float(low), float(high))
    macro = float(f1_score(truth, predicted.astype(np.int8), average="macro", zero_division=0))
    return {"micro_f1": main, "macro_f1": macro}, {"micro_f1": interval}


def _f1_influence(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the influence of each node on micro F1, 2 h / (2 h + e), plus the score, (n,).

    Args:
        truth: Labels of 0 and 1, (n, C).
        predicted: Predicted labels, (n, C) bool.
    """
    hits = ((truth == 1) & predicted).sum(axis=1)
    errors = ((truth == 1) != predicted).sum(axis=1)
    h, e = hits.mean(), errors.mean()
    whole = max(2 * h + e, 1 / len(truth))
    change = 2 * (e * (hits - h) - h * (errors - e)) / whole**2
    return np.asarray(2 * h / whole + change)


def _percentiles(resampled: dict[str, np.ndarray]) -> dict[str, Interval]:
    """95% percentile interval of each score."""
    found = {name: np.quantile(values, [0.025, 0.975]) for name, values in resampled.items()}
    return {name: (float(low), float(high)) for name, (low, high) in found.items()}
