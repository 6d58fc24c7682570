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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.errors import DataError
from graphfm.graphs import containers, tables
from graphfm.graphs.columns import Column, encode, plan_columns
from graphfm.graphs.edges import (
    DuplicateWeights,
    UnknownNodes,
    clean_ids,
    read_edges,
    warn_of_look_alikes,
)
from graphfm.graphs.frames import Frame, read_frame
from graphfm.graphs.graph import Graph
from graphfm.graphs.headers import id_column, read_header
from graphfm.graphs.leaks import say_of_twins, telling_columns
from graphfm.graphs.spec import Task
from graphfm.graphs.tables import TableFile, open_table
from graphfm.graphs.targets import (
    MASK_COLUMNS,
    SPLIT,
    read_labels,
    read_splits,
    target_columns,
)

log = logging.getLogger(__name__)

EDGE_FILES = ("edges", "edge", "links", "relationships", "edgelist")
NODE_FILES = ("nodes", "node", "vertices")
FEW = 5  # ids that a message names
HUB = 100_000  # neighbors; a sample of 16 says little of them


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a file does not say of itself.

    Args:
        nodes: The node table, beside an edge list.
        target: Column to predict; several with commas between, or a pattern with ``*``.
        need_target: Whether a table without the target is an error.
        source: Column of the edge list; default: by its usual names, else the first.
        destination: As ``source``; else the second.
        id: Column of the node table; default: by its usual names, else the first.
        directed: None = look; False = every line stands for both directions.
        unknown_nodes: What becomes of an edge whose end the node table does not have.
        duplicate_weights: What becomes of the weights of an edge that is listed more than once.
        strip_ids: Cut space around ids.
        features: Columns to use, as ``target``, or ``none``; None = all.
        obsp: Which graph of the cells of an .h5ad.
        task: Whether the target is a class or a number; ``auto`` = a number with fractions is one.
    """

    nodes: Path | None = None
    target: str | None = None
    need_target: bool = True
    source: str | None = None
    destination: str | None = None
    id: str | None = None
    directed: bool | None = None
    unknown_nodes: UnknownNodes = "error"
    duplicate_weights: DuplicateWeights = "sum"
    strip_ids: bool = False
    features: str | None = None
    obsp: str | None = None
    task: Task = "auto"


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadGraph:
    """A graph, and how its table became features: a model keeps the plan for the next table."""

    graph: Graph
    plan: tuple[Column, ...] | None = None


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
        graph, made = containers.read(path, name, options, plan)
        if made is not None:
            _say_what_leaks(graph, made)
        _say_what_is_odd(graph)
        return ReadGraph(graph=graph, plan=made or None)
    read = _read_tables(path, name, options, plan)
    _say_what_is_odd(read.graph)
    return read


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Nodes:
    """A node table as it was read: ids and text columns of N rows, and the columns of features."""

    table: TableFile
    ids: Any
    text: dict[str, Any]
    frame: Frame
    target: list[str]
    splits: list[str]
    task: Task

    def rows(self, index: np.ndarray, ids: Any) -> _Nodes:
        """Some rows, in this order; -1 gives a row without any value."""
        import pyarrow as pa

        places = pa.array(index, mask=index < 0)
        text = {name: values.take(places) for name, values in self.text.items()}
        return replace(self, ids=ids, text=text, frame=self.frame.rows(index))


def _read_tables(
    path: Path, name: str, options: ReadOptions, plan: Sequence[Column] | None
) -> ReadGraph:
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
        nodes = _without_repeats(_read_nodes(options.nodes, options, plan))
        warn_of_look_alikes(nodes.ids, options.nodes.name)
        known = len(nodes.ids)
        pairs, ids = listed.match(nodes.ids, nodes.table, options.unknown_nodes)
        if len(ids) > known:
            index = np.concatenate([np.arange(known), np.full(len(ids) - known, -1)])
            nodes = nodes.rows(index, ids)
        plan = plan_columns(nodes.frame) if plan is None else tuple(plan)
        fields = _node_fields(nodes, plan)
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
    if plan is not None:
        _say_what_leaks(graph, plan)
    return ReadGraph(graph=graph, plan=None if plan is None else tuple(plan))


def _read_nodes(path: Path, options: ReadOptions, plan: Sequence[Column] | None) -> _Nodes:
    table = open_table(path)
    where = str(path)
    if not table.has_header:
        raise DataError(
            "GFM106",
            "a node table needs a first line that names its columns",
            where=f"{where}, line {table.skip + 1}",
        )
    header = read_header(table.names)
    names = [field.raw for field in header if field.role != "IGNORE"]
    id_name, told = id_column(header, options.id, where)
    if not told:
        log.info("%s: %r is taken for the column of ids", path.name, id_name)
    target: list[str] = []
    if options.target is not None:
        short = {field.name: field.raw for field in header}
        try:
            target = target_columns(short.get(options.target, options.target), names, where)
        except DataError:
            if options.need_target:
                raise
    splits = [name for name in (SPLIT, *MASK_COLUMNS) if name in names and name not in target]
    free = [name for name in names if name not in (id_name, *target, *splits)]
    lists = [field.raw for field in header if field.is_list and field.raw in free]
    if lists:
        log.warning("%s: %d columns of lists are not read: %s", path.name, len(lists),
                    ", ".join(lists[:FEW]))  # fmt: skip
    free = [name for name in free if name not in lists]
    if plan is not None:
        wanted = {column.name for column in plan}
        extra = [name for name in free if name not in wanted]
        if extra:
            log.info("%s: %d columns that the model was not fitted to are not read: %s", path.name,
                     len(extra), ", ".join(extra[:FEW]))  # fmt: skip
        free = [name for name in free if name in wanted]
        words = {column.name for column in plan if column.kind == "category"}
    else:
        if options.features == "none":
            free = []
        elif options.features is not None:
            free = [n for n in target_columns(options.features, names, where) if n in free]
        words = {field.raw for field in header if field.is_text or field.role in ("LABEL", "TYPE")}
    text = table.text(list(dict.fromkeys([id_name, *target, *splits])))
    ids = clean_ids(table, text[id_name].combine_chunks(), options.strip_ids)
    frame = read_frame(table, free, num_rows=len(ids), text=[n for n in free if n in words])
    return _Nodes(
        table=table,
        ids=ids,
        text={name: text[name].combine_chunks() for name in (*target, *splits)},
        frame=frame,
        target=target,
        splits=splits,
        task=options.task,
    )


def _without_repeats(nodes: _Nodes) -> _Nodes:
    """Rows that say the same of the same node once."""
    from pyarrow import compute as pc

    codes = nodes.ids.dictionary_encode()
    if len(codes.dictionary) == len(nodes.ids):
        return nodes
    code = codes.indices.to_numpy()
    _, first = np.unique(code, return_index=True)  # codes count ids in the order they appear
    rows = np.flatnonzero(first[code] != np.arange(len(code)))
    same = np.ones(len(rows), dtype=bool)
    one, other = nodes.rows(rows, None), nodes.rows(first[code[rows]], None)
    for name in nodes.text:
        same &= _equal(one.text[name], other.text[name])
    for name in nodes.frame.text:
        same &= _equal(one.frame.text[name], other.frame.text[name])
    left, right = (
        part if isinstance(part, np.ndarray) else part.toarray()
        for part in (one.frame.numbers, other.frame.numbers)
    )
    same &= ((left == right) | (np.isnan(left) & np.isnan(right))).all(axis=1)
    if not same.all():
        ids = pc.unique(nodes.ids.take(rows[~same]))
        raise DataError(
            "GFM126",
            f"{len(ids):,} nodes are described twice, and not the same",
            where=f"{nodes.table.where(rows[~same][:FEW].tolist())}: "
            + ", ".join(map(repr, ids.slice(0, FEW).to_pylist())),
            fix="keep one row of each node",
        )
    log.warning("%s: %s rows repeat a node that is there already and are left out",
                nodes.table.path.name, f"{len(rows):,}")  # fmt: skip
    return nodes.rows(first, nodes.ids.take(first))


def _equal(one: Any, other: Any) -> np.ndarray:
    from pyarrow import compute as pc

    found = pc.equal(one, other)
    both = pc.and_(pc.is_null(one), pc.is_null(other))
    return np.asarray(pc.if_else(both, True, found.fill_null(False)).to_numpy(zero_copy_only=False))


def _node_fields(nodes: _Nodes, plan: Sequence[Column]) -> dict[str, Any]:
    """What :class:`Graph` takes of a node table."""
    fields: dict[str, Any] = {"x": encode(nodes.frame, plan)}
    if nodes.target:
        fields["y"], fields["class_names"] = read_labels(
            nodes.table, {name: nodes.text[name] for name in nodes.target}, task=nodes.task
        )
    if nodes.splits:
        fields |= read_splits(nodes.table, {name: nodes.text[name] for name in nodes.splits})
    return fields


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
