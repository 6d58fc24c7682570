"""Reader of a user's own graph: an edge list with or without a node table, or another format.

Ids are text: ``007`` is not ``7``. Whatever is dropped, merged or filled in is counted in a log
line.

Shapes:
    N  nodes   E  lines of the edge list
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.errors import FEW, DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.leaks import find_leaking_columns, warn_duplicate_rows
from graphfm.graphs.readers import containers, tables
from graphfm.graphs.readers.columns import Column, plan_columns
from graphfm.graphs.readers.edges import EdgeList, read_edges, warn_similar_ids
from graphfm.graphs.readers.ends import is_matrix
from graphfm.graphs.readers.matrices import read_matrix_market, read_matrix_table
from graphfm.graphs.readers.node_table import node_fields, read_node_table, without_repeats
from graphfm.graphs.readers.open_table import open_table
from graphfm.graphs.readers.options import ReadGraph, Reading, ReadOptions
from graphfm.graphs.readers.tables import TableFile

log = logging.getLogger(__name__)

EDGE_FILES = ("edges", "edge", "links", "relationships", "edgelist")
NODE_FILES = ("nodes", "node", "vertices")
HUB = 100_000  # neighbors; the 16 that are sampled are a poor picture of so many


def is_graph_file(text: str) -> bool:
    """Return True for text that names a file or folder rather than a catalog id."""
    path = Path(text)
    return path.exists() or path.name.removesuffix(".gz").endswith(
        (*tables.SUFFIXES, *containers.SUFFIXES)
    )


def read_file(
    path: Path, options: ReadOptions | None = None, *, plan: Sequence[Column] | None = None
) -> ReadGraph:
    """Read a graph from a file or a folder.

    Args:
        path: Path of an edge list (CSV or Parquet), of a folder that holds ``edges.*`` and
            ``nodes.*``, or of a .graphml, .gml, .gexf, .npz, .pt or .h5ad file.
        options: Facts that the file does not hold. Default: those of :class:`ReadOptions`.
        plan: Rules by which columns became features at a fit. Default: made from this file.

    Raises:
        DataError: For anything that is wrong with the file, with the place; see docs/errors.md.
    """
    options = options or ReadOptions()
    if path.is_dir():
        path, nodes = _in_folder(path)
        options = replace(options, nodes=options.nodes or nodes)
    name = re.sub(r"[^a-z0-9]+", "-", _stem(path).lower()).strip("-") or "graph"
    if path.name.removesuffix(".gz").endswith(containers.SUFFIXES):
        graph, own = containers.read(path, name, options, plan)
        own = own or None
    else:
        graph, own = _read_tables(path, name, options, plan)
    return checked(graph, options, own)


def read_tables(
    edges: TableFile, options: ReadOptions, *, plan: Sequence[Column] | None = None
) -> ReadGraph:
    """Read a graph from an edge list in memory; arguments as in :func:`read_file`."""
    graph, own = _read_tables(edges, "graph", options, plan)
    return checked(graph, options, own)


def checked(graph: Graph, options: ReadOptions, plan: tuple[Column, ...] | None) -> ReadGraph:
    """Return a graph with the record of how it was read, and log what a user should check.

    Args:
        graph: The graph.
        options: Options that it was read with.
        plan: Rules by which its columns became features. Default: it has no named columns.
    """
    if plan is not None:
        _warn_leaks(graph, plan)
    _log_structure(graph, options.directed)
    kept = options.nodes if isinstance(options.nodes, Path) else None
    return ReadGraph(graph=graph, reading=Reading(options=replace(options, nodes=kept), plan=plan))


def _stem(path: Path) -> str:
    """Return the name of a graph: ``cafe`` for cafe.csv.gz and for cafe/edges.csv."""
    stem = path.name.split(".")[0]
    return path.resolve().parent.name if stem in EDGE_FILES else stem


def _in_folder(folder: Path) -> tuple[Path, Path | None]:
    """Return the edge list and the node table of a folder."""

    def find(stems: Sequence[str]) -> list[Path]:
        return sorted(
            path
            for path in folder.iterdir()
            if path.name.split(".")[0] in stems
            and path.name.removesuffix(".gz").endswith(tables.SUFFIXES)
        )

    found, nodes = find(EDGE_FILES), find(NODE_FILES)
    if len(found) != 1 or len(nodes) > 1:
        listed = ", ".join(sorted(path.name for path in folder.iterdir())[:10])
        raise DataError(
            "GFM105",
            f"expected one edge list and at most one node table in the folder, got {len(found)} "
            f"and {len(nodes)}",
            where=str(folder),
            why=f"it holds {listed or 'nothing'}",
            fix="call them edges.csv and nodes.csv, or name both: --graph FILE --nodes FILE",
        )
    return found[0], nodes[0] if nodes else None


def _read_tables(
    edges: Path | TableFile, name: str, options: ReadOptions, plan: Sequence[Column] | None
) -> tuple[Graph, tuple[Column, ...] | None]:
    """Read an edge list and, if there is one, its node table."""
    nodes = None
    if options.nodes is not None:
        nodes = without_repeats(read_node_table(options.nodes, options, plan, edges=edges))
    listed = _read_edge_list(edges, options, None if nodes is None else nodes.ids)
    path = edges.path if isinstance(edges, TableFile) else edges
    fields: dict[str, Any] = {}
    if nodes is None or options.nodes is None:
        if plan:
            raise DataError(
                "GFM130",
                f"the model was fitted to a graph with {len(plan)} feature columns, this one has "
                "no node table",
                where=str(path),
                fix="--nodes nodes.csv",
            )
        if options.target is not None and options.need_target:
            raise DataError(
                "GFM104",
                "--target names a column of the node table, but there is no node table",
                where=str(path),
                fix="--nodes nodes.csv",
            )
        ids = listed.own_ids()
        warn_similar_ids(ids, path.name)
        pairs, ids = listed.match(ids, None, "error")
    else:
        warn_similar_ids(nodes.ids, nodes.table.path.name)
        known = len(nodes.ids)
        pairs, ids = listed.match(nodes.ids, nodes.table, options.unknown_nodes)
        if len(ids) > known:
            index = np.concatenate([np.arange(known), np.full(len(ids) - known, -1)])
            nodes = nodes.rows(index, ids)
        plan = plan_columns(nodes.frame, options.features) if plan is None else tuple(plan)
        fields = node_fields(nodes, plan)
    if not len(ids):
        raise DataError("GFM101", "a graph needs at least one node, got none", where=str(path))
    listed.merge_weights(pairs, ids, options.duplicate_weights)
    del listed.ends
    graph = Graph.from_edges(
        pairs,
        num_nodes=len(ids),
        name=name,
        directed=listed.directed if options.directed is None else options.directed,
        node_ids=_names(ids),
        **fields,
    )
    return graph, None if plan is None else tuple(plan)


def _read_edge_list(path: Path | TableFile, options: ReadOptions, ids: Any | None) -> EdgeList:
    """Read an edge list, or a matrix that stands in its place.

    Args:
        path: Path of the file, or a table in memory.
        options: Options.
        ids: Ids of the nodes, (N,) text. Default: not known.
    """
    if isinstance(path, Path) and path.name.removesuffix(".gz").endswith(".mtx"):
        return read_matrix_market(path)
    table = open_table(path, header=options.header)
    if options.source is None and options.destination is None and is_matrix(table):
        return read_matrix_table(table)
    return read_edges(
        table,
        options.source,
        options.destination,
        strip=options.strip_ids,
        header=options.header,
        ids=ids,
    )


def _names(ids: Any) -> tuple[str, ...] | None:
    """Return ids as a tuple; None if they are the positions, which need not be stored."""
    import pyarrow as pa

    n = len(ids)
    if n and ids[0].as_py() == "0" and ids[n - 1].as_py() == str(n - 1):
        if ids.equals(pa.array(np.arange(n)).cast(pa.string())):
            return None
    return tuple(ids.to_pylist())


def _warn_leaks(graph: Graph, plan: Sequence[Column]) -> None:
    """Log columns that give the label away, and rows that are in two parts of a split."""
    owner = [column.name for column in plan for _ in range(column.width)]
    found: dict[str, str] = {}
    for place, label in find_leaking_columns(graph):
        found.setdefault(owner[place], label)
    for column, label in list(found.items())[:FEW]:
        log.warning("%s: possible leakage: column %r alone separates class %r from all others",
                    graph.name, column, label)  # fmt: skip
    if len(found) > FEW:
        log.warning(
            "%s: possible leakage: %d more columns do the same", graph.name, len(found) - FEW
        )
    warn_duplicate_rows(graph)


def _log_structure(graph: Graph, directed: bool | None) -> None:
    """Log facts about the structure that a user should check."""
    name = graph.name
    if graph.num_edges == 0:
        log.warning("%s: there are no edges: only features distinguish the nodes", name)
    else:
        rowptr, _ = graph.neighbors
        degree = rowptr.diff()
        alone, most = int((degree == 0).sum()), int(degree.max())
        if alone:
            log.warning("%s: %s of %s nodes have no neighbor; they are predicted from their "
                        "features only", name, f"{alone:,}", f"{graph.num_nodes:,}")  # fmt: skip
        if most >= HUB:
            at = int(degree.argmax())
            hub = str(at) if graph.node_ids is None else graph.node_ids[at]
            log.warning("%s: node %r has %s neighbors; the model reads a fixed sample of them",
                        name, hub, f"{most:,}")  # fmt: skip
    if graph.num_duplicates:
        log.warning("%s: %s edges were listed more than once and are merged", name,
                    f"{graph.num_duplicates:,}")  # fmt: skip
    if graph.num_self_loops:
        log.info("%s: %s edges go from a node to itself and are kept", name,
                 f"{graph.num_self_loops:,}")  # fmt: skip
    if graph.x is None:
        log.warning("%s: there are no features: only the structure distinguishes the nodes", name)
    log.info("%s: %s", name, _direction(graph, directed))


def _direction(graph: Graph, directed: bool | None) -> str:
    """Return a sentence on how edges were read.

    Args:
        graph: The graph.
        directed: Direction that was asked for. Default: it was detected.
    """
    if not graph.directed:
        return "read as undirected"
    if directed:
        return "read as directed, as asked"
    both_ways = len(graph.neighbors[1])  # edges with the missing reverses added, without loops
    alone = both_ways - (graph.num_edges - graph.num_self_loops)
    return (
        f"read as directed, because {alone:,} of {graph.num_edges:,} edges have no reverse; if "
        "each line is a mutual tie, pass --undirected"
    )
