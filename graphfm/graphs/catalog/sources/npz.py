"""A graph in one ``.npz`` of plain arrays, in the format of the real-data bundle.

``edge_index`` (2, E); ``y`` (N,) with -1 = unlabelled, or (N, C) of 0 and 1; features as ``x``
(N, F) or as CSR parts ``x_data, x_indices, x_indptr, x_shape``, or absent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from scipy import sparse

from graphfm.errors import DataError
from graphfm.graphs.catalog.rawfiles import here
from graphfm.graphs.catalog.source import SourceConfig
from graphfm.graphs.convert import features
from graphfm.graphs.graph import Graph
from graphfm.graphs.labels import labels


class Config(SourceConfig):
    """Where the file is, and what its classes are called."""

    kind: Literal["npz"] = "npz"
    file: str
    """The file, below the data folder."""
    classes: tuple[str, ...] = ()
    """Name of each class; empty = their numbers."""

    def raw_files(self, data: Path) -> list[Path]:
        """The file, whose hash is part of the cache key."""
        return here([data / self.file])

    def build(self, *, name: str, data: Path) -> Graph:
        """Read the graph."""
        path = self.raw_files(data)[0]
        try:
            # Opened here: np.load leaves a damaged file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            edge_index, y = arrays["edge_index"], arrays["y"]
            x = arrays.get("x")
            if "x_data" in arrays:
                parts = (arrays["x_data"], arrays["x_indices"], arrays["x_indptr"])
                shape = tuple(int(n) for n in arrays["x_shape"])
                x = sparse.csr_array(parts, shape=shape)
        except (
            Exception
        ) as error:  # zlib, zipfile and numpy each raise their own for a damaged file
            raise DataError(
                "GFM103", f"cannot be read as a graph: {error}", where=str(path)
            ) from error
        codes, class_names = labels(y)
        if self.classes:
            if len(self.classes) != len(class_names):
                raise DataError(
                    "GFM118",
                    f"the entry names {len(self.classes)} classes, the file has {len(class_names)}",
                    where=str(path),
                )
            class_names = self.classes
        return Graph.from_edges(
            edge_index.astype(np.int64),
            num_nodes=len(y),
            name=name,
            x=features(x),
            y=codes,
            class_names=class_names,
        )
