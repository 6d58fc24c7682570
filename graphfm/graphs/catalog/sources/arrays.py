"""A graph in files of one array each: a torch tensor (``.pt``), or numpy's ``.npy`` or ``.npz``.

A ``.pt`` is read with ``weights_only``, which builds tensors and nothing else.
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
    """Which file holds what: ``file``, or ``file:key`` of a ``.npz``, below :attr:`root`."""

    kind: Literal["arrays"] = "arrays"
    root: str
    """The folder of the files, below the data folder."""
    edges: str
    """(2, E) or (E, 2) numbers of nodes."""
    y: str
    """(N,) classes or (N, C) labels."""
    x: str = ""
    """(N, F)."""
    masks: tuple[str, str, str] | None = None
    """Train, validation, test: (N,) of true and false, or the numbers of the nodes."""
    undirected: bool = False
    """Each edge goes both ways, though the file may list it once."""
    unlabelled: tuple[int, ...] = ()
    """Classes that stand for not known."""

    @property
    def folder(self) -> str:
        """The folder of the files, below the data folder."""
        return f"{self.root}/"

    def raw_files(self, data: Path) -> list[Path]:
        """The files that are read, whose hashes are part of the cache key."""
        wanted = (self.edges, self.x, self.y, *(self.masks or ()))
        names = dict.fromkeys(name.partition(":")[0] for name in wanted if name)
        return here([data / self.root / name for name in names])

    def build(self, *, name: str, data: Path) -> Graph:
        """Read the graph."""
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
        # Opened here: np.load leaves a damaged file open.
        with path.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            return torch.from_numpy(np.ascontiguousarray(loaded[key] if key else loaded))
    except (GraphFMError, MemoryError):
        raise
    except Exception as error:  # torch, numpy and zipfile each raise their own
        raise DataError(
            "GFM103",
            f"not an array of numbers: {type(error).__name__}: {error}",
            where=f"{path} {key}".strip(),
            fix="fetch the file again from its origin",
        ) from error


def _mask(values: torch.Tensor, num_nodes: int, *, where: str) -> torch.Tensor:
    if values.dtype == torch.bool:
        return values
    if len(values) and not 0 <= int(values.min()) <= int(values.max()) < num_nodes:
        raise DataError("GFM113", f"a split must name nodes 0 to {num_nodes - 1}", where=where)
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[values.long()] = True
    return mask
