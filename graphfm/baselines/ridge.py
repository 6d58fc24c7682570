"""Ridge regression on multi-hop features: the linear head of a fit without the pretrained model.

It reads :func:`~graphfm.graphs.features.multihop.multihop`, the same columns that the head reads
beside the node state. The difference to the probe is therefore the contribution of the states.
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
    """Return class probabilities of all nodes, (N, C).

    Args:
        graph: The graph; only the labels under ``train_mask`` are read.
        train_mask: Training nodes, (N,) bool.
        val_mask: Unused: the penalty is chosen by leave-one-out on the training nodes.
        seed: Unused: the solution is unique.
    """
    return _fit(Task.of(graph, train_mask, val_mask), {}, seed=seed, deadline=math.inf)


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    labels, features = task.labels, torch.from_numpy(task.hops)
    fit = fit_ridge(features[torch.from_numpy(labels.train)], torch.from_numpy(labels.one_hot))
    scores = (features @ fit.weight + fit.bias).numpy().astype(np.float64)
    # Scores of one-hot targets sum to 1, so the largest is positive and clipping keeps the argmax.
    positive = np.maximum(scores, 1e-6)
    proba: np.ndarray = positive / positive.sum(axis=1, keepdims=True)
    return proba


PEERS = {"ridge": Peer(fit=_fit, defaults={}, space={})}
