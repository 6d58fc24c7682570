"""Tables that come with scikit-learn, as nearest-neighbor graphs of their rows."""

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
    """Which table, and how its rows are joined."""

    kind: Literal["sklearn"] = "sklearn"
    table: Literal["breast_cancer", "digits", "iris", "wine"]
    """The loader without its ``load_``."""
    num_neighbors: int = Field(default=10, ge=1)
    """Each row is joined to this many nearest rows, in standardised columns; edges go both ways."""

    def build(self, *, name: str, data: Path) -> Graph:
        """Make the graph; features are the columns as they are."""
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
    """Nearest other rows of each row: (N, F) -> (N, k), ties to the lower row."""
    spread = table.std(axis=0)
    scaled = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1)
    distance = cdist(scaled, scaled, "sqeuclidean")
    np.fill_diagonal(distance, np.inf)
    # Rounded and stable: equal rows (iris has some) fall in the same order on every machine.
    return np.argsort(distance.round(8), axis=1, kind="stable")[:, :k]
