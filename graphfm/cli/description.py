"""Text that describes a graph in a few lines, for ``datasets stats`` and ``inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphfm.cli.terminal import next_step, pairs, unused

if TYPE_CHECKING:
    from graphfm.graphs.graph import Graph
    from graphfm.graphs.spec import DatasetSpec


BY_CHANCE = 0.1  # adjusted homophily below which neighbors say little about a node's class


def graph_lines(facts: Mapping[str, Any]) -> str:
    """Return what :func:`graphfm.graphs.statistics.describe` found as lines of text."""
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
        lines["homophily"] = _homophily(facts["homophily"])
    if facts["splits"]:
        lines["splits"] = ", ".join(f"{part} {count:,}" for part, count in facts["splits"].items())
    return f"{facts['name']}\n{pairs(lines)}"


def _homophily(found: Mapping[str, float]) -> str:
    """Return the homophily, with what it means for predictions."""
    text = (
        f"{found['edge']:.1%} of edges join nodes of one class, "
        f"{found['node']:.1%} of a node's neighbors on average"
    )
    if "adjusted" not in found:
        return text
    adjusted = found["adjusted"]
    if adjusted > BY_CHANCE:
        meaning = "neighbors agree more often than by chance, so they help to predict the class"
    elif adjusted < -BY_CHANCE:
        meaning = "neighbors agree less often than by chance: most are of other classes"
    else:
        meaning = "neighbors agree about as often as by chance, so their classes say little"
    return f"{text}; adjusted for class sizes {adjusted:.3f} (0 = chance, 1 = always): {meaning}"


def _task(facts: Mapping[str, Any]) -> str:
    """Return the kind of the labels, with the number of labelled nodes."""
    if facts["task"] is None:
        return "none: no labels"
    if facts["target"] is not None:
        spread = ", ".join(f"{name} {value:.4g}" for name, value in facts["target"].items())
        return f"a number, known for {facts['num_labelled']:,} nodes: {spread}"
    counts = facts["class_counts"]
    smallest = min(counts, key=lambda name: counts[name]) if counts else ""
    what = "labels, several per node" if facts["task"] == "multilabel" else "classes"
    unlabelled = f", {facts['num_unlabelled']:,} unlabelled" if facts["num_unlabelled"] else ""
    balance = facts["class_balance"]
    return (
        f"{facts['num_classes']} {what}, {facts['num_labelled']:,} nodes labelled{unlabelled}"
        + (f", smallest {smallest!r} with {counts[smallest]:,}" if smallest else "")
        + (f", balance {balance:.2f} (1 = equal class sizes)" if balance is not None else "")
    )


def counts(entry: DatasetSpec) -> dict[str, str]:
    """Return the sizes of a catalog entry as text; ``~`` = as published, ``?`` = not known."""
    mark = "~" if entry.counts == "published" else ""
    return {
        field.removeprefix("num_"): "?" if number is None else f"{mark}{number:,}"
        for field, number in entry.count.items()
    }


def suggest_fit(graph: Graph, text: str, *flags: str) -> None:
    """Print the command that fits a graph; without labels, the options that name them.

    Args:
        graph: The graph that was read.
        text: The graph, as the command line names it.
        *flags: Options and values that were given with it.
    """
    if graph.y is None or not bool(graph.labelled.any()):
        next_step("graphfm finetune --help")
    else:
        next_step("graphfm finetune --graph", text, *flags, "--out", unused(f"runs/{graph.name}"))
