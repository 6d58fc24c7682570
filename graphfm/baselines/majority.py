"""Class frequencies of the training nodes as the prediction of every node."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from graphfm.baselines.task import Peer, Settings, Task
from graphfm.graphs.graph import Graph


def majority(
    graph: Graph, train_mask: Tensor, val_mask: Tensor | None, *, seed: int = 0
) -> np.ndarray:
    """Return class probabilities of all nodes, (N, C); all rows are equal.

    Args:
        graph: The graph; only the labels under ``train_mask`` are read.
        train_mask: Training nodes, (N,) bool.
        val_mask: Unused: there is nothing to choose.
        seed: Unused: the method is deterministic.
    """
    return _fit(Task.of(graph, train_mask, val_mask), {}, seed=seed, deadline=math.inf)


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return np.tile(task.labels.frequencies, (task.graph.num_nodes, 1))


PEERS = {"majority": Peer(fit=_fit, defaults={}, space={})}
