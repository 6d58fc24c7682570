"""Cross-validation over the nodes of one graph.

Shapes:
    N  nodes
"""

from __future__ import annotations

import logging
import re
from typing import Any, Literal, Unpack

import numpy as np
import torch
from sklearn.base import clone

from graphfm.errors import DataError
from graphfm.estimator.base import GraphEstimator
from graphfm.estimator.given import GraphKeywords
from graphfm.graphs.readers.options import ReadOptions
from graphfm.graphs.splits import node_folds
from graphfm.log_lines import collect_log_lines

log = logging.getLogger(__name__)


def cross_val_predict_nodes(
    estimator: GraphEstimator,
    graph: Any = None,
    y: Any = None,
    *,
    cv: int = 5,
    method: Literal["predict", "predict_proba"] = "predict",
    target: str | None = None,
    options: ReadOptions | None = None,
    **given: Unpack[GraphKeywords],
) -> np.ndarray:
    """Predict every node by a model that did not learn from its label.

    scikit-learn's ``cross_val_predict`` cuts rows out of ``X``; a graph is not cut: each fold hides
    the labels of its nodes, and all edges stay. Folds are stratified by class and depend on the ids
    of the nodes, not on their order. A warning that several folds repeat is logged once.

    Args:
        estimator: Estimator; it is cloned for each fold and stays as it is.
        graph: Graph or file with labels, as in ``fit``.
        y: Label of each node, (N,), instead of the graph's own.
        cv: Number of folds, at least 2. Default: 5.
        method: ``predict``, or ``predict_proba`` for probabilities.
        target: Column or node attribute that holds the label, as in ``fit``.
        options: Other options for reading, as in ``fit``.
        **given: Node table or arrays, see :class:`GraphKeywords`.

    Returns:
        Predictions of all nodes, also of unlabelled ones, (N, ...).

    Raises:
        DataError: GFM145 for fewer than 2 folds, and the errors of ``fit``.

    Example:
        >>> from graphfm import GraphFMClassifier, cross_val_predict_nodes
        >>> found = cross_val_predict_nodes(GraphFMClassifier(), graph, y)  # doctest: +SKIP
        >>> accuracy = (found == y).mean()  # doctest: +SKIP
    """
    if cv < 2:
        raise DataError("GFM145", f"cross-validation needs at least 2 folds, got {cv}")
    read, _ = clone(estimator)._read_fit_graph(graph, y, target, options, **given)
    whole = read.replace(train_mask=None, val_mask=None, test_mask=None)
    folds = node_folds(whole, cv, seed=estimator.random_state)
    parts: list[np.ndarray] = []
    with collect_log_lines(logging.WARNING, quiet=True) as lines:
        for fold in range(cv):
            hidden = torch.from_numpy(folds == fold)
            if not bool(hidden.any()):
                continue
            fitted = clone(estimator).fit(whole, train_mask=whole.labelled & ~hidden)
            found = getattr(fitted, method)(mask=hidden)
            parts.append(found)
    for line in {re.sub(r"\d+", "#", line): line for line in reversed(lines)}.values():
        log.warning("cross-validation: %s", line)
    order = np.argsort(folds, kind="stable")
    result = np.empty((whole.num_nodes, *parts[0].shape[1:]), dtype=parts[0].dtype)
    result[order] = np.concatenate(parts)
    return result
