"""Logistic regression on a node's own features: what there is to gain without the graph."""

from __future__ import annotations

import warnings

import numpy as np
from torch import Tensor

from graphfm.baselines.inputs import KnownLabels, known_labels, scaled_features
from graphfm.graphs.graph import Graph

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # of C, the inverse of the penalty
DEFAULT_STRENGTH = 1.0


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
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    labels = known_labels(graph, train_mask, val_mask)
    x = scaled_features(graph)
    present = np.unique(labels.y_train)
    if x is None or len(present) == 1:
        return np.tile(labels.frequencies, (graph.num_nodes, 1))

    model = LogisticRegression(max_iter=200, warm_start=True)
    best, best_score = np.empty(0), (-1.0, 0.0)
    # From strong to weak penalty, each starting at the last optimum: a third of the iterations.
    for strength in STRENGTHS if len(labels.val) else (DEFAULT_STRENGTH,):
        model.set_params(C=strength)
        with warnings.catch_warnings():
            # At C=100 the last digits take thousands of iterations and move no prediction.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x[labels.train], labels.y_train)
        proba = _all_classes(model.predict_proba(x), present, labels)
        score = labels.val_score(proba) if len(labels.val) else (0.0, 0.0)
        if score > best_score:
            best, best_score = proba, score
    return best


def _all_classes(proba: np.ndarray, present: np.ndarray, labels: KnownLabels) -> np.ndarray:
    """Probabilities with a column of zeros for each class no training node has."""
    full = np.zeros((len(proba), labels.num_classes))
    full[:, present] = proba
    return full
