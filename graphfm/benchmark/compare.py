"""Compare a fitted model with simple baselines on the same test nodes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from graphfm.benchmark.scores import Scores, scores
from graphfm.errors import DataError

if TYPE_CHECKING:
    from graphfm.fitting.answers import Answers
    from graphfm.graphs.graph import Graph


log = logging.getLogger(__name__)

GCN_SECONDS = 30  # a GCN that takes longer is left out, unless --max-time allows it


def compare(
    answers: Answers, graph: Graph, *, seed: int, seconds: float | None = None
) -> dict[str, Scores]:
    """Scores on the test nodes: the fitted model's answers for all nodes, then the baselines.

    A baseline that does not know the task, and a GCN for which there is no time, are left out, and
    a message says so.

    Args:
        answers: For all nodes.
        graph: With its split.
        seed: Of the baselines.
        seconds: What is left of ``--max-time``; None = the GCN may take :data:`GCN_SECONDS`.
    """
    from graphfm.baselines.gcn import gcn, gcn_seconds
    from graphfm.baselines.label_propagation import label_propagation
    from graphfm.baselines.logistic import logistic
    from graphfm.baselines.majority import majority

    assert graph.y is not None and graph.train_mask is not None and graph.test_mask is not None
    baselines = {
        "majority": majority,
        "features-only logistic regression": logistic,
        "label propagation": label_propagation,
    }
    own = scores(answers.proba, graph.y, graph.test_mask, uncalibrated=answers.uncalibrated)
    result = {"graphfm": own}
    left_out = []
    for name, baseline in baselines.items():
        try:
            proba = baseline(graph, graph.train_mask, graph.val_mask, seed=seed)
        except DataError as error:
            if error.code != "GFM134":
                raise
            left_out.append(name)
        else:
            result[name] = scores(proba, graph.y, graph.test_mask)
    if left_out:
        log.warning(f"not compared with {', '.join(left_out)}, GCN: each needs one class per node")
        return result
    needed = gcn_seconds(graph, graph.train_mask, graph.val_mask)
    left = GCN_SECONDS if seconds is None else seconds
    if needed > left:
        why = f"--max-time leaves {max(left, 0):.0f} s" if seconds is not None else f"over {left} s"
        log.warning(f"not compared with a GCN: it would take about {needed:.0f} s, {why}")
    else:
        proba = gcn(graph, graph.train_mask, graph.val_mask, seed=seed)
        result["GCN"] = scores(proba, graph.y, graph.test_mask)
    return result
