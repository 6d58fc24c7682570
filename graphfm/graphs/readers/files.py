"""A person's own graph: an edge list, with a node table or without, or one file of another format.

Ids are text: ``007`` is not ``7``. Nothing is dropped, merged or filled in without a line that says
how many.

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

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.leaks import say_of_twins, telling_columns
from graphfm.graphs.readers import containers, tables
from graphfm.graphs.readers.columns import Column, plan_columns
from graphfm.graphs.readers.edges import (
    read_edges,
    warn_of_look_alikes,
)
from graphfm.graphs.readers.node_table import FEW, node_fields, read_node_table, without_repeats
from graphfm.graphs.readers.open_table import open_table
from graphfm.graphs.readers.options import ReadGraph, Reading, ReadOptions

log = logging.getLogger(__name__)

EDGE_FILES = ("edges", "edge", "links", "relationships", "edgelist")
NODE_FILES = ("nodes", "node", "vertices")
HUB = 100_000  # neighbors; a sample of 16 says little of them


def is_graph_file(text: str) -> bool:
    """Whether this names a file or folder rather than an id of the catalog."""
    path = Path(text)
    return path.exists() or path.name.removesuffix(".gz").endswith(
        (*tables.SUFFIXES, *containers.SUFFIXES)
    )


def read_file(
    path: Path, options: ReadOptions | None = None, *, plan: Sequence[Column] | None = None
) -> ReadGraph:
    """Read a graph from a file or a folder.

    Args:
        path: An edge list (CSV or Parquet), a folder that holds ``edges.*`` and ``nodes.*``, or a
            .graphml, .gml, .gexf, .npz, .pt or .h5ad file.
        options: What the file does not say.
        plan: How the columns of a table become features; None = decide.

    Raises:
        DataError: For whatever is wrong with it, with the place: docs/errors.md.
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
    if own is not None:
        _say_what_leaks(graph, own)
    _say_what_is_odd(graph)
    return ReadGraph(graph=graph, reading=Reading(options=options, plan=own))


def _stem(path: Path) -> str:
    """``cafe`` for cafe.csv.gz; the folder's name for cafe/edges.csv."""
    stem = path.name.split(".")[0]
    return path.resolve().parent.name if stem in EDGE_FILES else stem


def _in_folder(folder: Path) -> tuple[Path, Path | None]:
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
    path: Path, name: str, options: ReadOptions, plan: Sequence[Column] | None
) -> tuple[Graph, tuple[Column, ...] | None]:
    listed = read_edges(
        open_table(path), options.source, options.destination, strip=options.strip_ids
    )
    fields: dict[str, Any] = {}
    if options.nodes is None:
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
        warn_of_look_alikes(ids, path.name)
        pairs, ids = listed.match(ids, None, "error")
    else:
        nodes = without_repeats(read_node_table(options.nodes, options, plan))
        warn_of_look_alikes(nodes.ids, options.nodes.name)
        known = len(nodes.ids)
        pairs, ids = listed.match(nodes.ids, nodes.table, options.unknown_nodes)
        if len(ids) > known:
            index = np.concatenate([np.arange(known), np.full(len(ids) - known, -1)])
            nodes = nodes.rows(index, ids)
        plan = plan_columns(nodes.frame) if plan is None else tuple(plan)
        fields = node_fields(nodes, plan)
    if not len(ids):
        raise DataError("GFM101", "a graph needs at least one node, got none", where=str(path))
    listed.merge_weights(pairs, ids, options.duplicate_weights)
    del listed.ends
    graph = Graph.from_edges(
        pairs,
        num_nodes=len(ids),
        name=name,
        directed=options.directed,
        node_ids=_names(ids),
        **fields,
    )
    return graph, None if plan is None else tuple(plan)


def _names(ids: Any) -> tuple[str, ...] | None:
    """Ids as a tuple; None where they are the positions, which need no storing."""
    import pyarrow as pa

    n = len(ids)
    if n and ids[0].as_py() == "0" and ids[n - 1].as_py() == str(n - 1):
        if ids.equals(pa.array(np.arange(n)).cast(pa.string())):
            return None
    return tuple(ids.to_pylist())


def _say_what_leaks(graph: Graph, plan: Sequence[Column]) -> None:
    owner = [column.name for column in plan for _ in range(column.width)]
    told: dict[str, str] = {}
    for place, label in telling_columns(graph):
        told.setdefault(owner[place], label)
    for column, label in list(told.items())[:FEW]:
        log.warning("%s: possible leakage: column %r alone tells class %r from all others",
                    graph.name, column, label)  # fmt: skip
    if len(told) > FEW:
        log.warning("%s: possible leakage: so do %d more columns", graph.name, len(told) - FEW)
    say_of_twins(graph)


def _say_what_is_odd(graph: Graph) -> None:
    name = graph.name
    if graph.num_edges == 0:
        log.warning("%s: there are no edges: only features tell nodes apart", name)
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
            log.warning("%s: node %r has %s neighbors; of so many the model reads a sample, always "
                        "the same", name, hub, f"{most:,}")  # fmt: skip
    if graph.num_duplicates:
        log.info("%s: %s edges were listed more than once and are merged", name,
                 f"{graph.num_duplicates:,}")  # fmt: skip
    if graph.num_self_loops:
        log.info("%s: %s edges go from a node to itself and are kept", name,
                 f"{graph.num_self_loops:,}")  # fmt: skip
    if graph.x is None:
        log.warning("%s: there are no features: only the structure tells nodes apart", name)
    how = "undirected"
    if graph.directed:
        how = "directed: some edges have no reverse (--undirected: a line stands for both ways)"
    log.info("%s: %s", name, how)
