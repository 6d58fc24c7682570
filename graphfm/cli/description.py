"""A graph described in a few lines, for ``datasets stats`` and ``inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphfm.cli.terminal import pairs

if TYPE_CHECKING:
    from graphfm.graphs.spec import DatasetSpec


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
            ", ".join(f"{name} {value:,.4g}" for name, value in facts["degree"].items())
            + f", {facts['num_isolated']:,} isolated"
        ),
        "features": f"{facts['num_features']:,}"
        + (f", {facts['feature_density']:.2%} not zero" if facts["num_features"] else ""),
        "task": _task(facts),
    }
    if facts["homophily"]:
        lines["homophily"] = ", ".join(
            f"{name} {value:.3f}" for name, value in facts["homophily"].items()
        )
    if facts["splits"]:
        lines["splits"] = ", ".join(f"{part} {count:,}" for part, count in facts["splits"].items())
    return f"{facts['name']}\n{pairs(lines)}"


def _task(facts: Mapping[str, Any]) -> str:
    if facts["task"] is None:
        return "none: no labels"
    if facts["target"] is not None:
        spread = ", ".join(f"{name} {value:.4g}" for name, value in facts["target"].items())
        return f"a number, {facts['num_labelled']:,} nodes have one: {spread}"
    counts = facts["class_counts"]
    smallest = min(counts, key=lambda name: counts[name]) if counts else ""
    what = "labels a node may have" if facts["task"] == "multilabel" else "classes"
    unlabelled = f", {facts['num_unlabelled']:,} not" if facts["num_unlabelled"] else ""
    balance = facts["class_balance"]
    return (
        f"{facts['num_classes']} {what}, {facts['num_labelled']:,} nodes labelled{unlabelled}"
        + (f", smallest {smallest!r} with {counts[smallest]:,}" if smallest else "")
        + (f", balance {balance:.2f}" if balance is not None else "")
    )


def counts(entry: DatasetSpec) -> dict[str, str]:
    """Nodes, edges, features and classes of an entry; ``~`` = as published, ``?`` = not known."""
    mark = "~" if entry.counts == "published" else ""
    return {
        field.removeprefix("num_"): "?" if number is None else f"{mark}{number:,}"
        for field, number in entry.count.items()
    }
