"""Node attributes as columns of a table, so that all graphs get features by one plan.

Shapes:
    N  nodes   E  edges
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphfm.errors import FEW, DataError
from graphfm.graphs.convert import from_networkx
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.columns import Column, plan_columns
from graphfm.graphs.readers.edges import clean_ids
from graphfm.graphs.readers.memory import arrow_column, column_table
from graphfm.graphs.readers.node_table import node_fields, read_node_table
from graphfm.graphs.readers.tables import TableFile
from graphfm.graphs.readers.targets import no_column

if TYPE_CHECKING:
    from graphfm.graphs.readers.options import ReadOptions

log = logging.getLogger(__name__)

Made = tuple[Graph, tuple[Column, ...]]
UNNAMED = ("id", "key")  # attributes that formats give to every edge


def read_networkx(
    found: Any, name: str, path: Path, options: ReadOptions, plan: Sequence[Column] | None
) -> Made:
    """Read a NetworkX graph: its node attributes are the columns of a node table.

    Args:
        found: A directed or undirected graph or multigraph.
        name: Id of the graph.
        path: Path of its file, or name of the graph, for messages.
        options: Options, as for a .graphml file.
        plan: Rules of an earlier fit. Default: made from this graph.

    Raises:
        DataError: GFM101 for a graph without nodes, GFM104 for a target that no node has.
    """
    records = [record for _, record in found.nodes(data=True)]
    keys = list(dict.fromkeys(key for record in records for key in record))
    columns = [(str(key), arrow_column([record.get(key) for record in records])) for key in keys]
    edge_keys = dict.fromkeys(str(key) for *_, data in found.edges(data=True) for key in data)
    _warn_edge_attributes(path, list(edge_keys))
    return with_attributes(from_networkx(found, name=name), path, columns, options, plan)


def read_igraph(
    found: Any, name: str, path: Path, options: ReadOptions, plan: Sequence[Column] | None
) -> Made:
    """Read an igraph graph; ids are the attribute ``name``. Arguments as :func:`read_networkx`."""
    if not found.vcount():
        raise DataError("GFM101", "a graph needs at least one node, got none", where=name)
    columns = {str(key): found.vs[key] for key in found.vs.attributes()}
    ids = [str(i) for i in columns.get("name", [])]
    named = len(ids) == len(set(ids)) > 0
    pairs = np.array(found.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    graph = Graph.from_edges(
        pairs.T,
        num_nodes=found.vcount(),
        name=name,
        directed=None if found.is_directed() else False,
        node_ids=tuple(ids) if named else None,
    )
    _warn_edge_attributes(path, [str(key) for key in found.es.attributes()])
    listed = [(k, arrow_column(v)) for k, v in columns.items() if not (named and k == "name")]
    return with_attributes(graph, path, listed, options, plan)


def with_attributes(
    graph: Graph,
    path: Path,
    columns: Sequence[tuple[str, Any]],
    options: ReadOptions,
    plan: Sequence[Column] | None,
) -> Made:
    """Return a graph with the features, labels and split of its node attributes.

    Args:
        graph: The structure and the ids.
        path: Path of its file, or name of the graph, for messages.
        columns: Name and values of each attribute, (N,) each.
        options: Options; ``target``, ``need_target``, ``features``, ``id`` and ``task`` are read.
        plan: Rules of an earlier fit. Default: made from these columns.
    """
    import pyarrow as pa

    table = column_table(path, columns)
    if options.id is not None:
        graph = graph.replace(node_ids=_ids(table, options.id))
    ids = pa.array(graph.ids(), pa.string())
    nodes = read_node_table(table, options, plan, ids=ids)
    chosen = plan_columns(nodes.frame, options.features) if plan is None else tuple(plan)
    return graph.replace(**node_fields(nodes, chosen)), chosen


def _ids(table: TableFile, key: str) -> tuple[str, ...]:
    """Return the attribute that ``--id`` names, one id per node."""
    where = f"{table.path}, attribute {key!r}"
    if key not in table.names:
        raise no_column("GFM127", key, table.names, str(table.path))
    words: list[str] = clean_ids(table, table.text([key])[key], strip=True).to_pylist()
    twice = [word for word, count in Counter(words).items() if count > 1]
    if twice:
        raise DataError(
            "GFM126",
            f"{len(twice):,} ids belong to several nodes",
            where=f"{where}: {', '.join(map(repr, twice[:FEW]))}",
            fix="name an attribute that differs for every node",
        )
    return tuple(words)


def _warn_edge_attributes(path: Path, keys: Sequence[str]) -> None:
    """Log edge attributes, which are not read."""
    unread = [key for key in keys if key not in UNNAMED]
    if unread:
        log.warning("%s: %d edge attributes are not read: %s", path.name, len(unread),
                    ", ".join(unread[:FEW]))  # fmt: skip
