"""TODO: graphfm/fitting/novelty.py, from graphfm/training/state_cloud.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import DatasetSpec

MIN_CORPUS = 5  # graphs from which on a spread means something


def graph_novelty(graph: Graph, corpus: Iterable[DatasetSpec]) -> dict[str, dict[str, float]]:
    """Where a graph lies among the graphs of a pretraining corpus, by what the catalog says.

    Args:
        graph: The graph.
        corpus: Entries of the corpus; counts that are not known are left out.

    Returns:
        For ``nodes``, ``degree`` (edges a node), ``features`` and ``classes``: the ``value``, its
        ``z`` (standard deviations from the corpus' mean, of logarithms) and the ``share`` of the
        corpus below it. Empty with fewer than :data:`MIN_CORPUS` graphs.
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
    return {
        "nodes": float(nodes),
        "degree": edges / max(1, nodes),
        "features": float(features),
        "classes": float(classes),
    }
