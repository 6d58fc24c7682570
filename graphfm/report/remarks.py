"""Remarks on unusual properties of the graph, as sentences.

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

FEW = 5  # training nodes of a class, below which its predictions are little better than chance
MAX_NAMES = 8
# How a remark begins, and the words of the log message by which a reader of files reports the same.
READER_SAYS = {
    "Nodes without a neighbor": "no neighbor",
    "Repeated edges": "more than once",
    "Edges from a node to itself": "to itself",
    "The graph is directed": "directed:",
    "Nodes without a label": "have no label",
}


def remarks_on(
    graph: Graph,
    y: Tensor | None,
    classes: Sequence[str],
    split: Mapping[str, Tensor],
) -> list[str]:
    """Return sentences on structure, features and labels; empty if nothing is unusual.

    Args:
        graph: The graph.
        y: Labels in the order of ``classes``, (N,) or (N, C); -1 = unlabelled.
        classes: Names of the model's classes, (C,).
        split: Masks (N,) by part of the split.
    """
    found = []
    degree = graph.neighbors[0].diff()
    lonely = int((degree == 0).sum())
    if graph.num_edges == 0:
        found.append("The graph has no edges: nodes are predicted from their features alone.")
    elif lonely:
        found.append(
            f"Nodes without a neighbor: {lonely:,} of {graph.num_nodes:,}. They are predicted from "
            "their features alone."
        )
    if graph.num_duplicates:
        found.append(f"Repeated edges that were merged: {graph.num_duplicates:,}.")
    if loops := graph.num_self_loops:
        found.append(f"Edges from a node to itself, which the model ignores: {loops:,}.")
    if graph.directed:
        found.append("The graph is directed; the model ignores the direction of its edges.")
    found += _on_features(graph)
    return found + ([] if y is None else _on_labels(graph, y, classes, split))


def without_repeats(remarks: Sequence[str], log_lines: Sequence[str]) -> list[str]:
    """Drop the remarks that repeat a message of the reader of the graph."""

    def is_repeat(remark: str) -> bool:
        words = [word for start, word in READER_SAYS.items() if remark.startswith(start)]
        return any(word in line for word in words for line in log_lines)

    return [remark for remark in remarks if not is_repeat(remark)]


def _on_features(graph: Graph) -> list[str]:
    x = graph.x
    if x is None or graph.num_features == 0:
        return ["There are no features: the model sees only the edges."]
    if isinstance(x, Tensor):
        constant = int((x.min(dim=0).values == x.max(dim=0).values).sum())
    else:
        low, high = (np.asarray(v.todense()).ravel() for v in (x.min(axis=0), x.max(axis=0)))
        constant = int((low == high).sum())
    if not constant:
        return []
    return [
        "Constant feature columns, which carry no information: "
        f"{constant:,} of {graph.num_features:,}."
    ]


def _on_labels(
    graph: Graph, y: Tensor, classes: Sequence[str], split: Mapping[str, Tensor]
) -> list[str]:
    found = []
    unlabelled = graph.num_nodes - int(labelled_nodes(y).sum())
    if unlabelled:
        found.append(f"Nodes without a label: {unlabelled:,} of {graph.num_nodes:,}.")
    if "train" in split:
        counts = class_counts(y, split["train"], len(classes))
        few = [f"{short(classes[c])} ({counts[c]})" for c in np.flatnonzero(counts < FEW).tolist()]
        if few:
            more = f" and {len(few) - MAX_NAMES} more" if len(few) > MAX_NAMES else ""
            found.append(
                f"Classes with fewer than {FEW} training nodes: {len(few)} of {len(classes)}, "
                f"{', '.join(few[:MAX_NAMES])}{more}."
            )
    if {"train", "test"} <= set(split) and graph.num_features:
        copies = _copies(graph, split)
        if copies:
            found.append(
                f"Test nodes with exactly the features of a training node: {copies:,}. If they are "
                "copies of the same item, the test score is too high."
            )
    return found


def class_counts(y: Tensor, mask: Tensor, num_classes: int) -> np.ndarray:
    """Count the nodes of each class under a mask: (N,) or (N, C), (N,) -> (C,)."""
    values = y[mask].numpy()
    if values.ndim == 2:
        return (values == 1).sum(axis=0)
    return np.bincount(values[values >= 0], minlength=num_classes)


def _copies(graph: Graph, split: Mapping[str, Tensor]) -> int:
    """Number of test nodes with the feature row of a training node; rows of zeros do not count."""
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
