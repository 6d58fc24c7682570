"""Signs that a label is known before it is predicted: said, never acted upon.

Shapes:
    N  nodes   F  feature columns   C  classes   S  sampled nodes
"""

from __future__ import annotations

import logging

import numpy as np
from scipy import sparse, stats
from torch import Tensor

from graphfm.graphs.graph import MASKS, Graph

log = logging.getLogger(__name__)

SURE = 0.999  # area under the ROC curve of one column for one class
SAMPLE = 1000  # labelled nodes: 1 s at 8,000 columns
MEMBERS = 10  # of a class in the sample; fewer are told apart by chance
ROWS_DIFFER = 16  # columns from which on two nodes hardly have the same features by chance


def find_leaking_columns(graph: Graph) -> list[tuple[int, str]]:
    """Feature columns that alone tell one class from all others, and that class.

    The area under the ROC curve comes from the ranks (Mann and Whitney 1947) of a sample.
    """
    if graph.x is None or graph.y is None or not graph.has_classes:
        return []
    nodes = np.flatnonzero(graph.labelled.numpy())
    if len(nodes) > SAMPLE:
        nodes = np.sort(np.random.default_rng(0).choice(nodes, SAMPLE, replace=False))
    y = graph.y.numpy()[nodes]  # (S,)
    counts = np.bincount(y, minlength=graph.num_classes)
    classes = np.flatnonzero((counts >= MEMBERS) & (counts <= len(y) - MEMBERS))
    if not len(classes):
        return []
    member = (y == classes[:, None]).astype(np.float64)  # (C, S)
    num = counts[classes][:, None]
    found = []
    for start in range(0, graph.num_features, 1024):
        block = graph.x[nodes.tolist(), start : start + 1024]
        values = block.toarray() if isinstance(block, sparse.csr_array) else np.asarray(block)
        ranks = stats.rankdata(values, axis=0)  # (S, F')
        area = (member @ ranks - num * (num + 1) / 2) / (num * (len(y) - num))
        sure = np.maximum(area, 1 - area)
        for column in np.flatnonzero(sure.max(axis=0) >= SURE):
            found.append(
                (start + int(column), graph.class_names[classes[sure[:, column].argmax()]])
            )
    return found


def count_duplicate_rows(graph: Graph) -> dict[str, int]:
    """How many nodes of the other splits have exactly the features of a training node."""
    if graph.x is None or graph.train_mask is None or graph.num_features < ROWS_DIFFER:
        return {}
    keys = row_keys(graph.x)
    learned = np.unique(keys[graph.train_mask.numpy()])
    twins = np.isin(keys, learned)
    found = {}
    for mask in MASKS[1:]:
        if getattr(graph, mask) is not None:
            count = int((twins & getattr(graph, mask).numpy()).sum())
            if count:
                found[mask.removesuffix("_mask")] = count
    return found


def warn_duplicate_rows(graph: Graph) -> None:
    """A line for each part of the split that holds nodes with the features of a training node."""
    for part, count in count_duplicate_rows(graph).items():
        log.warning("%s: possible leakage: %s %s nodes have exactly the features of a training "
                    "node", graph.name, f"{count:,}", part)  # fmt: skip


def row_keys(x: Tensor | sparse.csr_array) -> np.ndarray:
    """A number for each row, (N,): equal for equal rows; rows of zeros are all different."""
    weights = np.random.default_rng(0).random(x.shape[1])
    # Entry by entry in the order of columns, so that equal rows give equal sums to the last bit.
    matrix = x if isinstance(x, sparse.csr_array) else sparse.csr_array(x.numpy())
    keys = np.asarray(matrix.astype(np.float64) @ weights)
    empty = np.diff(matrix.indptr) == 0
    keys[empty] = -1 - np.arange(int(empty.sum())) * 2.0
    return keys
