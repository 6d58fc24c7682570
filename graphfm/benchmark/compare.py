"""Compare a fitted model with simple baselines on the same test nodes."""

from __future__ import annotations

import logging

import numpy as np

from graphfm.baselines.gcn import gcn, gcn_seconds
from graphfm.baselines.label_propagation import label_propagation
from graphfm.baselines.logistic import logistic
from graphfm.baselines.majority import majority
from graphfm.baselines.numbers import features_only, mean
from graphfm.benchmark.number_scores import NumberScores, number_scores
from graphfm.benchmark.scores import Scores, scores
from graphfm.benchmark.verdict import Comparison
from graphfm.errors import DataError
from graphfm.fitting.answers import Answers
from graphfm.graphs.graph import Graph
from graphfm.machine import one_thread_if_small

log = logging.getLogger(__name__)

GCN_SECONDS = 30.0  # the GCN is skipped if it would take longer, unless the caller allows it
BASELINES = {
    "majority": majority,
    "features-only logistic regression": logistic,
    "label propagation": label_propagation,
}


@one_thread_if_small(1)
def compare(
    predictions: Answers, graph: Graph, *, seed: int = 0, max_gcn_seconds: float | None = None
) -> Comparison[Scores]:
    """Score predicted classes and simple baselines on the test nodes of a graph.

    A warning names each baseline that is skipped: all but majority need one class per node, and the
    GCN needs time.

    Args:
        predictions: Predictions for all nodes.
        graph: Graph with labels, training nodes and test nodes.
        seed: Seed of the baselines.
        max_gcn_seconds: Time that the GCN may take, in seconds. Default: :data:`GCN_SECONDS`.

    Returns:
        Scores by method, ``graphfm`` first, with a ``verdict``.

    Raises:
        DataError: GFM131 if no test node is labelled.
    """
    y, train, val, test = graph.y, graph.train_mask, graph.val_mask, graph.test_mask
    assert y is not None and train is not None and test is not None
    own = scores(predictions.proba, y, test, uncalibrated=predictions.uncalibrated)
    result = Comparison({"graphfm": own})
    skipped = []
    for name, baseline in BASELINES.items():
        try:
            proba = baseline(graph, train, val, seed=seed)
        except DataError as error:
            if error.code != "GFM134":
                raise
            skipped.append(name)
        else:
            result[name] = scores(proba, y, test)
    if skipped:
        log.warning(
            f"skipped {', '.join(skipped)} and the GCN: these baselines need one class per node"
        )
        return result
    needed = gcn_seconds(graph, train, val)
    limit = GCN_SECONDS if max_gcn_seconds is None else max_gcn_seconds
    if needed > limit:
        reason = f"more than the default limit of {GCN_SECONDS:.0f} s"
        if max_gcn_seconds is not None:
            reason = f"the time limit leaves {max(limit, 0):.0f} s"
        log.warning(f"skipped the GCN: it would take about {needed:.0f} s, {reason}")
    else:
        result["GCN"] = scores(gcn(graph, train, val, seed=seed), y, test)
    return result


@one_thread_if_small(1)
def compare_numbers(values: np.ndarray, graph: Graph) -> Comparison[NumberScores]:
    """Score predicted numbers and simple baselines on the test nodes of a graph.

    Args:
        values: Predictions for all nodes, (N,).
        graph: Graph with a continuous target, training nodes and test nodes.

    Returns:
        Scores by method, ``graphfm`` first, with a ``verdict``.
    """
    y, train, test = graph.y, graph.train_mask, graph.test_mask
    assert y is not None and train is not None and test is not None
    predictions = {
        "graphfm": values,
        "mean": mean(graph, train),
        "features-only ridge regression": features_only(graph, train),
    }
    return Comparison({name: number_scores(v, y, test) for name, v in predictions.items()})
