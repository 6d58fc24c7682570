"""A graph described in a few lines, for ``datasets stats`` and ``inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphfm.cli.terminal import pairs


def graph_lines(facts: Mapping[str, Any]) -> str:
    """What :func:`graphfm.graphs.statistics.describe` found, for a person."""
    kind = "directed" if facts["directed"] else "undirected"
    lines = {
        "nodes": f"{facts['num_nodes']:,}",
        "edges": (
            f"{facts['num_edges']:,} ({kind}, {facts['num_duplicates']:,} duplicates merged, "
            f"{facts['num_self_loops']:,} self-loops)"
        ),
        "components": f"{facts['num_components']:,} (largest {facts['largest_component']:.1%})",
        "degree": (
            f"median {facts['median_degree']:g}, max {facts['max_degree']:,}, "
            f"{facts['num_isolated']:,} isolated"
        ),
        "features": f"{facts['num_features']:,}"
        + (" (sparse)" if facts["sparse_features"] else ""),
        "task": _task(facts),
    }
    if facts["homophily"] is not None:
        adjusted = facts["adjusted_homophily"]
        lines["homophily"] = f"{facts['homophily']:.3f}" + (
            f" (adjusted {adjusted:.3f})" if adjusted is not None else ""
        )
    if facts["splits"]:
        lines["splits"] = ", ".join(f"{part} {count:,}" for part, count in facts["splits"].items())
    return f"{facts['name']}\n{pairs(lines)}"


def _task(facts: Mapping[str, Any]) -> str:
    if facts["task"] is None:
        return "none: no labels"
    counts = facts["class_counts"]
    smallest = min(counts, key=lambda name: counts[name]) if counts else ""
    what = "labels a node may have" if facts["task"] == "multilabel" else "classes"
    return f"{facts['num_classes']} {what}, {facts['num_labelled']:,} nodes labelled" + (
        f", smallest {smallest!r} with {counts[smallest]:,}" if smallest else ""
    )
