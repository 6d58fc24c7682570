"""A node dataset of the Open Graph Benchmark, from its raw ``.csv.gz`` files.

Not by OGB's own loader: 1.3.6 cannot open its own cache with torch >= 2.6, asks questions on the
terminal, and fetches over plain http.
"""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from graphfm.errors import DataError
from graphfm.graphs.convert import features, labels
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.rawfiles import here
from graphfm.parts import PartConfig

FOLDER = "ogb"  # below the data folder; in it one folder a dataset, laid out as OGB unpacks it
PARTS = ("train", "valid", "test")


class Config(PartConfig):
    """Which dataset, and what its files do not say themselves."""

    kind: Literal["ogb"] = "ogb"
    name: Literal["ogbn-arxiv", "ogbn-products", "ogbn-proteins"]
    """The dataset's own name; its folder has ``_`` for ``-``."""
    split: str
    """The official split, by its folder."""
    undirected: bool = False
    """Each edge goes both ways, and is listed once."""
    node_features: bool = True
    """Whether nodes have features."""

    def raw_files(self, data: Path) -> list[Path]:
        """The files that are read, whose hashes are part of the cache key."""
        tables = ["edge", "node-label", "num-node-list"]
        if self.node_features:
            tables.append("node-feat")
        folder = data / FOLDER / self.name.replace("-", "_")
        paths = [folder / "raw" / f"{table}.csv.gz" for table in tables]
        paths += [folder / "split" / self.split / f"{part}.csv.gz" for part in PARTS]
        unpacked = f"{folder.relative_to(data)} is what OGB's archive of {self.name} unpacks to"
        return here(paths, what=unpacked)

    def build(self, *, name: str, data: Path) -> Graph:
        """Read the graph, with its official split as masks."""
        paths = {path.name.removesuffix(".csv.gz"): path for path in self.raw_files(data)}
        counts = _table(paths["num-node-list"], np.int64)
        if counts.size != 1:
            raise DataError(
                "GFM103",
                f"expected one graph, got {counts.size}",
                where=str(paths["num-node-list"]),
            )
        num_nodes = int(counts[0, 0])
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


def _table(path: Path, dtype: type[np.number[Any]]) -> np.ndarray:
    """Lines of numbers with commas between them: (lines, numbers in a line)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an empty file, and fractions among integers
            # As fast as pandas: the 169,343 x 128 features of arxiv take 2.7 s.
            return np.loadtxt(path, dtype=dtype, delimiter=",", comments=None, ndmin=2)
    except (OSError, EOFError, zlib.error, ValueError, Warning) as error:
        raise DataError(
            "GFM103",
            f"not a table of {np.dtype(dtype)}: {error}",
            where=str(path),
            fix="fetch the file again from its origin",
        ) from error


def _mask(path: Path, num_nodes: int) -> torch.Tensor:
    """Nodes that a file lists, as (N,) bool."""
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
