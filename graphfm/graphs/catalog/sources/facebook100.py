"""One school of Facebook100: friendships at an American university in September 2005.

One archive holds all 100 schools, each as a ``.mat`` file: ``A``, sparse (N, N), and
``local_info``, (N, 7). The graph equals that of PyG's ``LINKXDataset``, which has five of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse

from graphfm.errors import DataError
from graphfm.graphs.catalog.source import RawFile, SourceConfig
from graphfm.graphs.convert import features
from graphfm.graphs.graph import Graph
from graphfm.graphs.labels import labels

ARCHIVE = "https://archive.org/download/oxford-2005-facebook-matrix/facebook100.zip"
MAX_MB = 256  # the archive has 207
COLUMNS = ("status", "gender", "major", "minor", "dorm", "year", "high school")
"""Columns of ``local_info``; 0 = missing."""
SMALLEST_YEAR = 30
"""Smallest class year that is a label, as in the bundle's Simmons81; smaller ones are typos."""


class Config(SourceConfig):
    """School and target."""

    kind: Literal["facebook100"] = "facebook100"
    school: str
    """Name of its file in the archive, without ``.mat``."""
    target: Literal["gender", "year"] = "gender"
    """Target column of ``local_info``; the other six columns are features, one-hot."""

    def downloads(self) -> list[RawFile]:
        """Return the file of the school."""
        path = f"facebook100/{self.school.replace(' ', '')}.mat"
        member = f"facebook100/{self.school}.mat"
        return [RawFile(path=path, url=ARCHIVE, member=member, max_mb=MAX_MB)]

    def build(self, *, name: str, data: Path) -> Graph:
        """Return the graph."""
        adjacency, info = _read(self.raw_files(data)[0])
        column = COLUMNS.index(self.target)
        y = info[:, column]
        if self.target == "year":
            years, number, counts = np.unique(y, return_inverse=True, return_counts=True)
            y = np.where((counts[number] < SMALLEST_YEAR) | (years[number] == 0), -1, y)
        else:
            y = y - 1  # as in PyG: -1 = missing, 0, 1
        codes, class_names = labels(torch.from_numpy(y))
        coo = adjacency.tocoo()
        return Graph.from_edges(
            np.stack([coo.row, coo.col]).astype(np.int64),
            num_nodes=len(info),
            name=name,
            x=features(_one_hot(np.delete(info, column, axis=1))),
            y=codes,
            class_names=class_names,
        )


def _one_hot(columns: np.ndarray) -> sparse.csr_array:
    """Return one column for each value of each column, 0 = missing included, (N, F)."""
    parts = []
    for values in columns.T:
        found, number = np.unique(values, return_inverse=True)
        ones = np.ones(len(values), dtype=np.float32)
        rows = np.arange(len(values) + 1, dtype=np.int32)
        shape = (len(values), len(found))
        parts.append(sparse.csr_array((ones, number.astype(np.int32), rows), shape=shape))
    return sparse.csr_array(sparse.hstack(parts, format="csr"))


def _read(path: Path) -> tuple[Any, np.ndarray]:
    """Return both arrays of a file, which may hold numbers only.

    ``loadmat`` runs no code, but it returns MATLAB's functions and objects as object arrays.
    """
    from scipy.io import loadmat

    try:
        with path.open("rb") as file:
            content = loadmat(file, variable_names=("A", "local_info"))
        adjacency, info = content["A"], content["local_info"]
    except Exception as error:  # scipy and zlib raise many kinds for a damaged file
        raise DataError(
            "GFM103",
            f"not a school of Facebook100: {type(error).__name__}: {error}",
            where=str(path),
            fix="fetch the file again from its origin",
        ) from error
    numbers = all(getattr(a, "dtype", np.dtype(object)).kind in "biuf" for a in (adjacency, info))
    shape = (len(info), len(info)) if np.ndim(info) == 2 else None
    if not (numbers and sparse.issparse(adjacency) and adjacency.shape == shape):
        raise DataError(
            "GFM138",
            f"expected A, a sparse matrix of numbers, and local_info, a table of {len(COLUMNS)} "
            "columns of them, for the same nodes; got "
            + ", ".join(f"{_kind(a)} {np.shape(a)}" for a in (adjacency, info)),
            where=str(path),
            fix="fetch the file again from its origin",
        )
    if info.shape[1] != len(COLUMNS):
        raise DataError(
            "GFM103",
            f"local_info must have {len(COLUMNS)} columns, got {info.shape[1]}",
            where=str(path),
        )
    return adjacency, np.asarray(info).astype(np.int64)


def _kind(array: Any) -> str:
    """Describe the type of an array."""
    return f"{'sparse ' if sparse.issparse(array) else ''}{getattr(array, 'dtype', type(array))}"
