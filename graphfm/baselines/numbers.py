"""Baselines for a continuous target: the mean, and ridge regression on features.

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

MAX_NODES = 20_000  # training nodes of the ridge: 1 s at 20,000 nodes x 256 columns


def mean(graph: Graph, train_mask: Tensor) -> np.ndarray:
    """Return the mean of the training nodes for all nodes, (N,); its R2 is at most 0.

    Args:
        graph: Graph with a continuous target; only the numbers under ``train_mask`` are read.
        train_mask: Training nodes, (N,) bool.

    Raises:
        DataError: GFM134 without a continuous target, GFM131 without a labelled training node.
    """
    nodes = _training_nodes(graph, train_mask)
    assert graph.y is not None
    return np.full(graph.num_nodes, float(graph.y[nodes].mean()))


def features_only(graph: Graph, train_mask: Tensor) -> np.ndarray:
    """Predict all nodes by ridge regression on their own features, (N,).

    The penalty is chosen by leave-one-out on the training nodes. Without features the prediction is
    the mean.

    Args:
        graph: Graph with a continuous target; only the numbers under ``train_mask`` are read.
        train_mask: Training nodes, (N,) bool.

    Raises:
        DataError: GFM134 without a continuous target, GFM131 without a labelled training node.
    """
    nodes = _training_nodes(graph, train_mask)
    assert graph.y is not None
    x = prepare(graph).x
    if not x.shape[1] or len(nodes) < 2:
        return mean(graph, train_mask)
    if len(nodes) > MAX_NODES:
        nodes = nodes[np.sort(np.random.default_rng(0).permutation(len(nodes))[:MAX_NODES])]
    y = graph.y[nodes]
    fit = fit_ridge(x[nodes], (y - y.mean())[:, None])
    return ((x @ fit.weight + fit.bias)[:, 0].double() + y.mean()).numpy()


def _training_nodes(graph: Graph, train_mask: Tensor) -> Tensor:
    if graph.task.kind != "regress":
        raise DataError("GFM134", "these baselines need a continuous target", where=graph.name)
    nodes = (train_mask & graph.labelled).nonzero().flatten()
    if not len(nodes):
        raise DataError("GFM131", "there is no labelled training node", where=graph.name)
    return torch.as_tensor(nodes)
