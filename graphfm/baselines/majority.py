"""The share of each class among the training nodes, for every node: the floor."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from graphfm.baselines.task import Peer, Settings, Task
from graphfm.graphs.graph import Graph


def majority(
    graph: Graph, train_mask: Tensor, val_mask: Tensor | None, *, seed: int = 0
) -> np.ndarray:
    """Class probabilities of every node, (N, C): the same row everywhere.

    Args:
        graph: The graph; only the labels under ``train_mask`` are read.
        train_mask: Nodes to learn from, (N,) bool.
        val_mask: Not used: there is nothing to choose.
        seed: Not used: nothing is random.
    """
    return _fit(Task.of(graph, train_mask, val_mask), {}, seed=seed, deadline=math.inf)


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return np.tile(task.labels.frequencies, (task.graph.num_nodes, 1))


PEERS = {"majority": Peer(fit=_fit, defaults={}, space={})}
