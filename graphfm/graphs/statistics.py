"""Statistics of a graph: counts, degrees, components, labels and homophily."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse

from graphfm.graphs.graph import Graph

QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "q99": 0.99, "max": 1.0}


def describe(graph: Graph) -> dict[str, Any]:
    """Return the statistics of a graph.

    Degrees and components are those of :attr:`Graph.neighbors`: both directions, no self-loops.
    ``class_balance`` is the entropy of the class sizes, divided by the entropy of equal sizes: 1 =
    equal sizes, near 0 = nearly all nodes in one class. Homophily is computed over edges between
    labelled nodes; it is None without such edges, and for several labels per node.
    """
    rowptr, col = graph.neighbors
    degree = rowptr.diff()
    matrix = sparse.csr_array(
        (np.ones(len(col), dtype=np.int8), col.numpy(), rowptr.numpy()),
        shape=(graph.num_nodes, graph.num_nodes),
    )
    num_components, component = sparse.csgraph.connected_components(matrix, directed=False)
    counts = _class_counts(graph)
    num_labelled = int(graph.labelled.sum())
    return {
        "name": graph.name,
        "num_nodes": graph.num_nodes,
        "num_edges": graph.num_edges,
        "directed": graph.directed,
        "num_duplicates": graph.num_duplicates,
        "num_self_loops": graph.num_self_loops,
        "num_components": int(num_components),
        "largest_component": float(np.bincount(component).max() / graph.num_nodes),
        "degree": dict(zip(QUANTILES, np.quantile(degree, list(QUANTILES.values())), strict=True)),
        "num_isolated": int((degree == 0).sum()),
        "num_features": graph.num_features,
        "sparse_features": isinstance(graph.x, sparse.csr_array),
        "feature_density": _density(graph),
        "task": graph.task.kind if graph.y is not None else None,
        "num_classes": graph.num_classes,
        "target": _quantiles(graph),
        "num_labelled": num_labelled,
        "num_unlabelled": graph.num_nodes - num_labelled,
        "class_counts": counts,
        "class_balance": _balance(np.array(list(counts.values()))),
        "homophily": homophily(graph),
        "splits": {
            part: int(mask.sum())
            for part in ("train", "val", "test")
            if (mask := getattr(graph, f"{part}_mask")) is not None
        },
        "fingerprint": graph.fingerprint,
    }


def homophily(graph: Graph) -> dict[str, float] | None:
    """Return the homophily of a graph, over edges whose ends are both labelled.

    ``edge``: share of edges that join two nodes of one class. ``node``: share of neighbors of the
    same class, averaged over nodes. ``adjusted``: edge homophily corrected for class sizes and
    degrees, 0 = as in a random graph, at most 1; absent if all ends have one class (Platonov et
    al. 2023, arXiv 2209.06177, section 3).
    """
    if graph.y is None or not graph.has_classes:
        return None
    rowptr, col = graph.neighbors
    row = torch.repeat_interleave(torch.arange(graph.num_nodes), rowptr.diff())
    known = (graph.y[row] >= 0) & (graph.y[col] >= 0)
    row, col = row[known], col[known]  # (E',)
    if not len(row):
        return None
    agrees = (graph.y[row] == graph.y[col]).double()
    degree = torch.bincount(row, minlength=graph.num_nodes)
    agreeing = torch.bincount(row, weights=agrees, minlength=graph.num_nodes)
    edge = float(agrees.mean())
    found = {"edge": edge, "node": float((agreeing / degree)[degree > 0].mean())}
    share = torch.bincount(graph.y[row]).double() / len(row)  # share of edge ends by class
    expected = float((share**2).sum())
    if expected < 1:
        found["adjusted"] = (edge - expected) / (1 - expected)
    return found


def _quantiles(graph: Graph) -> dict[str, float] | None:
    """Return the quantiles of a continuous target; None for classes."""
    if graph.y is None or not graph.y.is_floating_point() or not bool(graph.labelled.any()):
        return None
    known = graph.y[graph.labelled].numpy()
    found = np.quantile(known, list(QUANTILES.values())).tolist()
    return dict(zip(QUANTILES, found, strict=True))


def _balance(counts: np.ndarray) -> float | None:
    """Return the entropy of the class sizes over that of equal sizes."""
    if len(counts) < 2 or not counts.sum():
        return None
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum() / np.log(len(counts)))


def _density(graph: Graph) -> float | None:
    """Return the share of feature values that are not zero."""
    x = graph.x
    if x is None or not graph.num_features:
        return None
    nonzero = x.nnz if isinstance(x, sparse.csr_array) else int(torch.count_nonzero(x))
    return nonzero / (graph.num_nodes * graph.num_features)


def _class_counts(graph: Graph) -> dict[str, int]:
    """Return the number of labelled nodes of each class."""
    if graph.y is None or graph.y.is_floating_point():
        return {}
    if graph.y.ndim == 1:
        counts = torch.bincount(graph.y[graph.y >= 0], minlength=graph.num_classes)
    else:
        counts = (graph.y == 1).sum(dim=0)
    return dict(zip(graph.class_names, counts.tolist(), strict=True))
