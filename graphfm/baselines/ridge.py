"""Ridge regression on raw multi-hop features: what a closed-form head does without any model.

It reads :func:`~graphfm.graphs.features.multihop.multihop`, the columns that a fine-tuning head
reads beside the state, so that what a trunk adds to them is all that differs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from graphfm.baselines.task import Peer, Settings, Task
from graphfm.graphs.graph import Graph
from graphfm.model.nn.ridge import fit_ridge


def ridge(
    graph: Graph, train_mask: Tensor, val_mask: Tensor | None, *, seed: int = 0
) -> np.ndarray:
    """Class probabilities of every node, (N, C).

    Args:
        graph: The graph; only the labels under ``train_mask`` are read.
        train_mask: Nodes to learn from, (N,) bool.
        val_mask: Not used: the penalty is chosen by leave-one-out on the training nodes.
        seed: Not used: the solution is unique.
    """
    return _fit(Task.of(graph, train_mask, val_mask), {}, seed=seed, deadline=math.inf)


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    labels, features = task.labels, torch.from_numpy(task.hops)
    fit = fit_ridge(features[torch.from_numpy(labels.train)], torch.from_numpy(labels.one_hot))
    scores = (features @ fit.weight + fit.bias).numpy().astype(np.float64)
    # Scores of one-hot targets add up to 1, so the largest is positive: clipping keeps the argmax.
    positive = np.maximum(scores, 1e-6)
    proba: np.ndarray = positive / positive.sum(axis=1, keepdims=True)
    return proba


PEERS = {"ridge": Peer(fit=_fit, defaults={}, space={})}
