"""``split.json`` beside a fitted model: its split by node id, its scores, how it was called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.errors import CheckpointError
from graphfm.storage import whole_file

if TYPE_CHECKING:
    from graphfm.graphs.graph import Graph

SPLIT_JSON = "split.json"
PARTS = ("train", "val", "test")


def save_split(folder: Path, graph: Graph, facts: Mapping[str, Any]) -> None:
    """Write the node ids of each part of the split, and facts about the fit.

    Args:
        folder: Folder of the fitted model.
        graph: The graph with its split.
        facts: Arguments of the fit and its results, as plain data.
    """
    ids = graph.ids()
    nodes = {
        part: [ids[i] for i in mask.nonzero().flatten().tolist()]
        for part in PARTS
        if (mask := getattr(graph, f"{part}_mask")) is not None
    }
    with whole_file(folder / SPLIT_JSON) as path:
        path.write_text(json.dumps({**facts, "nodes": nodes}, indent=1), encoding="utf-8")


def read_split(folder: Path) -> dict[str, Any]:
    """Read what :func:`save_split` wrote; empty for a model that was fitted in Python.

    Raises:
        CheckpointError: GFM302 for a damaged file.
    """
    path = folder / SPLIT_JSON
    if not path.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError("GFM302", f"not readable as JSON: {error}", where=str(path)) from None
    return content
