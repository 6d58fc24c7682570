"""What ``--graph`` may name: a catalog id, or a file that NetworkX reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.errors import DataError, RecipeError

if TYPE_CHECKING:
    from graphfm.graphs.graph import Graph

SUFFIXES = (".graphml", ".gml", ".gexf")


def read_graph(text: str, *, target: str | None = None, need_target: bool = True) -> Graph:
    """Read a graph from a file, or from the catalog by its id.

    Args:
        text: The file or the id.
        target: Node attribute to predict, for a file; the catalog knows its own labels.
        need_target: Whether a file without that attribute is an error.

    Raises:
        DataError: GFM103 for a file that cannot be read, GFM120 for an id that is not there.
        RecipeError: GFM210 for a target beside a catalog id.
    """
    path = Path(text)
    if path.exists() or path.name.removesuffix(".gz").endswith(SUFFIXES):
        return _from_file(path, target, need_target)
    if target is not None:
        raise RecipeError(
            "GFM210",
            f"--target names a node attribute of a file, but {text!r} is not a file",
            fix="leave --target out for a graph of the catalog",
        )
    from graphfm.graphs.catalog import Catalog

    return Catalog.read().load(text)


def _from_file(path: Path, target: str | None, need_target: bool) -> Graph:
    from graphfm.graphs.convert import from_networkx

    found = _networkx(path)
    attributes = {key for _, record in found.nodes(data=True) for key in record}
    if target not in attributes and not need_target:
        target = None
    name = re.sub(r"[^a-z0-9]+", "-", path.name.split(".")[0].lower()).strip("-")
    return from_networkx(found, target=target, name=name or "graph")


def _networkx(path: Path) -> Any:
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix not in SUFFIXES or not path.is_file():
        raise DataError(
            "GFM103",
            f"expected a catalog id or a file that ends in {', '.join(SUFFIXES)}",
            where=str(path),
            why="" if path.exists() else "there is no such file",
            fix="`graphfm datasets list` shows the ids",
        )
    import networkx as nx

    try:
        if suffix == ".graphml":
            return nx.read_graphml(path)
        if suffix == ".gexf":
            return nx.read_gexf(path)
        try:
            return nx.read_gml(path)
        except nx.NetworkXError:  # its nodes have no labels; then their numbers name them
            return nx.read_gml(path, label="id")
    except (nx.NetworkXException, SyntaxError, ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(
            "GFM103",
            f"not readable as {suffix[1:]}: {error}",
            where=str(path),
            fix="write it again with networkx, Gephi or igraph",
        ) from None
