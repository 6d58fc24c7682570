"""Node datasets of the Open Graph Benchmark, from their raw ``.csv.gz`` files.

OGB's own loader is not used: version 1.3.6 cannot open its own cache with torch >= 2.6, asks
questions on the terminal, and fetches over plain http.
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from graphfm.errors import DataError
from graphfm.graphs.catalog.rawfiles import here
from graphfm.graphs.catalog.source import RawFile, SourceConfig
from graphfm.graphs.convert import features
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.labels import labels

FOLDER = "ogb"  # folder below the data folder, with one folder per dataset as OGB unpacks it
PARTS = ("train", "valid", "test")


class Config(SourceConfig):
    """Dataset, and facts that its files do not hold."""

    kind: Literal["ogb"] = "ogb"
    name: Literal["ogbn-arxiv", "ogbn-products", "ogbn-proteins", "ogbn-mag"]
    """Name of the dataset; its folder has ``_`` for ``-``."""
    split: str
    """Folder of the official split."""
    undirected: bool = False
    """Treat each edge as undirected; the file lists it once."""
    node_features: bool = True
    """Read the features of nodes; false if the dataset has none."""
    node_type: str = ""
    """Type of the nodes to read, in a dataset with several types: the type with labels."""
    relation: str = ""
    """Type of the edges among these nodes."""
    url: str = ""
    """Address of OGB's archive; its folder has the same name."""
    max_mb: float = Field(default=64, gt=0)
    """Limit on the size of the archive, in MB."""

    def downloads(self) -> list[RawFile]:
        """Return the files that are read, in OGB's archive."""
        if not self.url:
            return []
        top = PurePosixPath(self.url).stem
        return [
            RawFile(path=f"{self._folder}/{p}", url=self.url, member=f"{top}/{p}",
                    max_mb=self.max_mb)
            for p in self._tables.values()
        ]  # fmt: skip

    def raw_files(self, data: Path) -> list[Path]:
        """Return the files that are read; their hashes are part of the cache key."""
        unpacked = f"{self._folder} is the unpacked archive of {self.name}"
        return here([data / self._folder / p for p in self._tables.values()], what=unpacked)

    @property
    def _folder(self) -> str:
        """Folder of the dataset below the data folder."""
        return f"{FOLDER}/{self.name.replace('-', '_')}"

    @property
    def _tables(self) -> dict[str, str]:
        """Path of each table below the dataset's folder."""
        kind = f"{self.node_type}/" if self.node_type else ""
        edges = f"relations/{self.node_type}___{self.relation}___{self.node_type}/" if kind else ""
        tables = {
            "edge": f"raw/{edges}edge",
            "node-label": f"raw/node-label/{kind}node-label" if kind else "raw/node-label",
            "num-node": "raw/num-node-dict" if kind else "raw/num-node-list",
        }
        if self.node_features:
            tables["node-feat"] = f"raw/node-feat/{kind}node-feat" if kind else "raw/node-feat"
        tables |= {part: f"split/{self.split}/{kind}{part}" for part in PARTS}
        return {table: f"{path}.csv.gz" for table, path in tables.items()}

    def build(self, *, name: str, data: Path) -> Graph:
        """Return the graph, with its official split as masks."""
        paths = dict(zip(self._tables, self.raw_files(data), strict=True))
        num_nodes = _num_nodes(paths["num-node"], self.node_type)
        y, class_names = labels(torch.from_numpy(_table(paths["node-label"], np.int64)))
        x = None
        if self.node_features:
            x = features(torch.from_numpy(_table(paths["node-feat"], np.float32)))
        masks = {
            mask: _mask(paths[part], num_nodes) for mask, part in zip(MASKS, PARTS, strict=True)
        }
        return Graph.from_edges(
            _table(paths["edge"], np.int64).T,
            num_nodes=num_nodes,
            name=name,
            directed=False if self.undirected else None,
            x=x,
            y=y,
            class_names=class_names,
            **masks,
        )


def _num_nodes(path: Path, node_type: str) -> int:
    """Return the number of nodes: the only number, or that of a node type, below its name."""
    skip = 0
    column = 0
    if node_type:
        try:
            with gzip.open(path, "rt", encoding="utf-8") as file:
                column = file.readline().strip().split(",").index(node_type)
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise DataError(
                "GFM103", f"no number of nodes of kind {node_type!r}: {error}", where=str(path)
            ) from error
        skip = 1
    counts = _table(path, np.int64, skip=skip)
    if len(counts) != 1 or (counts.size != 1 and not node_type):
        raise DataError("GFM103", f"expected one graph, got {counts.size}", where=str(path))
    return int(counts[0, column])


def _table(path: Path, dtype: type[np.number[Any]], *, skip: int = 0) -> np.ndarray:
    """Read lines of numbers with commas between them, (lines, numbers in a line)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # for an empty file, and fractions among integers
            # As fast as pandas: the 169,343 x 128 features of arxiv take 2.7 s.
            return np.loadtxt(
                path, dtype=dtype, delimiter=",", comments=None, ndmin=2, skiprows=skip
            )
    except (OSError, EOFError, zlib.error, ValueError, Warning) as error:
        raise DataError(
            "GFM103",
            f"not a table of {np.dtype(dtype)}: {error}",
            where=str(path),
            fix="fetch the file again from its origin",
        ) from error


def _mask(path: Path, num_nodes: int) -> torch.Tensor:
    """Return a mask of the nodes that a file lists, (N,) bool."""
    nodes = torch.from_numpy(_table(path, np.int64)[:, 0])
    low, high = int(nodes.min()), int(nodes.max())
    if not 0 <= low <= high < num_nodes:
        raise DataError(
            "GFM113",
            f"a split must name nodes 0 to {num_nodes - 1}, got {low} to {high}",
            where=str(path),
        )
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[nodes] = True
    return mask
