"""What a report shows of a fitted model, as plain numbers.

Shapes:
    Q  judged nodes   C  classes or labels   D  width of the states   B  bins
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphfm.metrics import top_confidence, wilson_interval

NUM_BINS = 15  # as the expected calibration error beside the diagram has


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Predictions for nodes whose label is known.

    Args:
        part: Of the split: ``test``, ``val``; said beside every number.
        y: (Q,) classes, or (Q, C) labels of 0 and 1.
        proba: (Q, C), calibrated.
        uncalibrated: (Q, C), before that.
        sets: (Q, C) bool, prediction sets; None where they could not be made.
        classes: Name of each class or label, (C,).
        train_counts: Training nodes of each class, (C,); None where the split is not known.
    """

    part: str
    y: np.ndarray
    proba: np.ndarray
    uncalibrated: np.ndarray
    sets: np.ndarray | None = None
    classes: tuple[str, ...]
    train_counts: np.ndarray | None = None

    @property
    def several(self) -> bool:
        """Whether a node may have several labels."""
        return self.y.ndim == 2

    @property
    def guess(self) -> np.ndarray:
        """Likeliest class, (Q,); labels above one half, (Q, C)."""
        return (self.proba >= 0.5).astype(np.int8) if self.several else self.proba.argmax(axis=1)


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class of the per-class table; a share is NaN where nothing was to be counted."""

    name: str
    num_train: int | None
    num_judged: int
    num_guessed: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Predictions of about the same confidence, and how many of them were right."""

    low: float
    high: float
    num: int
    confidence: float
    share: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A node that the model is unsure of.

    ``known`` is its label where there is one, ``first`` and ``second`` the likeliest two.
    """

    id: str
    first: str
    p_first: float
    second: str
    p_second: float
    known: str


def confusion(judged: Judged) -> np.ndarray:
    """How often class i was taken for class j, (C, C); for one class per node."""
    size = len(judged.classes)
    return np.bincount(judged.y * size + judged.guess, minlength=size * size).reshape(size, size)


def mix_ups(matrix: np.ndarray, most: int = 8) -> list[tuple[int, int, int]]:
    """The most frequent errors as (true, predicted, count), most frequent first.

    >>> mix_ups(np.array([[5, 2], [0, 3]]))
    [(0, 1, 2)]
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, wrong.shape)
    found = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), strict=True)
    return [(i, j, n) for i, j, n in found if n]


def class_rows(judged: Judged) -> list[ClassRow]:
    """Precision, recall and F1 of each class."""
    rows = []
    for c, name in enumerate(judged.classes):
        truth = judged.y[:, c] == 1 if judged.several else judged.y == c
        given = judged.guess[:, c] == 1 if judged.several else judged.guess == c
        hits, num_true, num_given = int((truth & given).sum()), int(truth.sum()), int(given.sum())
        rows.append(
            ClassRow(
                name=name,
                num_train=None if judged.train_counts is None else int(judged.train_counts[c]),
                num_judged=num_true,
                num_guessed=num_given,
                precision=hits / num_given if num_given else float("nan"),
                recall=hits / num_true if num_true else float("nan"),
                f1=2 * hits / (num_true + num_given) if num_true + num_given else float("nan"),
            )
        )
    return rows


def reliability(y: np.ndarray, proba: np.ndarray) -> list[Bin]:
    """Bins of confidence that hold equally many predictions each, as ``calibration_error`` has.

    Fewer of them where a bin would hold less than 25: its interval would span half of the scale.

    Args:
        y: (Q,) classes, or (Q, C) labels of 0 and 1.
        proba: (Q, C).
    """
    confidence, right = top_confidence(y, proba)
    order = np.argsort(confidence, kind="stable")
    return [
        Bin(
            low=float(confidence[places[0]]),
            high=float(confidence[places[-1]]),
            num=len(places),
            confidence=float(confidence[places].mean()),
            share=float(right[places].mean()),
            interval=wilson_interval(float(right[places].mean()), len(places)),
        )
        for places in np.array_split(order, min(NUM_BINS, max(3, len(order) // 25)))
        if len(places)
    ]


def most_doubtful(
    proba: np.ndarray,
    ids: Sequence[str],
    classes: Sequence[str],
    known: Sequence[str],
    *,
    several: bool,
    most: int = 15,
) -> list[Doubt]:
    """Nodes whose likeliest two classes are nearest to each other, nearest first.

    Where a node may have several labels, those with a label nearest to one half; ``second`` is
    then the second nearest.

    Args:
        proba: (Q, C).
        ids: The user's name of each node, (Q,).
        classes: (C,).
        known: Label of each node as text, empty where there is none, (Q,).
        several: Whether a node may have several labels.
        most: Nodes at most.
    """
    if proba.shape[1] < 2:
        return []
    nearness = np.abs(proba - 0.5) if several else -proba
    top = np.argsort(nearness, axis=1, kind="stable")[:, :2]
    rows = np.arange(len(proba))
    first, second = proba[rows, top[:, 0]], proba[rows, top[:, 1]]
    margin = np.abs(first - 0.5) if several else first - second
    return [
        Doubt(
            id=ids[i],
            first=classes[top[i, 0]],
            p_first=float(first[i]),
            second=classes[top[i, 1]],
            p_second=float(second[i]),
            known=known[i],
        )
        for i in np.argsort(margin, kind="stable")[:most].tolist()
    ]


def map_of(states: np.ndarray, *, tsne: bool = False, seed: int = 0) -> tuple[np.ndarray, str]:
    """States (Q, D) in two dimensions, (Q, 2), and how that was done, in words.

    Principal components by default: nothing random, and distances mean something. t-SNE shows
    groups better, but neither their distances nor their sizes mean anything.
    """
    centred = states - states.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    if tsne and len(states) > 6:
        from sklearn.manifold import TSNE

        scores = left[:, :50] * singular[:50]
        perplexity = min(30.0, (len(states) - 1) / 3)
        model = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
        return model.fit_transform(scores), f"t-SNE, perplexity {perplexity:.0f}, seed {seed}"
    points = np.zeros((len(states), 2))
    points[:, : min(2, len(singular))] = left[:, :2] * singular[:2]
    share = float((singular[:2] ** 2).sum() / max((singular**2).sum(), 1e-30))
    return points, f"the first two principal components, which hold {share:.0%} of the variance"
