"""Logistic regression on a node's own features: the baseline without edges.

The peer ``logistic-hops`` also reads feature means over one and two hops.

Shapes:
    N  nodes   C  classes
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from graphfm.baselines.inputs import Features
from graphfm.baselines.task import Peer, Settings, Task
from graphfm.graphs.graph import Graph

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # inverse penalty, scikit-learn's C
DEFAULT_STRENGTH = 1.0
MAX_ITERATIONS = 200


def logistic(
    graph: Graph, train_mask: Tensor, val_mask: Tensor | None, *, seed: int = 0
) -> np.ndarray:
    """Return class probabilities of all nodes, (N, C).

    The inverse penalty is the best of ``STRENGTHS`` on the validation nodes, or
    ``DEFAULT_STRENGTH`` without any. A graph without features, or with training nodes of one class,
    gets the class frequencies.

    Args:
        graph: The graph; only the labels under the masks are read.
        train_mask: Training nodes, (N,) bool.
        val_mask: Validation nodes, which choose the penalty, (N,) bool. None if there are none.
        seed: Unused: the optimum is unique.
    """
    task = Task.of(graph, train_mask, val_mask)
    if task.own_features is None:
        return np.tile(task.labels.frequencies, (graph.num_nodes, 1))
    best, best_score = np.empty(0), (-1.0, 0.0)
    # From strong to weak penalty, each from the last optimum: a third of the iterations.
    for proba in _path(
        task, task.own_features, STRENGTHS if len(task.labels.val) else (DEFAULT_STRENGTH,)
    ):
        score = task.val_score(proba) if len(task.labels.val) else (0.0, 0.0)
        if score > best_score:
            best, best_score = proba, score
    return best


def _path(task: Task, x: Features, strengths: Sequence[float]) -> Iterator[np.ndarray]:
    """Yield the probabilities of all nodes at each strength, (N, C)."""
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
            # At C=100 full convergence takes thousands of iterations and changes no prediction.
            warnings.simplefilter("ignore", ConvergenceWarning)
            # the reader of the target has said so already
            warnings.filterwarnings("ignore", message="The number of unique classes is greater")
            model.fit(x[labels.train], labels.y_train)
        yield labels.all_classes(model.predict_proba(x))


def _own(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    columns = task.columns(settings["inputs"])
    return next(_path(task, columns, (settings["strength"],)))


def _hops(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return next(_path(task, task.hops, (settings["strength"],)))


DEFAULTS: Settings = {"strength": DEFAULT_STRENGTH}
SPACE = {"strength": (1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 3.0, 10.0, 30.0, 100.0, 1000.0)}
PEERS = {
    "logistic": Peer(fit=_own, defaults=DEFAULTS, space=SPACE, inputs="columns"),
    "logistic-hops": Peer(fit=_hops, defaults=DEFAULTS, space=SPACE),
}
