"""Graphs of NetworkX, without features.

Labels are a node attribute, or communities found by greedy modularity if there is no attribute. The
catalog's notes mark such tasks, which are about structure alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from graphfm.graphs.catalog.source import SourceConfig
from graphfm.graphs.convert import from_networkx
from graphfm.graphs.graph import Graph, class_names_of
from graphfm.graphs.readers.given_labels import given_labels


class Config(SourceConfig):
    """Graph and target."""

    kind: Literal["networkx"] = "networkx"
    graph: Literal["karate_club", "davis_southern_women", "florentine_families", "les_miserables"]
    """Name of the NetworkX function, without ``_graph``."""
    target: str = "communities"
    """Node attribute to predict, or ``communities``."""

    def build(self, *, name: str, data: Path) -> Graph:
        """Return the graph."""
        import networkx as nx

        source = getattr(nx, f"{self.graph}_graph")()
        graph = from_networkx(source, name=name)
        if self.target != "communities":
            fields = given_labels([record[self.target] for _, record in source.nodes(data=True)])
            # Other attributes restate the target.
            return graph.replace(**{**fields, "class_dtype": None})
        # Positions, because the order in a set of names depends on the process.
        source = nx.convert_node_labels_to_integers(source)
        found = nx.community.greedy_modularity_communities(source)
        groups = sorted((sorted(group) for group in found), key=lambda g: (-len(g), g))
        y = torch.empty(graph.num_nodes, dtype=torch.int64)
        for number, group in enumerate(groups):
            y[group] = number
        return graph.replace(y=y, class_names=class_names_of(y))
