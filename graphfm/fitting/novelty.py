"""Novelty of a graph: its position among the graphs of a pretraining corpus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import DatasetSpec

MIN_CORPUS = 5  # graphs; with fewer a standard deviation means little


def graph_novelty(graph: Graph, corpus: Iterable[DatasetSpec]) -> dict[str, dict[str, float]]:
    """Compare a graph with the graphs of a pretraining corpus, by the counts in the catalog.

    Args:
        graph: The graph.
        corpus: Catalog entries of the corpus; entries with unknown counts are left out.

    Returns:
        For ``nodes``, ``degree`` (edges per node), ``features`` and ``classes``: the ``value``, its
        ``z`` score among logarithms, and the ``share`` of the corpus below it. Empty with fewer
        than :data:`MIN_CORPUS` graphs.
    """
    entries = list(corpus)
    mine = _axes(graph.num_nodes, graph.num_edges, graph.num_features, graph.num_classes)
    known: dict[str, list[float]] = {axis: [] for axis in mine}
    for entry in entries:
        counts: Any = entry.count
        if None in counts.values():
            continue
        for axis, value in _axes(*counts.values()).items():
            known[axis].append(value)
    if not known["nodes"] or len(known["nodes"]) < MIN_CORPUS:
        return {}
    result = {}
    for axis, value in mine.items():
        logs = np.log1p(known[axis])
        spread = max(float(logs.std(ddof=1)), 1e-6)
        result[axis] = {
            "value": value,
            "z": float((np.log1p(value) - logs.mean()) / spread),
            "share": float((np.array(known[axis]) < value).mean()),
        }
    return result


def _axes(nodes: int, edges: int, features: int, classes: int) -> dict[str, float]:
    """Compared quantities of a graph, by name."""
    return {
        "nodes": float(nodes),
        "degree": edges / max(1, nodes),
        "features": float(features),
        "classes": float(classes),
    }
