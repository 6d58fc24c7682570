"""Reader of GraphML, GML, GEXF and JSON, by NetworkX."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.errors import DataError, GraphFMError
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.attributes import read_networkx
from graphfm.graphs.readers.columns import Column
from graphfm.graphs.readers.json_graphs import read_json
from graphfm.graphs.readers.xml_graphs import read_xml

if TYPE_CHECKING:
    from graphfm.graphs.readers.options import ReadOptions


def read_markup(
    path: Path, suffix: str, name: str, options: ReadOptions, plan: Sequence[Column] | None
) -> tuple[Graph, tuple[Column, ...]]:
    """Read a graph and the rules by which its node attributes become features.

    Args:
        path: Path of the file.
        suffix: ``.graphml``, ``.gml``, ``.gexf``, ``.json`` or ``.cyjs``.
        name: Id of the graph.
        options: Options; ``target``, ``need_target``, ``features``, ``id``, ``directed`` and
            ``task`` are read.
        plan: Rules of an earlier fit. Default: made from this file.

    Raises:
        DataError: GFM103 for a file that cannot be read, GFM104 for a target that no node has.
    """
    try:
        found = _parsed(path, suffix, options.directed)
    except (PermissionError, MemoryError, GraphFMError):
        raise
    except Exception as error:  # NetworkX raises AttributeError, RecursionError and others
        raise DataError(
            "GFM103",
            f"not readable as {suffix[1:]}: {str(error)[:200] or type(error).__name__}",
            where=str(path),
            fix="write it again with networkx, Gephi or igraph",
        ) from None
    return read_networkx(found, name, path, options, plan)


def _parsed(path: Path, suffix: str, directed: bool | None) -> Any:
    """Return the file as a NetworkX graph."""
    import networkx as nx

    if suffix in (".json", ".cyjs"):
        return read_json(path)
    if suffix != ".gml":
        return read_xml(path, suffix, directed)
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        lines = file.read().decode("utf-8-sig").splitlines()
    try:
        return nx.parse_gml(lines)
    except nx.NetworkXError as error:
        if "multigraph" in str(error) or "duplicated" in str(error):
            text = re.sub(r"(?m)^(\s*graph\s*)\[", r"\1[ multigraph 1 ", "\n".join(lines), count=1)
            lines = text.splitlines()
            try:
                return nx.parse_gml(lines)
            except nx.NetworkXError:
                pass
        return nx.parse_gml(lines, label="id")  # nodes without labels are named by their numbers
