"""Numbers of the report: confusion matrix, class table, reliability, uncertain nodes, map.

Shapes:
    Q  evaluated nodes   C  classes or labels   D  width of the states   B  bins
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphfm.metrics import top_confidence, wilson_interval

NUM_BINS = 15  # as metrics.calibration_error, whose value stands beside the diagram


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Predictions for nodes whose label is known.

    Args:
        part: Part of the split that the nodes belong to: ``test`` or ``validation``.
        y: Classes, (Q,), or labels of 0 and 1, (Q, C).
        proba: Calibrated probabilities, (Q, C).
        uncalibrated: Probabilities before calibration, (Q, C).
        sets: Prediction sets, (Q, C) bool. Default: none.
        classes: Names of the classes or labels, (C,).
        train_counts: Number of training nodes of each class, (C,). Default: unknown.
    """

    part: str
    y: np.ndarray
    proba: np.ndarray
    uncalibrated: np.ndarray
    sets: np.ndarray | None = None
    classes: tuple[str, ...]
    train_counts: np.ndarray | None = None

    @property
    def multilabel(self) -> bool:
        """True if a node may have several labels."""
        return self.y.ndim == 2

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class, (Q,), or labels with probability 0.5 or more, (Q, C)."""
        return (self.proba >= 0.5).astype(np.int8) if self.multilabel else self.proba.argmax(axis=1)


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One row of the class table; a score without nodes to count is NaN."""

    name: str
    num_train: int | None
    num_true: int
    num_predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Predictions of similar confidence, and the share of them that is correct."""

    low: float
    high: float
    num: int
    confidence: float
    share: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class UncertainNode:
    """A node with its two most probable classes, and its label if it has one."""

    id: str
    first: str
    p_first: float
    second: str
    p_second: float
    label: str


def confusion(evaluated: Evaluated) -> np.ndarray:
    """Confusion matrix (C, C): rows are true classes, columns are predicted classes."""
    size = len(evaluated.classes)
    return np.bincount(evaluated.y * size + evaluated.predicted, minlength=size * size).reshape(
        size, size
    )


def frequent_errors(matrix: np.ndarray, most: int = 8) -> list[tuple[int, int, int]]:
    """Return the most frequent errors as (true, predicted, count), most frequent first.

    >>> frequent_errors(np.array([[5, 2], [0, 3]]))
    [(0, 1, 2)]
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, wrong.shape)
    found = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist(), strict=True)
    return [(i, j, n) for i, j, n in found if n]


def class_rows(evaluated: Evaluated) -> list[ClassRow]:
    """Compute precision, recall and F1 of each class."""
    rows = []
    for c, name in enumerate(evaluated.classes):
        truth = evaluated.y[:, c] == 1 if evaluated.multilabel else evaluated.y == c
        given = evaluated.predicted[:, c] == 1 if evaluated.multilabel else evaluated.predicted == c
        hits, num_true, num_predicted = (
            int((truth & given).sum()),
            int(truth.sum()),
            int(given.sum()),
        )
        rows.append(
            ClassRow(
                name=name,
                num_train=None
                if evaluated.train_counts is None
                else int(evaluated.train_counts[c]),
                num_true=num_true,
                num_predicted=num_predicted,
                precision=hits / num_predicted if num_predicted else float("nan"),
                recall=hits / num_true if num_true else float("nan"),
                f1=2 * hits / (num_true + num_predicted)
                if num_true + num_predicted
                else float("nan"),
            )
        )
    return rows


def reliability_bins(y: np.ndarray, proba: np.ndarray) -> list[Bin]:
    """Group predictions by confidence, in bins of equally many predictions.

    There are at most :data:`NUM_BINS` bins, and fewer if a bin would hold less than 25
    predictions: its confidence interval would span half of the scale.

    Args:
        y: Classes, (Q,), or labels of 0 and 1, (Q, C).
        proba: Probabilities, (Q, C).
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


def most_uncertain(
    proba: np.ndarray,
    ids: Sequence[str],
    classes: Sequence[str],
    labels: Sequence[str],
    *,
    multilabel: bool,
    most: int = 15,
) -> list[UncertainNode]:
    """Return the nodes whose two most probable classes differ least, smallest difference first.

    With several labels per node: the nodes with a label probability closest to 0.5; ``first`` and
    ``second`` are then the two labels closest to 0.5.

    Args:
        proba: Probabilities, (Q, C).
        ids: The user's name of each node, (Q,).
        classes: Names of the classes, (C,).
        labels: Label of each node as text, (Q,); empty for an unlabelled node.
        multilabel: If true, a node may have several labels.
        most: Maximum number of nodes to return.
    """
    if proba.shape[1] < 2:
        return []
    nearness = np.abs(proba - 0.5) if multilabel else -proba
    top = np.argsort(nearness, axis=1, kind="stable")[:, :2]
    rows = np.arange(len(proba))
    first, second = proba[rows, top[:, 0]], proba[rows, top[:, 1]]
    margin = np.abs(first - 0.5) if multilabel else first - second
    return [
        UncertainNode(
            id=ids[i],
            first=classes[top[i, 0]],
            p_first=float(first[i]),
            second=classes[top[i, 1]],
            p_second=float(second[i]),
            label=labels[i],
        )
        for i in np.argsort(margin, kind="stable")[:most].tolist()
    ]


def project(states: np.ndarray, *, tsne: bool = False, seed: int = 0) -> tuple[np.ndarray, str]:
    """Project node states onto a plane.

    Args:
        states: Node states, (Q, D).
        tsne: If true, use t-SNE: it separates groups better, but the distances between groups and
            their sizes mean nothing. Default: principal components, which are deterministic and
            keep distances.
        seed: Seed of t-SNE.

    Returns:
        Points, (Q, 2), and a phrase that names the method.
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
    return points, f"the first two principal components, which keep {share:.0%} of the variance"
