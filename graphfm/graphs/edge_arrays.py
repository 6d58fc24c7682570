"""Arrays that a graph is made of: checks of its edges, their sparse matrix, other fields.

Shapes:
    N  nodes   E  edges
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import FEW, DataError


def adjacency(row: np.ndarray, col: np.ndarray, num_nodes: int) -> sparse.csr_array:
    """Return edges as a sparse matrix of ones, with repeats merged."""
    ones = np.ones(len(row), dtype=np.int8)
    matrix = sparse.coo_array((ones, (row, col)), shape=(num_nodes, num_nodes)).tocsr()
    matrix.data[:] = 1
    return matrix


def edge_array(edge_index: Tensor | np.ndarray, num_nodes: int, name: str) -> np.ndarray:
    """Check an edge list, and return it as an array of integers, (2, E)."""
    edges = np.asarray(edge_index)
    if edges.ndim != 2 or edges.shape[0] != 2:
        turned = edges.ndim == 2 and edges.shape[1] == 2
        raise DataError(
            "GFM115",
            f"edge_index must have shape (2, E), got {edges.shape}",
            where=name,
            fix="it looks transposed: pass edge_index.t()"
            if turned
            else "pass sources and targets",
        )
    if not np.issubdtype(edges.dtype, np.integer):
        if not (edges == np.floor(edges)).all():
            raise DataError(
                "GFM115", f"edge_index must hold integers, got {edges.dtype}", where=name
            )
        edges = edges.astype(np.int64)
    if edges.size and not 0 <= edges.min() <= edges.max() < num_nodes:
        bad = np.flatnonzero(((edges < 0) | (edges >= num_nodes)).any(axis=0))[:FEW]
        pairs = ", ".join(f"{edges[0, i]} -> {edges[1, i]}" for i in bad)
        raise DataError(
            "GFM114" if edges.min() < 0 else "GFM113",
            f"edges must name nodes 0 to {num_nodes - 1} (num_nodes={num_nodes}), got "
            f"{edges.min()} to {edges.max()}",
            where=f"{name}, edges {pairs}",
        )
    return edges


def as_tensors(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields of a graph with arrays and lists as tensors of the types that it needs."""
    made = dict(fields)
    for name in ("x", "y", "train_mask", "val_mask", "test_mask"):
        value = fields.get(name)
        if isinstance(value, np.ndarray | list):
            array = torch.from_numpy(np.array(value))
            if name == "x":
                array = array.float()
            elif name == "y" and array.is_floating_point():
                array = array.double()
            elif name == "y":
                array = array.long() if array.ndim == 1 else array.to(torch.int8)
            made[name] = array
    return made
