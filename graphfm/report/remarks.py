"""What stands out in a graph that a model was fitted to, in sentences.

Shapes:
    N  nodes   C  classes   F  feature columns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse
from torch import Tensor

from graphfm.graphs.graph import Graph, labelled_nodes
from graphfm.report.text import short

FEW = 5  # training nodes of a class; below it, whatever is said of the class is chance
MOST_NAMES = 8


def remarks_on(
    graph: Graph,
    y: Tensor | None,
    classes: Sequence[str],
    split: Mapping[str, Tensor],
) -> list[str]:
    """Sentences on structure, features and labels; none where all is as it should be.

    Args:
        graph: As it was read.
        y: Labels in the order of ``classes``, (N,) or (N, C); -1 = unlabelled.
        classes: Those of the model.
        split: Masks (N,) by part.
    """
    found = []
    degree = graph.neighbors[0].diff()
    lonely = int((degree == 0).sum())
    if graph.num_edges == 0:
        found.append("The graph has no edges: nodes are predicted from their features only.")
    elif lonely:
        found.append(
            f"Nodes without a neighbor: {lonely:,} of {graph.num_nodes:,}. They are predicted from "
            "their features only."
        )
    if graph.num_duplicates:
        found.append(f"Repeated edges that were merged: {graph.num_duplicates:,}.")
    if loops := graph.num_self_loops:
        found.append(f"Edges from a node to itself, which the model does not read: {loops:,}.")
    if graph.directed:
        found.append("The graph is directed; the model reads its edges in both directions.")
    found += _on_features(graph)
    return found + ([] if y is None else _on_labels(graph, y, classes, split))


def _on_features(graph: Graph) -> list[str]:
    x = graph.x
    if x is None or graph.num_features == 0:
        return ["There are no features: nodes are told apart by structure alone."]
    if isinstance(x, Tensor):
        constant = int((x.min(dim=0).values == x.max(dim=0).values).sum())
    else:
        low, high = (np.asarray(v.todense()).ravel() for v in (x.min(axis=0), x.max(axis=0)))
        constant = int((low == high).sum())
    if not constant:
        return []
    return [f"Constant feature columns, which say nothing: {constant:,} of {graph.num_features:,}."]


def _on_labels(
    graph: Graph, y: Tensor, classes: Sequence[str], split: Mapping[str, Tensor]
) -> list[str]:
    found = []
    bare = graph.num_nodes - int(labelled_nodes(y).sum())
    if bare:
        found.append(f"Nodes without a label: {bare:,} of {graph.num_nodes:,}.")
    if "train" in split:
        counts = class_counts(y, split["train"], len(classes))
        few = [f"{short(classes[c])} ({counts[c]})" for c in np.flatnonzero(counts < FEW).tolist()]
        if few:
            more = f" and {len(few) - MOST_NAMES} more" if len(few) > MOST_NAMES else ""
            found.append(
                f"Classes with fewer than {FEW} training nodes: {len(few)} of {len(classes)}, "
                f"{', '.join(few[:MOST_NAMES])}{more}."
            )
    if {"train", "test"} <= set(split) and graph.num_features:
        copies = _copies(graph, split)
        if copies:
            found.append(
                f"Test nodes with exactly the features of a training node: {copies:,}. If they are "
                "the same thing twice, the test score flatters."
            )
    return found


def class_counts(y: Tensor, mask: Tensor, num_classes: int) -> np.ndarray:
    """Nodes of each class under a mask: (N,) or (N, C), (N,) -> (C,)."""
    values = y[mask].numpy()
    if values.ndim == 2:
        return (values == 1).sum(axis=0)
    return np.bincount(values[values >= 0], minlength=num_classes)


def _copies(graph: Graph, split: Mapping[str, Tensor]) -> int:
    """Test nodes whose row of features is that of a training node; rows of zeros do not count."""
    rows = {}
    for part in ("train", "test"):
        nodes = split[part].nonzero().flatten()
        if isinstance(graph.x, Tensor):
            table = graph.x[nodes].numpy()
            rows[part] = [row.tobytes() for row in table if row.any()]
        else:
            assert graph.x is not None
            picked = sparse.csr_array(graph.x[nodes.numpy()])
            picked.sort_indices()
            ends = picked.indptr
            rows[part] = [
                picked.indices[a:b].tobytes() + picked.data[a:b].tobytes()
                for a, b in zip(ends, ends[1:], strict=False)
                if b > a
            ]
    known = set(rows["train"])
    return sum(row in known for row in rows["test"])
