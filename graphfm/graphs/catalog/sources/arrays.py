"""Graph from files of one array each: torch tensors (``.pt``), ``.npy`` or ``.npz``.

A ``.pt`` file is read with ``weights_only``, which builds tensors and nothing else.

Shapes:
    N  nodes   E  edges   F  feature columns   C  labels
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from graphfm.errors import DataError, GraphFMError
from graphfm.graphs.catalog.rawfiles import here
from graphfm.graphs.catalog.source import FetchedConfig
from graphfm.graphs.convert import features
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.labels import labels


class Config(FetchedConfig):
    """Files of the arrays below :attr:`root`; ``file:key`` names an array of a ``.npz``."""

    kind: Literal["arrays"] = "arrays"
    root: str
    """Folder of the files, below the data folder."""
    edges: str
    """Positions of source and target nodes, (2, E) or (E, 2)."""
    y: str
    """Classes, (N,), or labels of 0 and 1, (N, C)."""
    x: str = ""
    """Features, (N, F); empty = none."""
    masks: tuple[str, str, str] | None = None
    """Train, validation and test nodes: (N,) bool, or positions of nodes."""
    undirected: bool = False
    """Treat each edge as undirected; the file can list it once."""
    unlabelled: tuple[int, ...] = ()
    """Classes that mean unlabelled."""

    @property
    def folder(self) -> str:
        """Folder of the files, below the data folder."""
        return f"{self.root}/"

    def raw_files(self, data: Path) -> list[Path]:
        """Return the files that are read; their hashes are part of the cache key."""
        wanted = (self.edges, self.x, self.y, *(self.masks or ()))
        names = dict.fromkeys(name.partition(":")[0] for name in wanted if name)
        return here([data / self.root / name for name in names])

    def build(self, *, name: str, data: Path) -> Graph:
        """Return the graph."""
        self.raw_files(data)
        folder = data / self.root
        edges, y = _array(folder, self.edges).long(), _array(folder, self.y)
        if y.ndim == 1 and self.unlabelled:
            y = y.masked_fill(torch.isin(y, torch.tensor(self.unlabelled)), -1)
        codes, class_names = labels(y)
        masks = {}
        for mask, file in zip(MASKS, self.masks or (), strict=False):
            masks[mask] = _mask(_array(folder, file), len(y), where=f"{folder / file}")
        return Graph.from_edges(
            edges.T if edges.shape[0] != 2 else edges,
            num_nodes=len(y),
            name=name,
            directed=False if self.undirected else None,
            x=features(_array(folder, self.x)) if self.x else None,
            y=codes,
            class_names=class_names,
            **masks,
        )


def _array(folder: Path, file: str) -> torch.Tensor:
    """Return the array of ``file`` or ``file:key``."""
    name, _, key = file.partition(":")
    path = folder / name
    try:
        if path.suffix == ".pt":
            content = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(content, torch.Tensor):
                raise DataError(
                    "GFM103", f"expected a tensor, got {type(content)}", where=str(path)
                )
            return content
        # np.load does not close a damaged file that it opened itself.
        with path.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            return torch.from_numpy(np.ascontiguousarray(loaded[key] if key else loaded))
    except (GraphFMError, MemoryError):
        raise
    except Exception as error:  # torch, numpy and zipfile raise many kinds
        raise DataError(
            "GFM103",
            f"not an array of numbers: {type(error).__name__}: {error}",
            where=f"{path} {key}".strip(),
            fix="fetch the file again from its origin",
        ) from error


def _mask(values: torch.Tensor, num_nodes: int, *, where: str) -> torch.Tensor:
    """Return a mask, (N,) bool, from a mask or from positions of nodes."""
    if values.dtype == torch.bool:
        return values
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < num_nodes:
        raise DataError("GFM113", f"a split must name nodes 0 to {num_nodes - 1}", where=where)
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[values.long()] = True
    return mask
