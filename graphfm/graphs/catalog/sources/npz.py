"""Graph from one ``.npz`` file of plain arrays, in the format of the real-data bundle.

``edge_index`` (2, E); ``y`` (N,) with -1 = unlabelled, or (N, C) of 0 and 1; features as ``x``
(N, F) or as CSR parts ``x_data, x_indices, x_indptr, x_shape``, or absent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from graphfm.errors import DataError
from graphfm.graphs.catalog.rawfiles import here
from graphfm.graphs.catalog.source import SourceConfig
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.arrays import bundle_graph, load_arrays, readable_arrays

KEYS = ("edge_index", "y", "x", "x_data", "x_indices", "x_indptr", "x_shape")


class Config(SourceConfig):
    """Path of the file, and names of its classes."""

    kind: Literal["npz"] = "npz"
    file: str
    """Path of the file, below the data folder."""
    classes: tuple[str, ...] = ()
    """Name of each class. Default: its number."""

    def raw_files(self, data: Path) -> list[Path]:
        """Return the file; its hash is part of the cache key."""
        return here([data / self.file])

    def build(self, *, name: str, data: Path) -> Graph:
        """Return the graph."""
        path = self.raw_files(data)[0]
        with readable_arrays(path):
            arrays = load_arrays(path)
            # Masks and node ids are not read: the catalog gives splits of its own.
            graph = bundle_graph({key: arrays[key] for key in KEYS if key in arrays}, name)
        if graph.y is None:
            raise DataError("GFM103", "a graph of the catalog needs labels, y", where=str(path))
        if self.classes and len(self.classes) != graph.num_classes:
            raise DataError(
                "GFM118",
                f"the entry names {len(self.classes)} classes, the file has {graph.num_classes}",
                where=str(path),
            )
        return graph.replace(class_names=self.classes or graph.class_names)
