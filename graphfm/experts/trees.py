"""Boosted trees as an expert: grown by scikit-learn, stored and evaluated as tensors.

Trees split a column at a threshold, which a ridge cannot. Added to all other experts they gain 0.8
points on 23 families of pretraining graphs. A checkpoint holds them as plain arrays.

Shapes:
    N  nodes   n  training nodes   P  columns   C  classes   T  trees   L  nodes of a tree
    K  scores: C, or 1 for two classes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_ROWS = 5000  # training nodes; with 20 classes they take 4 s
MIN_ROWS = 60  # with fewer, two thirds of them predict the other third badly
MAX_CLASSES = 24  # each class takes one tree per turn
NUM_FOLDS = 3
TURNS = 40
RATE = 0.15
LEAVES = 8
BINS = 63
L2_PENALTY = 1.0  # on the values of leaves
MIN_PROBABILITY = 1e-3  # added to each probability
ROWS = 1 << 14  # rows at once: the columns that a tree reads stay in the cache

Trees = Mapping[str, Tensor]
"""Arrays of all trees.

``feature``, ``left``, ``right`` int64 and ``threshold``, ``value`` float64 describe the nodes of
trees, (T, L). ``column`` (T,) is the score that a tree adds to, ``depth`` (T,) its levels.
``first`` (K,) holds the initial scores. ``classes`` are those of the training rows, at most C.
"""


def can_grow(num_rows: int, num_classes: int) -> bool:
    """True if the training nodes are enough, and the classes not too many."""
    return num_rows >= MIN_ROWS and num_classes <= MAX_CLASSES


def grow(x: Tensor, y: Tensor, num_classes: int, *, seed: int) -> tuple[Trees, Tensor]:
    """Grow trees on all rows, and by folds for held-out predictions.

    Args:
        x: Columns of the training rows, (n, P).
        y: Class of each row, (n,).
        num_classes: Number of classes C.
        seed: Seed of the folds.

    Returns:
        The trees of all rows, and held-out log-probabilities of each row, (n, C).
    """
    fold = torch.from_numpy(np.random.default_rng(seed).permutation(len(y)) % NUM_FOLDS)
    held_out = torch.empty(len(y), num_classes)
    for k in range(NUM_FOLDS):
        own = fold == k
        others = _grow(x[~own], y[~own])
        held_out[own] = predict(others, x[own], num_classes)
    return _grow(x, y), held_out


def predict(trees: Trees, x: Tensor, num_classes: int) -> Tensor:
    """Return log-probabilities, all finite: (N, P) -> (N, C)."""
    parts = [_scores(trees, part.double().numpy()) for part in x.split(ROWS)]
    scores = torch.from_numpy(np.concatenate(parts))
    if len(trees["classes"]) == 2:  # one score, the log odds of the second class
        scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
    proba = torch.full((len(x), num_classes), MIN_PROBABILITY, dtype=torch.float64)
    proba[:, trees["classes"]] += scores.softmax(dim=1)
    return proba.log().float()


def _scores(trees: Trees, x: np.ndarray) -> np.ndarray:
    """Sum of all trees, (N, P) -> (N, K): per tree a few levels, all rows at once."""
    arrays = {name: values.numpy() for name, values in trees.items()}
    scores = np.tile(arrays["first"], (len(x), 1))
    begin = np.arange(len(x)) * x.shape[1]
    cells = x.ravel()
    for tree, column in enumerate(arrays["column"]):
        feature, threshold, left, right, value = (
            arrays[name][tree] for name in ("feature", "threshold", "left", "right", "value")
        )
        at = np.zeros(len(x), dtype=np.int64)
        for _ in range(int(arrays["depth"][tree])):  # a leaf is its own child
            at = np.where(cells[begin + feature[at]] <= threshold[at], left[at], right[at])
        scores[:, column] += value[at]
    return scores


def _grow(x: Tensor, y: Tensor) -> Trees:
    """Grow trees on all rows and convert them to tensors."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits  # sklearn brings it

    if len(y.unique()) == 1:  # a fold may lack the rare classes
        return _stump(y[:1])
    grower: Any = HistGradientBoostingClassifier(
        max_iter=TURNS,
        learning_rate=RATE,
        max_leaf_nodes=LEAVES,
        max_bins=BINS,
        l2_regularization=L2_PENALTY,
        early_stopping=False,
        random_state=0,
    )
    with threadpool_limits(torch.get_num_threads()):
        grower.fit(x.numpy(), y.numpy())
    turns = [list(enumerate(turn)) for turn in grower._predictors]
    nodes = [tree.nodes for turn in turns for _, tree in turn]
    size = max(map(len, nodes))
    shape = (len(nodes), size)
    kept: dict[str, Any] = {
        "feature": np.zeros(shape, np.int64),
        "left": np.tile(np.arange(size), (len(nodes), 1)),  # a leaf is its own child
        "right": np.tile(np.arange(size), (len(nodes), 1)),
        "threshold": np.zeros(shape),
        "value": np.zeros(shape),
    }
    for place, tree in enumerate(nodes):
        inner = np.flatnonzero(tree["is_leaf"] == 0)
        kept["feature"][place, inner] = tree["feature_idx"][inner]
        kept["threshold"][place, inner] = tree["num_threshold"][inner]
        kept["left"][place, inner] = tree["left"][inner]
        kept["right"][place, inner] = tree["right"][inner]
        kept["value"][place, : len(tree)] = tree["value"]
    return {
        **{name: torch.from_numpy(values) for name, values in kept.items()},
        "column": torch.tensor([column for turn in turns for column, _ in turn]),
        "depth": torch.tensor([int(tree["depth"].max()) for tree in nodes]),
        "first": torch.from_numpy(np.array(grower._baseline_prediction, dtype=np.float64).ravel()),
        "classes": torch.from_numpy(grower.classes_.astype(np.int64)),
    }


def _stump(one: Tensor) -> Trees:
    """Trees that predict one class, (1,), for every row."""
    whole, number = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.float64)
    return {
        "feature": whole,
        "left": whole,
        "right": whole,
        "threshold": number,
        "value": number,
        "column": torch.zeros(1, dtype=torch.int64),
        "depth": torch.zeros(1, dtype=torch.int64),
        "first": torch.zeros(1, dtype=torch.float64),
        "classes": one,
    }
