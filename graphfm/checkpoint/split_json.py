"""``split.json`` beside a fitted model: its split by node id, its scores, how it was called."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from graphfm.checkpoint.checks import FIX
from graphfm.checkpoint.folder import Checkpoint
from graphfm.checkpoint.manifest import read_json
from graphfm.errors import CheckpointError

log = logging.getLogger(__name__)

SPLIT_JSON = "split.json"
PARTS = ("train", "val", "test")


def split_text(nodes: Mapping[str, Sequence[str]], facts: Mapping[str, Any]) -> str:
    """Return the content of ``split.json``.

    Args:
        nodes: Ids of the nodes in each part of the split.
        facts: Arguments of the fit and its results, as plain data.
    """
    return json.dumps({**facts, "nodes": nodes}, indent=1)


def read_split(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read ``split.json``; empty for a model of rows of features.

    In a folder of format 1 the manifest does not list the file. It is read with a warning.

    Raises:
        CheckpointError: GFM302 for a damaged file, or one that the manifest should list.
    """
    path = checkpoint.path / SPLIT_JSON
    is_old = checkpoint.config.get("format", 0) < 2 and SPLIT_JSON not in checkpoint.files
    if not (path.is_file() if is_old else checkpoint.has(SPLIT_JSON)):
        return {}
    if is_old:
        _warn_unverified(path)
    content = read_json(path)
    nodes = content.get("nodes", {}) if isinstance(content, dict) else None
    if not isinstance(nodes, dict) or not all(_is_ids(nodes.get(part, [])) for part in PARTS):
        raise CheckpointError(
            "GFM302",
            "nodes: expected an object with lists of node ids",
            where=str(path),
            fix=FIX,
        )
    return dict(content)


@cache
def _warn_unverified(path: Path) -> None:
    """Log a warning, once for each file."""
    log.warning("%s is not verified: an older version wrote it without a hash", path)


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(id, str) for id in value)
