"""Graph from two text files of numbers: one edge a line, and one class a line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from graphfm.errors import DataError
from graphfm.graphs.catalog.rawfiles import here
from graphfm.graphs.catalog.source import FetchedConfig
from graphfm.graphs.graph import Graph
from graphfm.graphs.labels import labels


class Config(FetchedConfig):
    """Paths and layout of the files; ``files`` are below the data folder."""

    kind: Literal["edgelist"] = "edgelist"
    edges: str
    """File of edges, below the data folder; its first two columns are source and target."""
    labels: str
    """File of classes: line v holds the class of node v, -1 = unlabelled."""
    delimiter: str | None = None
    """Separator of columns. Default: white space."""
    classes: tuple[str, ...] = ()
    """Name of each class. Default: its number."""

    def raw_files(self, data: Path) -> list[Path]:
        """Return both files; their hashes are part of the cache key."""
        return here([data / self.edges, data / self.labels])

    def build(self, *, name: str, data: Path) -> Graph:
        """Return the graph."""
        edges, classes = self.raw_files(data)
        try:
            pairs = np.loadtxt(
                edges, dtype=np.int64, delimiter=self.delimiter, usecols=(0, 1), ndmin=2
            )
            y = np.loadtxt(classes, dtype=np.int64, delimiter=self.delimiter, ndmin=1)
        except (ValueError, UnicodeDecodeError) as error:
            raise DataError("GFM103", f"not a list of edges: {error}", where=str(edges)) from error
        codes, class_names = labels(torch.from_numpy(y))
        return Graph.from_edges(
            pairs.T, num_nodes=len(y), name=name, y=codes, class_names=self.classes or class_names
        )
