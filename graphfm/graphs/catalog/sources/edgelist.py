"""A graph in two text files of numbers: one edge a line, one class a line."""

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
    """Where the files are and how they are laid out; ``files`` are below the data folder."""

    kind: Literal["edgelist"] = "edgelist"
    edges: str
    """File of edges below the data folder: source and target are the first two columns."""
    labels: str
    """File of classes: line v is the class of node v, -1 = unlabelled."""
    delimiter: str | None = None
    """None = any white space."""
    classes: tuple[str, ...] = ()
    """Name of each class; empty = their numbers."""

    def raw_files(self, data: Path) -> list[Path]:
        """Both files, whose hashes are part of the cache key."""
        return here([data / self.edges, data / self.labels])

    def build(self, *, name: str, data: Path) -> Graph:
        """Read the graph."""
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
