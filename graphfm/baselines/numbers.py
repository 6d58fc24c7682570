"""What costs nothing where the target is a number: its mean, and least squares on features.

Shapes:
    N  nodes   F'  transformed features
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.graph import Graph
from graphfm.model.nn.ridge import fit_ridge

MAX_NODES = 20_000  # least squares cost nodes x columns^2: 1 s at 20,000 x 256


def mean(graph: Graph, train_mask: Tensor) -> np.ndarray:
    """The mean of the training nodes for every node, (N,): the floor, R2 = 0 or below.

    Args:
        graph: With a continuous target; only that under ``train_mask`` is read.
        train_mask: Nodes to learn from, (N,) bool.

    Raises:
        DataError: GFM134 without a continuous target, GFM131 without a node that has one.
    """
    nodes = _known(graph, train_mask)
    assert graph.y is not None
    return np.full(graph.num_nodes, float(graph.y[nodes].mean()))


def features_only(graph: Graph, train_mask: Tensor) -> np.ndarray:
    """Ridge regression on a node's own features, (N,); the mean where there are none.

    Its strength is chosen by leave-one-out on the training nodes.

    Args:
        graph: As :func:`mean`.
        train_mask: As :func:`mean`.

    Raises:
        DataError: As :func:`mean`.
    """
    nodes = _known(graph, train_mask)
    assert graph.y is not None
    x = prepare(graph).x
    if not x.shape[1] or len(nodes) < 2:
        return mean(graph, train_mask)
    if len(nodes) > MAX_NODES:
        nodes = nodes[np.sort(np.random.default_rng(0).permutation(len(nodes))[:MAX_NODES])]
    y = graph.y[nodes]
    fit = fit_ridge(x[nodes], (y - y.mean())[:, None])
    return ((x @ fit.weight + fit.bias)[:, 0].double() + y.mean()).numpy()


def _known(graph: Graph, train_mask: Tensor) -> Tensor:
    if graph.task.kind != "regress":
        raise DataError("GFM134", "these baselines need a continuous target", where=graph.name)
    nodes = (train_mask & graph.labelled).nonzero().flatten()
    if not len(nodes):
        raise DataError("GFM131", "there is no labelled training node", where=graph.name)
    return torch.as_tensor(nodes)
