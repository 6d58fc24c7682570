"""How good predictions are, with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

NUM_RESAMPLES = 1000  # of nodes, for the interval of a score that is no plain share


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of predictions for some nodes.

    ``main`` is the accuracy, with Wilson's interval; for several labels per node it is micro F1,
    with a bootstrap interval over nodes.
    """

    metric: str
    main: float
    low: float
    high: float
    macro_f1: float
    balanced_accuracy: float | None
    num_nodes: int

    def to_json(self) -> dict[str, Any]:
        """As a receipt keeps it; ``interval`` is at 95%."""
        return {
            self.metric: self.main,
            "interval": [self.low, self.high],
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "num_nodes": self.num_nodes,
        }


def scores(proba: np.ndarray, y: Tensor, mask: Tensor) -> Scores:
    """Score class probabilities on the labelled nodes under a mask.

    Args:
        proba: (N, C).
        y: (N,) classes or (N, C) labels; -1 = unlabelled.
        mask: Nodes to be judged on, (N,) bool.

    Raises:
        DataError: GFM131 if none of them is labelled.
    """
    import numpy as np
    from sklearn.metrics import f1_score, recall_score

    from graphfm.errors import DataError
    from graphfm.training.metrics import wilson_interval

    labels = y.numpy()
    known = mask.numpy() & (labels >= 0 if labels.ndim == 1 else (labels >= 0).all(axis=1))
    if not known.any():
        raise DataError("GFM131", "there is no labelled node to score on")
    truth, given = labels[known], proba[known]
    if labels.ndim == 2:
        return _multilabel(truth, (given >= 0.5).astype(np.int8))
    guess = given.argmax(axis=1)
    share = float((guess == truth).mean())
    low, high = wilson_interval(share, len(truth))
    classes = np.unique(truth)
    return Scores(
        metric="accuracy",
        main=share,
        low=low,
        high=high,
        macro_f1=float(f1_score(truth, guess, labels=classes, average="macro", zero_division=0)),
        balanced_accuracy=float(
            recall_score(truth, guess, labels=classes, average="macro", zero_division=0)
        ),
        num_nodes=len(truth),
    )


def _multilabel(truth: np.ndarray, guess: np.ndarray) -> Scores:
    import numpy as np
    from scipy.stats import bootstrap
    from sklearn.metrics import f1_score

    def micro_f1(hits: np.ndarray, errors: np.ndarray, axis: int = -1) -> np.ndarray:
        hits, errors = hits.sum(axis=axis), errors.sum(axis=axis)
        return 2 * hits / np.maximum(2 * hits + errors, 1)

    hits = ((truth == 1) & (guess == 1)).sum(axis=1)
    errors = (truth != guess).sum(axis=1)
    main = float(micro_f1(hits, errors))
    low, high = main, main
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
    return Scores(
        metric="micro_f1",
        main=main,
        low=float(low),
        high=float(high),
        macro_f1=float(f1_score(truth, guess, average="macro", zero_division=0)),
        balanced_accuracy=None,
        num_nodes=len(truth),
    )
