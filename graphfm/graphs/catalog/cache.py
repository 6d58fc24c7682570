"""Cached graphs: a folder of tensors and plain values for each.

Tensors are stored as safetensors and mapped into memory: a page is read at its first use, and
processes that map the same file share it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from scipy import sparse

from graphfm.errors import DataError
from graphfm.graphs.graph import MASKS, Graph
from graphfm.storage import read_folder, write_folder


def write_graph(graph: Graph, folder: Path) -> None:
    """Write a graph to a folder, whole or not at all."""
    tensors = {"rowptr": graph.rowptr, "col": graph.col}
    if isinstance(graph.x, sparse.csr_array):
        tensors["x_data"] = torch.from_numpy(graph.x.data)
        tensors["x_indices"] = torch.from_numpy(graph.x.indices)
        tensors["x_indptr"] = torch.from_numpy(graph.x.indptr)
    tensors |= {
        field: getattr(graph, field)
        for field in ("x", "y", *MASKS)
        if isinstance(getattr(graph, field), torch.Tensor)
    }
    config = {
        "name": graph.name,
        "directed": graph.directed,
        "class_names": graph.class_names,
        "node_ids": graph.node_ids,
        "num_duplicates": graph.num_duplicates,
        "num_features": graph.num_features,
        "fingerprint": graph.fingerprint,
    }
    write_folder(folder, "graph", tensors, config)


def read_graph(folder: Path) -> Graph:
    """Read the graph of a folder and compare its fingerprint with the stored one.

    Raises:
        DataError: GFM139 if they differ.
    """
    tensors, config = read_folder(folder, "graph")
    fields: dict[str, Any] = {**tensors, **config}
    fingerprint, num_features = fields.pop("fingerprint"), fields.pop("num_features")
    fields["num_nodes"] = len(tensors["rowptr"]) - 1
    fields["class_names"] = tuple(config["class_names"])
    fields["node_ids"] = tuple(config["node_ids"]) if config["node_ids"] else None
    if "x_data" in tensors:
        parts = tuple(fields.pop(f"x_{part}").numpy() for part in ("data", "indices", "indptr"))
        fields["x"] = sparse.csr_array(parts, shape=(fields["num_nodes"], num_features))
    graph = Graph(**fields)
    if graph.fingerprint != fingerprint:
        raise DataError(
            "GFM139", "a cached graph is not the one that was written", where=str(folder)
        )
    return graph
