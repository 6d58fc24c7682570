"""A graph convolutional network of two layers (Kipf and Welling 2017), on PyG's GCNConv.

The default of the peer ``gcn``, which searches depth, width and the rest from here.

Shapes:
    N  nodes   F  feature columns   H  hidden width   C  classes
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from graphfm.baselines.classic import KIPF, PEERS
from graphfm.baselines.inputs import MAX_SPARSE_DENSITY, known_labels
from graphfm.baselines.task import Task
from graphfm.graphs.graph import Graph

# What one core does, for an estimate: multiplications a second, and what comes on top.
SPARSE_RATE = 3.5e9  # planetoid-pubmed: 24 s when it looked every time, estimated 25
DENSE_RATE = 1e10
EPOCH_SECONDS = 0.002
BEGIN_SECONDS = 2.0  # importing PyG


def gcn(graph: Graph, train_mask: Tensor, val_mask: Tensor | None, *, seed: int = 0) -> np.ndarray:
    """Class probabilities of every node, (N, C).

    200 epochs of Adam on the whole graph; the epoch that is best on the validation nodes answers,
    the last one without any. A graph without features is read by its log-degrees and a constant.

    Args:
        graph: The graph; only the labels under the masks are read.
        train_mask: Nodes to learn from, (N,) bool.
        val_mask: Nodes to choose the epoch by, (N,) bool.
        seed: Decides initial weights and dropout.
    """
    task = Task.of(graph, train_mask, val_mask)
    return PEERS["gcn"].fit(task, KIPF, seed=seed, deadline=math.inf)


def gcn_seconds(graph: Graph, train_mask: Tensor, val_mask: Tensor | None) -> float:
    """About how long :func:`gcn` will take on one core: epochs x (edges + feature entries).

    Two and a half products each: forward, backward, and every other time a look at validation.

    Raises:
        DataError: GFM134 without a class per node, as :func:`gcn`.
    """
    labels = known_labels(graph, train_mask, val_mask)
    x = graph.x
    entries = 2 * graph.num_nodes if x is None else graph.num_nodes * graph.num_features
    filled = entries if x is None or isinstance(x, Tensor) else x.nnz
    dense = filled > MAX_SPARSE_DENSITY * entries
    width = KIPF["width"]
    in_products = (entries if dense else filled) * width / (DENSE_RATE if dense else SPARSE_RATE)
    messages = (graph.num_edges + graph.num_nodes) * (width + labels.num_classes) / SPARSE_RATE
    return BEGIN_SECONDS + KIPF["epochs"] * (EPOCH_SECONDS + 2.5 * (in_products + messages))
