"""Nearest-neighbor graphs of the rows of scikit-learn's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy.spatial.distance import cdist

from graphfm.graphs.catalog.source import SourceConfig
from graphfm.graphs.graph import Graph


class Config(SourceConfig):
    """Table, and number of neighbors of each row."""

    kind: Literal["sklearn"] = "sklearn"
    table: Literal["breast_cancer", "digits", "iris", "wine"]
    """Name of the loader, without ``load_``."""
    num_neighbors: int = Field(default=10, ge=1)
    """Number of nearest rows, by standardised columns, that each row is joined to."""

    def build(self, *, name: str, data: Path) -> Graph:
        """Return the graph; its features are the columns of the table."""
        import sklearn.datasets

        table = getattr(sklearn.datasets, f"load_{self.table}")()
        num_rows = len(table.data)
        neighbors = _nearest(table.data, min(self.num_neighbors, num_rows - 1))
        rows = np.repeat(np.arange(num_rows), neighbors.shape[1])
        return Graph.from_edges(
            np.stack([rows, neighbors.ravel()]),
            num_nodes=num_rows,
            name=name,
            directed=False,
            x=torch.from_numpy(table.data.astype(np.float32)),
            y=torch.from_numpy(table.target.astype(np.int64)),
            class_names=tuple(str(c).replace(" ", "_") for c in table.target_names),
        )


def _nearest(table: np.ndarray, k: int) -> np.ndarray:
    """Return the nearest other rows of each row, (N, F) -> (N, k); the lower row wins a tie."""
    deviation = table.std(axis=0)
    scaled = (table - table.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    distance = cdist(scaled, scaled, "sqeuclidean")
    np.fill_diagonal(distance, np.inf)
    # Rounding and a stable sort order equal rows (iris has some) the same way on every machine.
    return np.argsort(distance.round(8), axis=1, kind="stable")[:, :k]
