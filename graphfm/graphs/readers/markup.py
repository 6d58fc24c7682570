"""Reader of GraphML, GML and GEXF, by NetworkX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.errors import DataError
from graphfm.graphs.convert import from_networkx
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.attributes import attribute_frame, attribute_text
from graphfm.graphs.readers.columns import Column, encode, plan_columns
from graphfm.graphs.readers.tables import TableFile
from graphfm.graphs.readers.targets import (
    SPLIT,
    feature_columns,
    read_labels,
    read_splits,
    target_columns,
)

if TYPE_CHECKING:
    from graphfm.graphs.readers.options import ReadOptions


def read_markup(
    path: Path, suffix: str, name: str, options: ReadOptions, plan: Sequence[Column] | None
) -> tuple[Graph, tuple[Column, ...]]:
    """Read a graph and the rules by which its node attributes become features.

    Args:
        path: Path of the file.
        suffix: ``.graphml``, ``.gml`` or ``.gexf``.
        name: Id of the graph.
        options: Options; ``target``, ``need_target``, ``features`` and ``task`` are read.
        plan: Rules of an earlier fit. Default: made from this file.

    Raises:
        DataError: GFM103 for a file that cannot be read, GFM104 for a target that no node has.
    """
    import networkx as nx
    import pyarrow as pa

    try:
        if suffix == ".graphml":
            found = nx.read_graphml(path)
        elif suffix == ".gexf":
            found = nx.read_gexf(path)
        else:
            try:
                found = nx.read_gml(path)
            except nx.NetworkXError:  # nodes without labels are named by their numbers
                found = nx.read_gml(path, label="id")
    except (PermissionError, MemoryError):
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
        fields["y"], fields["class_names"] = read_labels(table, wanted, task=options.task)
    free = [key for key in keys if key not in target]
    if SPLIT in free:
        fields |= read_splits(table, {SPLIT: columns[SPLIT]})
        free.remove(SPLIT)
    if plan is not None:
        free = [column.name for column in plan if column.name in free]
    else:
        free = [k for k in feature_columns(options.features, keys, str(path)) if k in free]
    frame = attribute_frame(path, records, free)
    chosen = plan_columns(frame) if plan is None else tuple(plan)
    graph = from_networkx(found, name=name)
    return graph.replace(x=encode(frame, chosen), **fields), chosen
