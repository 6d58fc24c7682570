"""Targets from the columns of corpus graphs: one column is hidden and predicted from the others.

A target is a binned column, its mean over neighbors, a random projection, a block of exclusive
columns (an attribute with several values), or clusters of a third of the columns. Columns that the
target is made of, and their relatives, leave the input in all hops, for hops are computed later.

Shapes:
    N  nodes   F  columns   C  classes
"""

from __future__ import annotations

import numpy as np

from graphfm.graphs.features.neighbor_mean import mean_matrix
from graphfm.training.tasks.structures import Structure
from graphfm.training.tasks.task import MAX_CLASSES, Target, tidy_classes

MAX_COLUMNS = 256  # candidates of one task
KEPT = (4, 160)  # range of the number of columns that remain, log-uniform
RELATED = 0.9  # |r| to the target above which a column leaves the input
MIN_SHARE = 0.03  # of the nodes that differ from a column's most frequent value
MIN_COLUMNS = 3


def make(structure: Structure, rng: np.random.Generator) -> Target | None:
    """Make a target from columns; None if the graph has too few."""
    columns = _candidates(structure, rng)
    if columns is None:
        return None
    width = columns.shape[1]
    kind = rng.choice(["column", "column", "mean", "projection", "block", "clusters"])
    used = rng.choice(width, size=1)
    if kind == "column":
        y = bin_values(columns[:, used[0]], rng)
    elif kind == "mean":
        mean = mean_matrix(structure.rowptr, structure.col)
        y = bin_values(mean @ columns[:, used[0]], rng)
    elif kind == "projection":
        used = rng.choice(width, size=min(width - 1, int(rng.integers(2, 9))), replace=False)
        scale = columns[:, used].std(axis=0) + 1e-6
        mixed = columns[:, used] / scale @ rng.normal(size=len(used))
        y = bin_values(mixed, rng)
        if rng.random() < 0.5:
            used = used[: len(used) // 2]  # the others stay: part of the answer can be read
    elif kind == "block":
        used = _exclusive(columns, int(used[0]))
        if len(used) < 2:
            return None
        y = np.where(columns[:, used].any(axis=1), columns[:, used].argmax(axis=1), -1)
    else:
        used = rng.choice(width, size=max(1, width // 3), replace=False)
        y = _cluster(columns[:, used], int(rng.integers(2, 9)), rng)
    y = tidy_classes(y)
    if y.max() < 1:
        return None
    left = np.setdiff1d(np.arange(width), used)
    left = left[~_related(columns[:, left], columns[:, used], y)]
    most = int(np.exp(rng.uniform(*np.log(KEPT))))
    left = rng.permutation(left)[:most]
    return Target(x=columns[:, np.sort(left)], y=y)


def bin_values(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a column at values of random nodes into 2 to 9 classes, (N,)."""
    distinct = np.unique(values)
    if len(distinct) <= 2 or rng.random() < 0.4:
        num_cuts = 1
    else:
        num_cuts = min(len(distinct) - 1, int(rng.integers(1, 9)))
    inner = values[(values > distinct[0])]
    cuts = np.unique(rng.choice(inner, size=num_cuts)) if len(inner) else distinct[:0]
    return np.searchsorted(cuts, values, side="right")


def _candidates(structure: Structure, rng: np.random.Generator) -> np.ndarray | None:
    """Return a random choice of columns that vary, (N, F) dense; None if there are too few."""
    raw = structure.raw
    if raw is None:
        return None
    # Two passes: many columns of a bag of words are nearly constant.
    some = np.sort(rng.permutation(raw.shape[1])[: 8 * MAX_COLUMNS])
    dense = raw[:, some] if isinstance(raw, np.ndarray) else raw[:, some].toarray()
    low = dense.min(axis=0)
    varies = (dense != low).mean(axis=0)
    good = np.flatnonzero(np.minimum(varies, (dense != dense.max(axis=0)).mean(0)) >= MIN_SHARE)
    if len(good) < MIN_COLUMNS:
        return None
    begin = int(rng.integers(0, max(1, len(good) - MAX_COLUMNS + 1)))
    found: np.ndarray = dense[:, good[begin : begin + MAX_COLUMNS]].astype(np.float32)
    return found


def _exclusive(columns: np.ndarray, first: int) -> np.ndarray:
    """Return the run of 0/1 columns from ``first`` of which each node has at most one."""
    run = columns[:, first : first + MAX_CLASSES]
    binary = ((run == 0) | (run == 1)).all(axis=0)
    alone = (np.cumsum(run, axis=1) <= 1).all(axis=0)
    length = int(np.argmin(np.append(binary & alone, False)))
    return np.arange(first, first + length)


def _cluster(columns: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return k-means clusters of standardised columns after a few rounds, (N,)."""
    x = (columns - columns.mean(axis=0)) / (columns.std(axis=0) + 1e-6)
    centers = x[rng.choice(len(x), size=min(count, len(x)), replace=False)]
    nearest = np.zeros(len(x), dtype=int)
    for _ in range(5):
        nearest = (centers**2).sum(axis=1)[None] / 2 - x @ centers.T
        nearest = nearest.argmin(axis=1)
        member = np.eye(len(centers))[nearest]
        centers = member.T @ x / np.maximum(member.sum(axis=0), 1)[:, None]
    return nearest


def _related(columns: np.ndarray, used: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the mask of columns with |r| > RELATED to a used column or to a class, (F,)."""
    sources = np.concatenate([used, y[:, None] == np.arange(y.max() + 1), y[:, None]], axis=1)
    return (np.abs(_standard(columns).T @ _standard(sources)) > RELATED).any(axis=1)


def _standard(columns: np.ndarray) -> np.ndarray:
    """Scale columns to mean 0 and length 1."""
    centered = columns - columns.mean(axis=0)
    return centered / (np.sqrt((centered**2).sum(axis=0)) + 1e-9)
