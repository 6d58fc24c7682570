"""Gradient-boosted trees, by scikit-learn's histograms: on features, or on averages over hops too.

Shapes:
    N  nodes   P  columns   C  classes
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphfm.baselines.task import Peer, Settings, Task

# Of 255 bins, nearly all are empty on some thousand nodes: 800 columns take 8 times as long.
BINS = 32
CHUNK = 40  # trees of a class from one look at the validation nodes to the next

DEFAULTS: Settings = {
    "lr": 0.15,
    "leaves": 8,
    "min_leaf": 20,
    "penalty": 0.0,
    "columns": 0.3,  # share that a split may choose from
    "rounds": 80,
}
SPACE: Mapping[str, tuple[Any, ...]] = {
    "lr": (0.05, 0.1, 0.2),
    "leaves": (4, 8, 15, 31),
    "min_leaf": (3, 10, 20),
    "penalty": (0.0, 1.0, 10.0),
    "columns": (0.1, 0.3),
    "rounds": (200,),
}


def _boost(
    x: np.ndarray, task: Task, settings: Settings, *, seed: int, deadline: float
) -> np.ndarray:
    """Class probabilities of every node, (N, C): those of the best number of rounds, on val."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    labels = task.labels
    if len(np.unique(labels.y_train)) == 1:
        return np.tile(labels.frequencies, (task.graph.num_nodes, 1))
    model = HistGradientBoostingClassifier(
        learning_rate=settings["lr"],
        max_leaf_nodes=settings["leaves"],
        min_samples_leaf=settings["min_leaf"],
        l2_regularization=settings["penalty"],
        max_features=settings["columns"],
        max_bins=BINS,
        early_stopping=False,
        warm_start=True,
        random_state=seed,
    )
    best, best_score = 0, (-1.0, 0.0)
    for rounds in range(CHUNK, settings["rounds"] + 1, CHUNK):
        model.set_params(max_iter=rounds).fit(x[labels.train], labels.y_train)
        if not len(labels.val):
            continue
        proba = labels.all_classes(model.predict_proba(x[labels.val]))
        score = task.score_of_val(proba)
        if score > best_score:
            best, best_score = rounds, score
        late = time.process_time() > deadline
        if rounds > best or late or task.race.is_lost(rounds, best_score[0]):
            break
    if not best:
        return labels.all_classes(model.predict_proba(x))
    # Later trees are not undone: the probabilities after so many rounds are read off.
    for rounds, proba in enumerate(model.staged_predict_proba(x), start=1):
        if rounds == best:
            return labels.all_classes(proba)
    raise AssertionError("a round that was never fitted")


def _own(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return _boost(task.prepared, task, settings, seed=seed, deadline=deadline)


def _hops(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return _boost(task.hops, task, settings, seed=seed, deadline=deadline)


PEERS = {
    "trees": Peer(fit=_own, defaults=DEFAULTS, space=SPACE),
    "trees-hops": Peer(fit=_hops, defaults=DEFAULTS, space=SPACE),
}
