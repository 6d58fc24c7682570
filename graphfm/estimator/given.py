"""Keywords in which all methods of an estimator take a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from graphfm.errors import DataError


class GraphKeywords(TypedDict, total=False):
    """Node table beside an edge list, or arrays in place of a graph.

    Args:
        nodes: Node table of an edge list: a path, or a table of pandas, polars or pyarrow.
        edge_index: Sources and targets of the edges, (2, E) positions of nodes.
        adjacency: Adjacency matrix in place of ``edge_index``, (N, N), dense or sparse.
        x: Features beside them, (N, F), dense or sparse.
        node_ids: Names of the nodes beside them, (N,). Default: their positions.
    """

    nodes: Any
    edge_index: Any
    adjacency: Any
    x: Any
    node_ids: Any


def graph_of(
    graph: Any,
    y: Any = None,
    *,
    edge_index: Any = None,
    adjacency: Any = None,
    x: Any = None,
    node_ids: Any = None,
) -> Any:
    """Return a graph, or the dict of the arrays that were passed in its place.

    Args:
        graph: Graph that the user passed. Default: none.
        y: Labels that the user passed; by position, they count the nodes where no other array
            does. Default: none.
        edge_index: See :class:`GraphKeywords`, as the following. Default: none.
        adjacency: Default: none.
        x: Default: none.
        node_ids: Default: none.

    Raises:
        DataError: GFM105 for a graph beside arrays, or ``node_ids`` alone.
    """
    arrays = {"edge_index": edge_index, "adjacency": adjacency, "x": x, "node_ids": node_ids}
    found = {name: value for name, value in arrays.items() if value is not None}
    if not found:
        return graph
    named = ", ".join(f"{name}=" for name in found)
    if graph is not None:
        raise DataError(
            "GFM105", f"a graph and {named} both say what to read", fix="pass one of them"
        )
    if set(found) == {"x"}:
        return x  # rows of features without edges
    if "edge_index" not in found and "adjacency" not in found:
        raise DataError("GFM105", f"{named} needs edges", fix="pass edge_index= or adjacency=")
    counts = y is not None and not isinstance(y, Mapping) and set(found) == {"edge_index"}
    return {**found, "num_nodes": len(y)} if counts else found
