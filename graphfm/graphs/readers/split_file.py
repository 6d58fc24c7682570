"""Reader of a split: a table of node ids and the part that each belongs to."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphfm.errors import FEW, DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.headers import id_column, read_header
from graphfm.graphs.readers.open_table import open_table
from graphfm.graphs.readers.targets import SPLIT, no_column, read_splits

log = logging.getLogger(__name__)


def with_split_file(graph: Graph, path: Path) -> Graph:
    """Return the graph with the split of a table of two columns, ``id`` and ``split``.

    Nodes that are not in the table are in no part.

    Args:
        graph: The graph, whose node ids are in the table.
        path: Path of a CSV or Parquet file; ``split`` holds train, val, test or nothing.

    Raises:
        DataError: GFM127 without a column ``split``, GFM135 for an id that is not in the graph, for
            one in two parts, and for another value of ``split``, and the errors of
            :func:`open_table`.
    """
    from pyarrow import compute as pc

    table = open_table(path)
    header = read_header(table.names)
    if SPLIT not in table.names:
        raise no_column("GFM127", SPLIT, table.names, str(path))
    id_name, _ = id_column([f for f in header if f.raw != SPLIT], None, str(path))
    text = table.text([id_name, SPLIT])
    ids = text[id_name].combine_chunks().fill_null("")
    masks = read_splits(table, {SPLIT: text[SPLIT]})
    place = pc.index_in(ids, value_set=_id_array(graph))
    gone = np.flatnonzero(np.asarray(place.is_null()))
    if len(gone):
        named = pc.unique(ids.take(gone))
        raise DataError(
            "GFM135",
            f"the split names {len(named):,} nodes that are not in the graph",
            where=f"{table.where(gone[:FEW].tolist())}: {_listed(named)}",
            why="ids are compared as exact text",
            fix="delete the lines, or write the ids as they are in the graph",
        )
    at = place.to_numpy(zero_copy_only=False)
    parts = {name: np.zeros(graph.num_nodes, dtype=bool) for name in masks}
    for name, mask in masks.items():
        parts[name][at[mask.numpy()]] = True
    times = np.zeros(graph.num_nodes, dtype=np.int8)
    for part in parts.values():
        times += part
    if (times > 1).any():
        nodes = np.flatnonzero(times > 1)
        rows = np.flatnonzero(np.isin(at, nodes))
        raise DataError(
            "GFM135",
            f"splits must not overlap, but {len(nodes):,} nodes are in two of them",
            where=f"{table.where(rows[:FEW].tolist())}: {_listed(pc.unique(ids.take(rows)))}",
            fix="give every node to at most one of train, val and test",
        )
    left = graph.num_nodes - sum(int(part.sum()) for part in parts.values())
    log.info("%s: %s; %s of %s nodes are in no part", path.name,
             ", ".join(f"{part.sum():,} {name.removesuffix('_mask')}"
                       for name, part in parts.items()) or "no part at all",
             f"{left:,}", f"{graph.num_nodes:,}")  # fmt: skip
    made = {name: torch.from_numpy(part) for name, part in parts.items()}
    return graph.replace(**{"train_mask": None, "val_mask": None, "test_mask": None, **made})


def _id_array(graph: Graph) -> Any:
    """Return the node ids, (N,) text."""
    import pyarrow as pa

    if graph.node_ids is None:
        return pa.array(np.arange(graph.num_nodes)).cast(pa.string())
    return pa.array(graph.node_ids, pa.string())


def _listed(names: Any) -> str:
    """Return the first few names in quotes."""
    shown = ", ".join(map(repr, names.slice(0, FEW).to_pylist()))
    return shown + (", ..." if len(names) > FEW else "")
