"""Reader of graphs in JSON: node-link (networkx, d3) and Cytoscape's elements."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from graphfm.errors import FEW, DataError


def read_json(path: Path) -> Any:
    """Read a JSON file as a NetworkX graph.

    Raises:
        DataError: GFM103 for anything but an object with nodes and links (or edges), GFM112 for a
            link whose end is not among the nodes.
    """
    import networkx as nx

    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        content = json.load(file)
    if isinstance(content, dict) and isinstance(content.get("elements"), dict):  # Cytoscape
        content = {**content, **content["elements"]}
    links = content.get("links", content.get("edges")) if isinstance(content, dict) else None
    if not isinstance(links, list) or not isinstance(content.get("nodes"), list):
        raise DataError(
            "GFM103",
            "expected an object with the lists nodes and links (or edges)",
            where=str(path),
            fix="networkx.node_link_data writes one; edges alone: one object per line, .jsonl",
        )
    nodes = [_plain(node) for node in content["nodes"]]
    named = all("id" in node for node in nodes)
    ids = [str(node.pop("id")) if named else str(i) for i, node in enumerate(nodes)]
    ends = [_plain(link) for link in links]
    if any("source" not in end or "target" not in end for end in ends):
        raise DataError("GFM103", "a link has no source or no target", where=str(path))
    pairs = [(str(end["source"]), str(end["target"])) for end in ends]
    gone = sorted({end for pair in pairs for end in pair} - set(ids))
    if gone:
        raise DataError(
            "GFM112",
            f"the links name {len(gone):,} nodes that are not among the nodes",
            where=f"{path}: {', '.join(map(repr, gone[:FEW]))}",
            fix="add the nodes",
        )
    found = nx.MultiGraph() if content.get("directed") is False else nx.MultiDiGraph()
    found.add_nodes_from(zip(ids, nodes, strict=True))
    found.add_edges_from(pairs)
    return found


def _plain(item: Any) -> dict[str, Any]:
    """Return a node or link as a dict of its own; Cytoscape keeps its content under ``data``."""
    if not isinstance(item, dict):
        raise ValueError("a node or link is not an object")
    return dict(item["data"]) if isinstance(item.get("data"), dict) else dict(item)
