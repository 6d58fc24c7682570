"""Contract of a task, and the choice of the labels that it shows.

A task is a pure function of (seed, number). :data:`GROUP` consecutive tasks share their structure,
whose positions are then computed once.

Shapes:
    N  nodes   F  feature columns   C  classes   n  shown nodes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GROUP = 16  # tasks of one structure: its positions take as long as two tasks
MAX_CLASSES = 12  # of a made target
MIN_SHOWN = 2
PER_CLASS = (1, 2, 3, 5, 8, 10, 15, 20)  # shown labels a class, for half of the tasks
SHARES = (0.01, 0.5)  # range of the shown share, for the other half
UNEVEN = 0.3  # share of tasks whose classes are shown unevenly
MAX_SHOWN = 0.6  # of a class, so that something is left to predict


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """Features and labels of a task, before some labels are shown.

    Args:
        x: Raw features, (N, F) float32; F may be 0.
        y: Class of each node, (N,) int64, -1 = none.
        prepared: True if ``x`` is transformed already.
    """

    x: np.ndarray
    y: np.ndarray
    prepared: bool = False


def tidy_classes(y: np.ndarray, *, most: int = MAX_CLASSES) -> np.ndarray:
    """Keep the ``most`` largest classes with at least two nodes, numbered from 0; others are -1."""
    counts = np.bincount(y[y >= 0])
    order = np.argsort(-counts, kind="stable")[:most]
    kept = order[counts[order] >= 2]
    place = np.full(max(len(counts), 1), -1)
    place[kept] = np.arange(len(kept))
    return np.where(y >= 0, place[y], -1)


def show_labels(y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """Choose the shown nodes; labels of classes that are not shown are removed.

    Args:
        y: Class of each node, (N,), -1 = none.
        rng: Generator of the task.

    Returns:
        Classes numbered from 0, (N,), and the mask of shown nodes, (N,). None if fewer than two
        classes can be shown, or if nothing is left to predict.
    """
    counts = np.bincount(y[y >= 0])
    if len(counts) < 2:
        return None
    if rng.random() < 0.5:
        wanted = np.full(len(counts), float(rng.choice(PER_CLASS)))
    else:
        wanted = counts * np.exp(rng.uniform(*np.log(SHARES)))
    if rng.random() < UNEVEN:
        wanted = wanted * np.exp(rng.normal(0, 0.7, len(counts)))
    whole = np.floor(wanted + rng.random(len(counts)))
    number = np.minimum(whole, np.floor(MAX_SHOWN * counts)).astype(int)
    keys = np.where(y >= 0, rng.random(len(y)), 2.0)
    order = np.lexsort((keys, y))
    order = order[y[order] >= 0]
    begin = np.cumsum(counts) - counts
    rank = np.empty(len(y), dtype=int)
    rank[order] = np.arange(len(order)) - begin[y[order]]
    labelled = y >= 0
    shown = labelled & (rank < number[np.where(labelled, y, 0)])
    seen = np.unique(y[shown])
    if len(seen) < 2 or shown.sum() < MIN_SHOWN:
        return None
    place = np.full(len(counts), -1)
    place[seen] = rng.permutation(len(seen))
    y = np.where(labelled, place[np.where(labelled, y, 0)], -1)
    return (y, shown) if ((y >= 0) & ~shown).any() else None
