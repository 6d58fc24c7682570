"""Gradient-boosted trees on features, or also on feature means over hops.

Source: scikit-learn's HistGradientBoostingClassifier, after LightGBM (Ke et al. 2017).

Shapes:
    N  nodes   P  columns   C  classes
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphfm.baselines.task import Peer, Settings, Task

# Nearly all of 255 bins are empty with a few thousand nodes, and 800 columns take 8 times as long.
BINS = 32
CHUNK = 40  # trees per class between two validations

DEFAULTS: Settings = {
    "lr": 0.15,
    "leaves": 8,
    "min_leaf": 20,
    "penalty": 0.0,
    "columns": 0.3,  # share of columns that a split may choose from
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
    """Return class probabilities of all nodes, (N, C), after the best number of rounds.

    The number of rounds is chosen by the validation score.
    """
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
        score = task.score_val_rows(proba)
        if score > best_score:
            best, best_score = rounds, score
        late = time.process_time() > deadline
        if rounds > best or late or task.stopping.should_stop(rounds, best_score[0]):
            break
    if not best:
        return labels.all_classes(model.predict_proba(x))
    # The model keeps its later trees: read the probabilities after the best round.
    for rounds, proba in enumerate(model.staged_predict_proba(x), start=1):
        if rounds == best:
            return labels.all_classes(proba)
    raise AssertionError("the best round was not fitted")


def _own(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    x = task.columns(settings["inputs"], transformed=True)
    assert isinstance(x, np.ndarray)
    return _boost(x, task, settings, seed=seed, deadline=deadline)


def _hops(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return _boost(task.hops, task, settings, seed=seed, deadline=deadline)


PEERS = {
    "trees": Peer(fit=_own, defaults=DEFAULTS, space=SPACE, inputs="columns"),
    "trees-hops": Peer(fit=_hops, defaults=DEFAULTS, space=SPACE),
}
