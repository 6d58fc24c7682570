"""Search for features that give the label away; findings are logged, nothing is changed.

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

MIN_AUC = 0.999  # area under the ROC curve of one column for one class
SAMPLE = 1000  # labelled nodes that are looked at; takes 1 s at 8,000 columns
MIN_MEMBERS = 10  # nodes of a class in the sample; fewer may be separated by chance
MIN_COLUMNS = 16  # with fewer columns, two nodes may have the same features by chance


def find_leaking_columns(graph: Graph) -> list[tuple[int, str]]:
    """Return feature columns that alone separate one class from all others, with that class.

    The area under the ROC curve is computed from the ranks in a sample (Mann and Whitney 1947).
    """
    if graph.x is None or graph.y is None or not graph.has_classes:
        return []
    nodes = np.flatnonzero(graph.labelled.numpy())
    if len(nodes) > SAMPLE:
        nodes = np.sort(np.random.default_rng(0).choice(nodes, SAMPLE, replace=False))
    y = graph.y.numpy()[nodes]  # (S,)
    counts = np.bincount(y, minlength=graph.num_classes)
    classes = np.flatnonzero((counts >= MIN_MEMBERS) & (counts <= len(y) - MIN_MEMBERS))
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
        auc = np.maximum(area, 1 - area)
        for column in np.flatnonzero(auc.max(axis=0) >= MIN_AUC):
            found.append((start + int(column), graph.class_names[classes[auc[:, column].argmax()]]))
    return found


def count_duplicate_rows(graph: Graph) -> dict[str, int]:
    """Return, by part of the split, the number of nodes with the features of a training node."""
    if graph.x is None or graph.train_mask is None or graph.num_features < MIN_COLUMNS:
        return {}
    keys = row_keys(graph.x)
    learned = np.unique(keys[graph.train_mask.numpy()])
    copies = np.isin(keys, learned)
    found = {}
    for mask in MASKS[1:]:
        if getattr(graph, mask) is not None:
            count = int((copies & getattr(graph, mask).numpy()).sum())
            if count:
                found[mask.removesuffix("_mask")] = count
    return found


def warn_duplicate_rows(graph: Graph) -> None:
    """Log the parts of the split that hold nodes with exactly the features of a training node."""
    for part, count in count_duplicate_rows(graph).items():
        log.warning("%s: possible leakage: %s %s nodes have exactly the features of a training "
                    "node", graph.name, f"{count:,}", part)  # fmt: skip


def row_keys(x: Tensor | sparse.csr_array) -> np.ndarray:
    """Return a number for each row, (N,): equal for equal rows; all different for rows of zeros."""
    weights = np.random.default_rng(0).random(x.shape[1])
    # CSR sums the entries in the order of columns, so that equal rows give bitwise equal sums.
    matrix = x if isinstance(x, sparse.csr_array) else sparse.csr_array(x.numpy())
    keys = np.asarray(matrix.astype(np.float64) @ weights)
    empty = np.diff(matrix.indptr) == 0
    keys[empty] = -1 - np.arange(int(empty.sum())) * 2.0
    return keys
