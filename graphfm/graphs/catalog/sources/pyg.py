"""Graphs of a dataset class of PyG, from raw files or built in.

PyG downloads without a checksum and writes ``processed/`` beside ``raw/``. So its parser runs on a
temporary copy of checked raw files, and its download is disabled.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from graphfm.errors import DataError, GraphFMError
from graphfm.graphs.catalog.rawfiles import check_raw, missing
from graphfm.graphs.catalog.source import FetchedConfig, RawFile
from graphfm.graphs.convert import from_pyg
from graphfm.graphs.graph import MASKS, Graph


class Config(FetchedConfig):
    """Class of ``torch_geometric.datasets`` and its arguments."""

    kind: Literal["pyg"] = "pyg"
    dataset: str
    """Name of the class."""
    root: str = ""
    """Root of the class, below the data folder; empty = it needs no files."""
    raw: str = ""
    """Folder of raw files, below the root; all of them are part of the cache key."""
    name: str = ""
    """Second argument of the class, if it has one."""
    args: dict[str, Any] = {}
    """Further arguments of the class."""
    undirected: bool = False
    """Treat each edge as undirected; the files can list it once."""
    unlabelled: tuple[int, ...] = ()
    """Classes that mean unlabelled."""
    seed: int = 0
    """Seed of a class that draws a random graph."""

    @property
    def folder(self) -> str:
        """Folder of raw files, below the data folder."""
        return "".join(f"{part}/" for part in (self.root, self.raw) if part)

    def downloads(self) -> list[RawFile]:
        """Return the raw files to fetch; ``{pyg}`` in an address is the ``url`` of the class."""
        files = super().downloads()
        if any("{pyg}" in file.url for file in files):
            import torch_geometric.datasets

            url = getattr(torch_geometric.datasets, self.dataset).url
            files = [file.model_copy(update={"url": file.url.format(pyg=url)}) for file in files]
        return files

    def raw_files(self, data: Path) -> list[Path]:
        """Return :attr:`files`, else all files of the raw folder; none for a built-in dataset."""
        if not self.root:
            return []
        if self.files:
            return super().raw_files(data)
        folder = data / self.root / self.raw
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        if not files:
            raise missing(str(folder))
        return files

    def build(self, *, name: str, data: Path) -> Graph:
        """Return the graph that PyG's parser reads."""
        import torch_geometric.datasets

        kind = getattr(torch_geometric.datasets, self.dataset, None)
        if kind is None:
            raise DataError(
                "GFM121", f"torch_geometric.datasets has no class {self.dataset!r}", where=name
            )
        args = [self.name] if self.name else []
        if not self.root:
            with _seeded(self.seed):
                return from_pyg(_one_split(kind(*args, **self.args)[0]), name=name)
        paths = self.raw_files(data)
        for path in paths:
            check_raw(path)
        with tempfile.TemporaryDirectory(prefix="graphfm-") as folder:
            for path in paths:
                copy = Path(folder, path.relative_to(data / self.root))
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            try:
                dataset = _offline(kind)(folder, *args, **self.args)
                return from_pyg(_one_split(self._completed(_union(dataset))), name=name)
            except (GraphFMError, MemoryError):
                raise
            except ImportError as error:
                raise DataError(
                    "GFM121",
                    f"PyG's {self.dataset} needs {error.name}, which is not installed",
                    where=name,
                    fix=f"pip install {error.name}",
                ) from error
            except Exception as error:  # a damaged file can fail anywhere in PyG's parsers
                raise DataError(
                    "GFM103",
                    f"{self.dataset} cannot read its raw files: {type(error).__name__}: {error}",
                    where=str(data / self.root / self.raw),
                    fix="fetch the raw files again from their origin",
                ) from error

    def _completed(self, data: Any) -> Any:
        """Add the facts that the files do not hold: undirected edges, unlabelled classes."""
        from torch_geometric.utils import to_undirected

        if data.x is None and data.y is not None:
            data.num_nodes = len(data.y)  # PyG would count up to the last node with an edge
        if self.undirected:
            data.edge_index = to_undirected(data.edge_index, num_nodes=data.num_nodes)
        if self.unlabelled:
            unknown = torch.isin(data.y, torch.tensor(self.unlabelled))
            data.y = data.y.masked_fill(unknown, -1)
        return data


def _offline(kind: Any) -> Any:
    """Return a subclass whose download raises GFM401."""

    def download(self: Any) -> None:
        gone = [p for p in map(Path, self.raw_paths) if not p.exists()]
        raise missing(", ".join(p.name for p in gone))

    quiet = property(lambda self: False, lambda self, value: None)  # no "Processing..." on stderr
    return type(kind.__name__, (kind,), {"download": download, "log": quiet})


def _union(dataset: Any) -> Any:
    """Return the disjoint union of all graphs of a dataset, with node labels as ``y``."""
    from torch_geometric.data import Data

    num_node_labels = getattr(dataset, "num_node_labels", 0)
    if len(dataset) == 1 and not num_node_labels:
        return dataset[0]
    data, slices = dataset._data, dataset.slices
    starts = slices["x"][:-1]  # edges count from 0 in each graph
    edge_index = data.edge_index + starts.repeat_interleave(slices["edge_index"].diff())
    x, y = data.x, data.y
    # A TU dataset's y is a label of the graph; the labels of its nodes are the last columns of x,
    # and must not stay there.
    if num_node_labels:
        cut = x.shape[1] - num_node_labels
        x, y = x[:, :cut], x[:, cut:].argmax(dim=1)
    return Data(x=x, y=y, edge_index=edge_index, num_nodes=int(slices["x"][-1]))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's and numpy's global states, which PyG's generators use, and restore them."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(state)


def _one_split(data: Any) -> Any:
    """Return the graph without masks that hold several splits; the catalog draws its own."""
    for mask in MASKS:
        values = getattr(data, mask, None)
        if values is not None and values.ndim == 2:
            delattr(data, mask)
    return data
