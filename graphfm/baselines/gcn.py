"""Graph convolutional network of two layers, with an estimate of its training time.

Source: Kipf and Welling 2017 (arXiv 1609.02907). The peer ``gcn`` has the same
default settings and searches from them.

Shapes:
    N  nodes   F  feature columns   H  hidden width   C  classes
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from graphfm.baselines.classic import KIPF, PEERS
from graphfm.baselines.inputs import MAX_SPARSE_DENSITY, known_labels
from graphfm.baselines.task import EMBEDDING_DIM, Task
from graphfm.graphs.features.position import position_dim
from graphfm.graphs.graph import Graph

# Speed of one core: multiplications per second. planetoid-pubmed took 24 s with a validation in
# every epoch; the estimate is 25 s.
SPARSE_RATE = 3.5e9
DENSE_RATE = 1e10
EPOCH_SECONDS = 0.002  # overhead of one epoch
NO_FEATURES = EMBEDDING_DIM + position_dim() + 2  # input width on a graph without features


def gcn(graph: Graph, train_mask: Tensor, val_mask: Tensor | None, *, seed: int = 0) -> np.ndarray:
    """Fit the network and return class probabilities of all nodes, (N, C).

    Adam takes 200 epochs on the whole graph. The epoch with the best validation score is kept, or
    the last one without validation nodes. A graph without features gets learned node embeddings,
    log degree and the positional encoding that our model reads.

    Args:
        graph: The graph; only the labels under the masks are read.
        train_mask: Training nodes, (N,) bool.
        val_mask: Validation nodes, which choose the epoch, (N,) bool. None if there are none.
        seed: Seed of initial weights and dropout.
    """
    task, peer = Task.of(graph, train_mask, val_mask), PEERS["gcn"]
    return peer.fit(task, peer.defaults_for(task), seed=seed, deadline=math.inf)


def gcn_seconds(graph: Graph, train_mask: Tensor, val_mask: Tensor | None) -> float:
    """Estimate the seconds of :func:`gcn` on one core, from edges and feature entries.

    An epoch costs 2.5 products: forward, backward, and validation in every second epoch.

    Raises:
        DataError: GFM134 if the graph has no single class per node.
    """
    labels = known_labels(graph, train_mask, val_mask)
    x = graph.x
    entries = graph.num_nodes * (NO_FEATURES if x is None else graph.num_features)
    filled = entries if x is None or isinstance(x, Tensor) else x.nnz
    dense = filled > MAX_SPARSE_DENSITY * entries
    width = KIPF["width"]
    in_products = (entries if dense else filled) * width / (DENSE_RATE if dense else SPARSE_RATE)
    messages = (graph.num_edges + graph.num_nodes) * (width + labels.num_classes) / SPARSE_RATE
    return KIPF["epochs"] * (EPOCH_SECONDS + 2.5 * (in_products + messages))
