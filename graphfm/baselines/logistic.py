"""Logistic regression on a node's own features: what there is to gain without the graph.

The peer ``logistic-hops`` reads averages over one and two hops beside them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from graphfm.baselines.inputs import Features
from graphfm.baselines.task import Peer, Settings, Task
from graphfm.graphs.graph import Graph

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # of C, the inverse of the penalty
DEFAULT_STRENGTH = 1.0
MAX_ITERATIONS = 200


def logistic(
    graph: Graph, train_mask: Tensor, val_mask: Tensor | None, *, seed: int = 0
) -> np.ndarray:
    """Class probabilities of every node, (N, C).

    The inverse penalty C is the best of ``STRENGTHS`` on the validation nodes, ``DEFAULT_STRENGTH``
    without any. A graph without features, or with training nodes of one class, gets the class
    frequencies.

    Args:
        graph: The graph; only the labels under the masks are read.
        train_mask: Nodes to learn from, (N,) bool.
        val_mask: Nodes to choose C by, (N,) bool.
        seed: Not used: the optimum is unique.
    """
    task = Task.of(graph, train_mask, val_mask)
    if task.own_features is None:
        return np.tile(task.labels.frequencies, (graph.num_nodes, 1))
    best, best_score = np.empty(0), (-1.0, 0.0)
    # From strong to weak penalty, each starting at the last optimum: a third of the iterations.
    for proba in _path(
        task, task.own_features, STRENGTHS if len(task.labels.val) else (DEFAULT_STRENGTH,)
    ):
        score = task.val_score(proba) if len(task.labels.val) else (0.0, 0.0)
        if score > best_score:
            best, best_score = proba, score
    return best


def _path(task: Task, x: Features, strengths: Sequence[float]) -> Iterator[np.ndarray]:
    """Probabilities of every node at each strength, (N, C)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    labels = task.labels
    if len(np.unique(labels.y_train)) == 1:
        yield np.tile(labels.frequencies, (task.graph.num_nodes, 1))
        return
    model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
    for strength in strengths:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            # At C=100 the last digits take thousands of iterations and move no prediction.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x[labels.train], labels.y_train)
        yield labels.all_classes(model.predict_proba(x))


def _own(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return next(_path(task, task.features, (settings["strength"],)))


def _hops(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return next(_path(task, task.hops, (settings["strength"],)))


DEFAULTS: Settings = {"strength": DEFAULT_STRENGTH}
SPACE = {"strength": (1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 3.0, 10.0, 30.0, 100.0, 1000.0)}
PEERS = {
    "logistic": Peer(fit=_own, defaults=DEFAULTS, space=SPACE),
    "logistic-hops": Peer(fit=_hops, defaults=DEFAULTS, space=SPACE),
}
