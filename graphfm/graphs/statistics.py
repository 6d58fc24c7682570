"""What a graph looks like, in numbers that a person reads before fitting it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse

from graphfm.graphs.graph import Graph


def describe(graph: Graph) -> dict[str, Any]:
    """Counts, degrees, components, labels and homophily of a graph.

    Degrees and components are those of :attr:`Graph.neighbors`: both directions, no self-loops.
    ``homophily`` is the share of edges between labelled nodes whose ends agree;
    ``adjusted_homophily`` is 0 where agreement is what the degrees alone would give
    (Platonov et al. 2023, arXiv 2209.06177); None for several labels per node or no such edge.
    """
    rowptr, col = graph.neighbors
    degree = rowptr.diff()
    matrix = sparse.csr_array(
        (np.ones(len(col), dtype=np.int8), col.numpy(), rowptr.numpy()),
        shape=(graph.num_nodes, graph.num_nodes),
    )
    num_components, component = sparse.csgraph.connected_components(matrix, directed=False)
    homophily, adjusted = _homophily(graph)
    return {
        "name": graph.name,
        "num_nodes": graph.num_nodes,
        "num_edges": graph.num_edges,
        "directed": graph.directed,
        "num_duplicates": graph.num_duplicates,
        "num_self_loops": graph.num_self_loops,
        "num_components": int(num_components),
        "largest_component": float(np.bincount(component).max() / graph.num_nodes),
        "median_degree": float(degree.double().median()),
        "max_degree": int(degree.max()),
        "num_isolated": int((degree == 0).sum()),
        "num_features": graph.num_features,
        "sparse_features": isinstance(graph.x, sparse.csr_array),
        "task": graph.task.kind if graph.y is not None else None,
        "num_classes": graph.num_classes,
        "num_labelled": int(graph.labelled.sum()),
        "class_counts": _class_counts(graph),
        "homophily": homophily,
        "adjusted_homophily": adjusted,
        "splits": {
            part: int(mask.sum())
            for part in ("train", "val", "test")
            if (mask := getattr(graph, f"{part}_mask")) is not None
        },
        "fingerprint": graph.fingerprint,
    }


def _class_counts(graph: Graph) -> dict[str, int]:
    if graph.y is None:
        return {}
    if graph.y.ndim == 1:
        counts = torch.bincount(graph.y[graph.y >= 0], minlength=graph.num_classes)
    else:
        counts = (graph.y == 1).sum(dim=0)
    return dict(zip(graph.class_names, counts.tolist(), strict=True))


def _homophily(graph: Graph) -> tuple[float | None, float | None]:
    if graph.y is None or graph.y.ndim == 2:
        return None, None
    rowptr, col = graph.neighbors
    row = torch.repeat_interleave(torch.arange(graph.num_nodes), rowptr.diff())
    ends = torch.stack([graph.y[row], graph.y[col]])  # (2, E)
    ends = ends[:, (ends >= 0).all(dim=0)]
    if not ends.shape[1]:
        return None, None
    agree = float((ends[0] == ends[1]).double().mean())
    share = torch.bincount(ends[0]).double() / ends.shape[1]  # of edge ends, by class
    expected = float((share**2).sum())
    return agree, (agree - expected) / (1 - expected) if expected < 1 else None
