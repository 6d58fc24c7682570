"""How good predictions are, with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NUM_RESAMPLES = 1000  # of nodes, for the interval of a score that is no plain share

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of predictions for some nodes.

    ``main`` is the accuracy, with Wilson's interval, which holds near 0 and 1 and for few nodes;
    for several labels per node it is micro F1, with a bootstrap interval over nodes. ``bootstrap``
    has such an interval of every score of the guess. ``ece`` has 15 bins of equal mass;
    ``ece_uncalibrated`` is that before temperature scaling, None where there was none.
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

    def to_json(self) -> dict[str, Any]:
        """As a receipt keeps it; ``interval`` and ``bootstrap`` are at 95%."""
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
        proba: (N, C).
        y: (N,) classes or (N, C) labels; -1 = unlabelled.
        mask: Nodes to be judged on, (N,) bool.
        uncalibrated: (N, C) probabilities before temperature scaling, where they differ.

    Raises:
        DataError: GFM131 if none of them is labelled.
    """
    from graphfm.metrics import brier, calibration_error, roc_auc, top_confidence, wilson_interval

    known = judged(y, mask)
    truth, given = y.numpy()[known], proba[known]
    of_guess = _of_labels(truth, given >= 0.5) if truth.ndim == 2 else _of_classes(truth, given)
    values, bootstrap = of_guess
    metric = "micro_f1" if truth.ndim == 2 else "accuracy"
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
    )


def set_scores(sets: np.ndarray, y: Tensor, mask: Tensor, *, coverage: float) -> dict[str, Any]:
    """How prediction sets keep their promise, on the labelled nodes under a mask.

    Args:
        sets: (N, C) bool.
        y: (N,) classes or (N, C) labels; -1 = unlabelled.
        mask: Nodes to be judged on, (N,) bool.
        coverage: What was asked for.

    Returns:
        ``asked``; ``coverage``, the share of sets that hold the class, or all labels, of their
        node, and its 95% ``interval`` by Wilson; ``mean_size``; ``one_class``, the share of sets of
        just one.
    """
    import numpy as np

    from graphfm.metrics import wilson_interval

    known = judged(y, mask)
    truth, given = y.numpy()[known], sets[known]
    if truth.ndim == 2:
        right = (given | (truth != 1)).all(axis=1)
    else:
        right = given[np.arange(len(truth)), truth]
    sizes = given.sum(axis=1)
    return {
        "asked": coverage,
        "coverage": float(right.mean()),
        "interval": list(wilson_interval(float(right.mean()), len(truth))),
        "mean_size": float(sizes.mean()),
        "one_class": float((sizes == 1).mean()),
    }


def judged(y: Tensor, mask: Tensor) -> np.ndarray:
    """The nodes under a mask whose label is known, (N,) bool.

    Raises:
        DataError: GFM131 if there is none.
    """
    from graphfm.errors import DataError

    labels = y.numpy()
    known: np.ndarray = mask.numpy() & (
        labels >= 0 if labels.ndim == 1 else (labels >= 0).all(axis=1)
    )
    if not known.any():
        raise DataError("GFM131", "there is no labelled node to score on")
    return known


def _of_classes(
    truth: np.ndarray, proba: np.ndarray
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Scores of the likeliest class, of the classes that are there, and their intervals.

    A bootstrap over nodes is a multinomial draw of the cells of the confusion matrix: 1,000 of them
    take as long for a million nodes as for a thousand.
    """
    import numpy as np

    num_classes = proba.shape[1]
    cells, counts = np.unique(truth * num_classes + proba.argmax(axis=1), return_counts=True)
    row, column = cells // num_classes, cells % num_classes
    hit = row == column
    present = np.unique(truth)

    def per_class(draws: np.ndarray, classes: np.ndarray) -> np.ndarray:  # (B, cells) -> (B, C)
        table = np.zeros((len(cells), num_classes))
        table[np.arange(len(cells)), classes] = 1
        found: np.ndarray = (draws @ table)[:, present]
        return found

    def all_scores(draws: np.ndarray) -> dict[str, np.ndarray]:
        right = per_class(draws * hit, row)
        of_class, named = per_class(draws, row), per_class(draws, column)
        drawn = of_class > 0  # a class that a resample lost is not counted there
        recall = right / np.maximum(of_class, 1)
        f1 = 2 * right / np.maximum(of_class + named, 1)
        return {
            "accuracy": (draws * hit).sum(axis=1) / draws.sum(axis=1),
            "balanced_accuracy": (recall * drawn).sum(axis=1) / drawn.sum(axis=1),
            "macro_f1": (f1 * drawn).sum(axis=1) / drawn.sum(axis=1),
        }

    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(truth), counts / len(truth), size=NUM_RESAMPLES)
    values = {name: float(v[0]) for name, v in all_scores(counts[None, :]).items()}
    return values, _percentiles(all_scores(draws))


def _of_labels(
    truth: np.ndarray, guess: np.ndarray
) -> tuple[dict[str, float], dict[str, Interval]]:
    """F1 over all labels and mean F1 of a label, and the interval of the first."""
    import numpy as np
    from scipy.stats import bootstrap
    from sklearn.metrics import f1_score

    def micro_f1(hits: np.ndarray, errors: np.ndarray, axis: int = -1) -> np.ndarray:
        hits, errors = hits.sum(axis=axis), errors.sum(axis=axis)
        return 2 * hits / np.maximum(2 * hits + errors, 1)

    hits = ((truth == 1) & guess).sum(axis=1)
    errors = ((truth == 1) != guess).sum(axis=1)
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
    macro = float(f1_score(truth, guess.astype(np.int8), average="macro", zero_division=0))
    return {"micro_f1": main, "macro_f1": macro}, {"micro_f1": interval}


def _percentiles(draws: dict[str, np.ndarray]) -> dict[str, Interval]:
    import numpy as np

    found = {name: np.quantile(values, [0.025, 0.975]) for name, values in draws.items()}
    return {name: (float(low), float(high)) for name, (low, high) in found.items()}
