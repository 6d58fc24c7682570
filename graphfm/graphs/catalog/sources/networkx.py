"""Graphs that come with NetworkX.

Structure only. Labels are a node attribute of the source, or, where it has none, communities found
by greedy modularity: a task about structure, which the catalog's notes say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from graphfm.graphs.catalog.source import SourceConfig
from graphfm.graphs.convert import from_networkx
from graphfm.graphs.graph import Graph, class_names_of


class Config(SourceConfig):
    """Which graph, and what to predict on it."""

    kind: Literal["networkx"] = "networkx"
    graph: Literal["karate_club", "davis_southern_women", "florentine_families", "les_miserables"]
    """The generator without its ``_graph``."""
    target: str = "communities"
    """A node attribute, or ``communities``."""

    def build(self, *, name: str, data: Path) -> Graph:
        """Make the graph."""
        import networkx as nx

        source = getattr(nx, f"{self.graph}_graph")()
        if self.target != "communities":
            graph = from_networkx(source, target=self.target, name=name)
            return graph.replace(x=None)  # other attributes restate the target
        graph = from_networkx(source, name=name)
        # By position: the order in a set of names depends on the process.
        source = nx.convert_node_labels_to_integers(source)
        found = nx.community.greedy_modularity_communities(source)
        groups = sorted((sorted(group) for group in found), key=lambda g: (-len(g), g))
        y = torch.empty(graph.num_nodes, dtype=torch.int64)
        for number, group in enumerate(groups):
            y[group] = number
        return graph.replace(x=None, y=y, class_names=class_names_of(y))
