"""Writer of graphs as tables: edges.csv and nodes.csv, or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse

from graphfm.graphs.graph import MASKS, Graph

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = "label"
ROWS = 4096  # rows of features that are dense in memory at a time


def write_tables(graph: Graph, folder: Path, *, suffix: str = "csv") -> None:
    """Write a graph to a folder, with both directions of undirected edges.

    Classes that are not sorted by name are written as their numbers: the reader sorts classes by
    name, and the fingerprint of a graph depends on the numbers.

    Args:
        graph: The graph.
        folder: Folder to write to.
        suffix: ``csv`` or ``parquet``.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    folder.mkdir(parents=True, exist_ok=True)
    ids = pa.array(graph.ids())
    source, target = graph.edge_index.numpy()
    edges = pa.table({"source": ids.take(source), "target": ids.take(target)})
    columns: dict[str, pa.Array] = {"id": ids}
    if graph.y is not None and graph.y.is_floating_point():
        columns[LABELS] = pa.array(graph.y.numpy(), from_pandas=True)  # NaN is an empty cell
    elif graph.y is not None and graph.y.ndim == 1:
        names = list(graph.class_names)
        if names != sorted(names):
            names = [str(i) for i in range(len(names))]
        y = graph.y.numpy()
        columns[LABELS] = pa.array(np.array([*names, ""], dtype=object)[y], pa.string())
    elif graph.y is not None:
        for i in range(graph.num_classes):
            columns[f"{LABELS}_{i}"] = pa.array(graph.y[:, i].numpy())
    if graph.train_mask is not None:
        parts = np.full(graph.num_nodes, "", dtype=object)
        for mask in MASKS:
            if getattr(graph, mask) is not None:
                parts[getattr(graph, mask).numpy()] = mask.removesuffix("_mask")
        columns["split"] = pa.array(parts, pa.string())
    names = [f"x{i}" for i in range(graph.num_features)]
    schema = pa.schema(
        [(name, values.type) for name, values in columns.items()]
        + [(name, pa.float32()) for name in names]
    )
    path = folder / f"nodes.{suffix}"
    if suffix == "csv":
        pa.csv.write_csv(edges, folder / "edges.csv")
        writer = pa.csv.CSVWriter(path, schema)
    else:
        pa.parquet.write_table(edges, folder / "edges.parquet")
        writer = pa.parquet.ParquetWriter(path, schema)
    with writer:
        for start in range(0, graph.num_nodes, ROWS):
            part = slice(start, start + ROWS)
            own = [values[part] for values in columns.values()]
            writer.write_table(pa.table([*own, *_features(graph, part)], schema=schema))


def _features(graph: Graph, rows: slice) -> list[pa.Array]:
    """Return some rows of the features, one array per column."""
    import pyarrow as pa

    if graph.x is None:
        return []
    block = graph.x[rows]
    dense = torch.as_tensor(block.toarray() if sparse.issparse(block) else block).numpy()  # type: ignore
    return [pa.array(np.ascontiguousarray(column)) for column in dense.T]


def target_of(graph: Graph) -> str | None:
    """Return the ``--target`` that reads the labels from the tables of a graph."""
    if graph.y is None:
        return None
    return LABELS if graph.y.ndim == 1 else f"{LABELS}_*"
