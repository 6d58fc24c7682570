"""Reader of GraphML, GML, GEXF and JSON, by NetworkX."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.errors import FEW, DataError, GraphFMError
from graphfm.graphs.convert import from_networkx
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.attributes import attribute_frame, attribute_text
from graphfm.graphs.readers.columns import Column, encode, plan_columns
from graphfm.graphs.readers.json_graphs import read_json
from graphfm.graphs.readers.tables import TableFile
from graphfm.graphs.readers.targets import (
    SPLIT,
    feature_columns,
    no_column,
    read_labels,
    read_splits,
    target_columns,
)
from graphfm.graphs.readers.xml_graphs import read_xml

if TYPE_CHECKING:
    from graphfm.graphs.readers.options import ReadOptions


def read_markup(
    path: Path, suffix: str, name: str, options: ReadOptions, plan: Sequence[Column] | None
) -> tuple[Graph, tuple[Column, ...]]:
    """Read a graph and the rules by which its node attributes become features.

    Args:
        path: Path of the file.
        suffix: ``.graphml``, ``.gml``, ``.gexf`` or ``.json``.
        name: Id of the graph.
        options: Options; ``target``, ``need_target``, ``features``, ``id``, ``directed`` and
            ``task`` are read.
        plan: Rules of an earlier fit. Default: made from this file.

    Raises:
        DataError: GFM103 for a file that cannot be read, GFM104 for a target that no node has.
    """
    import pyarrow as pa

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
    records = [dict(record) for _, record in found.nodes(data=True)]
    for _, record in found.nodes(data=True):
        record.clear()  # from_networkx below is to read the structure alone
    keys = list(dict.fromkeys(str(key) for record in records for key in record))
    target: list[str] = []
    if options.target is not None:
        try:
            target = target_columns(options.target, keys, str(path))
        except DataError:
            if options.need_target:
                raise
    fields: dict[str, Any] = {}
    columns = {key: pa.array(attribute_text(records, key), pa.string()) for key in (*target, SPLIT)}
    table = TableFile(path=path, names=tuple(keys))
    if target:
        wanted = {key: columns[key] for key in target}
        fields |= read_labels(table, wanted, task=options.task)
    ids = None if options.id is None else _ids(records, options.id, keys, path)
    free = [key for key in keys if key not in (*target, options.id)]
    if SPLIT in free:
        fields |= read_splits(table, {SPLIT: columns[SPLIT]})
        free.remove(SPLIT)
    if plan is not None:
        free = [column.name for column in plan if column.name in free]
    else:
        free = [k for k in feature_columns(options.features, keys, str(path)) if k in free]
    frame = attribute_frame(path, records, free)
    chosen = plan_columns(frame, options.features) if plan is None else tuple(plan)
    graph = from_networkx(found, name=name)
    if ids is not None:
        fields["node_ids"] = ids
    return graph.replace(x=encode(frame, chosen), **fields), chosen


def _parsed(path: Path, suffix: str, directed: bool | None) -> Any:
    """Return the file as a NetworkX graph."""
    import networkx as nx

    if suffix == ".json":
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


def _ids(
    records: Sequence[dict[str, Any]], key: str, keys: Sequence[str], path: Path
) -> tuple[str, ...]:
    """Return the attribute that ``--id`` names, one id per node."""
    if key not in keys:
        raise no_column("GFM127", key, keys, str(path))
    words = [str(record.get(key, "")).strip() for record in records]
    empty = words.count("")
    if empty:
        raise DataError("GFM111", f"{empty:,} ids are empty", where=f"{path}, attribute {key!r}")
    if len(set(words)) < len(words):
        twice = [word for word, count in Counter(words).items() if count > 1]
        raise DataError(
            "GFM126",
            f"{len(twice):,} ids belong to several nodes",
            where=f"{path}, attribute {key!r}: {', '.join(map(repr, twice[:FEW]))}",
            fix="name an attribute that differs for every node",
        )
    return tuple(words)
