"""Read a node table: ids, labels, masks and the columns that become features."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.errors import FEW, DataError
from graphfm.graphs.readers.columns import Column, encode
from graphfm.graphs.readers.edges import clean_ids
from graphfm.graphs.readers.ends import INDEX_LEVEL, confirmed_id, index_columns, is_default_index
from graphfm.graphs.readers.frames import Frame, read_frame
from graphfm.graphs.readers.headers import id_column, read_header
from graphfm.graphs.readers.open_table import open_table
from graphfm.graphs.readers.options import ReadOptions
from graphfm.graphs.readers.tables import TableFile
from graphfm.graphs.readers.targets import (
    MASK_COLUMNS,
    SPLIT,
    feature_columns,
    read_labels,
    read_splits,
    target_columns,
)
from graphfm.graphs.spec import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeTable:
    """Content of a node table.

    Args:
        table: The table, for messages.
        ids: Ids of the nodes, (N,) text.
        text: Columns of labels and splits, (N,) text each.
        frame: Columns that become features.
        target: Names of the label columns.
        splits: Names of the split columns.
        task: Kind of the labels.
    """

    table: TableFile
    ids: Any
    text: dict[str, Any]
    frame: Frame
    target: list[str]
    splits: list[str]
    task: Task

    def rows(self, index: np.ndarray, ids: Any) -> NodeTable:
        """Return the rows ``index``, in this order; -1 means a row without any value.

        Args:
            index: Positions of the rows, (M,).
            ids: Ids of these rows, (M,) text.
        """
        import pyarrow as pa

        places = pa.array(index, mask=index < 0)
        text = {name: values.take(places) for name, values in self.text.items()}
        return replace(self, ids=ids, text=text, frame=self.frame.rows(index))


def read_node_table(
    path: Path | TableFile,
    options: ReadOptions,
    plan: Sequence[Column] | None,
    *,
    edges: Path | TableFile | None = None,
    ids: Any | None = None,
) -> NodeTable:
    """Read a node table.

    Args:
        path: Path of the table, or a table in memory.
        options: Options; ``id``, ``target``, ``need_target``, ``features``, ``strip_ids`` and
            ``task`` are read.
        plan: Columns of an earlier fit. Default: all columns that can be features.
        edges: The edge list; its ids confirm which column holds the ids. Default: none.
        ids: Ids of the nodes, (N,) text, where they are known. Default: a column holds them.

    Raises:
        DataError: GFM106 without a header, GFM104 for a target that is not a column.
    """
    table = open_table(path)
    path = table.path
    where = str(path)
    if not table.has_header:
        raise DataError(
            "GFM106",
            "a node table needs a first line that names its columns",
            where=f"{where}, line {table.skip + 1}",
        )
    header = read_header(table.names)
    names = [field.raw for field in header if field.role != "IGNORE"]
    index = [] if plan is not None else index_columns(table, names)
    id_name = options.id or ""
    is_named = True
    if ids is None:
        id_name, is_named = id_column(header, options.id, where)
    if not is_named:
        id_name = confirmed_id(table, names, index, edges)
        log.info("%s: column %r is read as the node ids", path.name, id_name)
    target: list[str] = []
    if options.target is not None:
        known = [name for name in names if not name.startswith(INDEX_LEVEL)]
        short = {field.name: field.raw for field in header}
        try:
            target = target_columns(short.get(options.target, options.target), known, where)
        except DataError:
            if options.need_target:
                raise
    splits = [name for name in (SPLIT, *MASK_COLUMNS) if name in names and name not in target]
    free = [name for name in names if name not in (id_name, *target, *splits)]
    index = [name for name in index if name in free]
    told = [name for name in index if not is_default_index(table, name)]
    if told:
        log.warning("%s: column %r is the index of the rows and is left out", path.name, told[0])
    free = [name for name in free if name not in index]
    lists = [field.raw for field in header if field.is_list and field.raw in free]
    if lists:
        log.warning("%s: %d columns hold lists and are not read: %s", path.name, len(lists),
                    ", ".join(lists[:FEW]))  # fmt: skip
    free = [name for name in free if name not in lists]
    if plan is not None:
        wanted = {column.name for column in plan}
        extra = [name for name in free if name not in wanted]
        if extra:
            log.warning("%s: %d columns that the model was not fitted to are not read: %s",
                        path.name, len(extra), ", ".join(extra[:FEW]))  # fmt: skip
        free = [name for name in free if name in wanted]
        words = {column.name for column in plan if column.kind == "category"}
    else:
        free = [n for n in feature_columns(options.features, names, where) if n in free]
        words = {field.raw for field in header if field.is_text or field.role in ("LABEL", "TYPE")}
    text = table.text(list(dict.fromkeys([*[id_name] * (ids is None), *target, *splits])))
    if ids is None:
        ids = clean_ids(table, text[id_name].combine_chunks(), options.strip_ids)
    frame = read_frame(table, free, num_rows=len(ids), text=[n for n in free if n in words])
    return NodeTable(
        table=table,
        ids=ids,
        text={name: text[name].combine_chunks() for name in (*target, *splits)},
        frame=frame,
        target=target,
        splits=splits,
        task=options.task,
    )


def without_repeats(nodes: NodeTable) -> NodeTable:
    """Return the table with repeated rows removed.

    Raises:
        DataError: GFM126 for two rows of one node that differ.
    """
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
            f"{len(ids):,} nodes have two rows that differ",
            where=f"{nodes.table.where(rows[~same][:FEW].tolist())}: "
            + ", ".join(map(repr, ids.slice(0, FEW).to_pylist())),
            fix="keep one row of each node",
        )
    log.warning("%s: %s rows repeat a node and are left out",
                nodes.table.path.name, f"{len(rows):,}")  # fmt: skip
    return nodes.rows(first, nodes.ids.take(first))


def _equal(one: Any, other: Any) -> np.ndarray:
    """Return True where two columns agree; two missing values agree."""
    from pyarrow import compute as pc

    found = pc.equal(one, other)
    both = pc.and_(pc.is_null(one), pc.is_null(other))
    return np.asarray(pc.if_else(both, True, found.fill_null(False)).to_numpy(zero_copy_only=False))


def node_fields(nodes: NodeTable, plan: Sequence[Column]) -> dict[str, Any]:
    """Return the fields of :class:`Graph` that a node table fills: features, labels, masks."""
    fields: dict[str, Any] = {"x": encode(nodes.frame, plan)}
    if nodes.target:
        columns = {name: nodes.text[name] for name in nodes.target}
        fields |= read_labels(nodes.table, columns, task=nodes.task)
    if nodes.splits:
        fields |= read_splits(nodes.table, {name: nodes.text[name] for name in nodes.splits})
    return fields
