"""Reader of ``.pt``: a PyG ``Data``, or a dict of its tensors, without running code."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from graphfm.errors import DataError, GraphFMError
from graphfm.graphs.convert import from_pyg
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.options import ReadOptions, unsafe_file


def read_torch(path: Path, name: str, options: ReadOptions) -> Graph:
    """Read a file that ``torch.save`` wrote.

    Args:
        path: Path of the file.
        name: Id of the graph.
        options: Options; ``task`` and ``split`` are read.

    Raises:
        DataError: GFM102 for something other than one graph, GFM103 for a file that cannot be read,
            GFM305 for one that holds objects other than tensors.
    """
    from torch_geometric.data import Data
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    with path.open("rb") as file:
        head = file.read(2)
    if head[:1] == b"\x80":
        raise unsafe_file(path, "a Python object file, or tensors of a torch older than 1.6")
    if head != b"PK":  # on noise, the reader of the old format may ask for any amount of memory
        raise DataError(
            "GFM103", "not readable as .pt: it is not what torch.save writes", where=str(path),
            fix="torch.save(data, file)",
        )  # fmt: skip
    # The classes inside a Data. PyG lists Data alone, and falls back to reading any object.
    parts = [DataEdgeAttr, DataTensorAttr, GlobalStorage]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(parts):
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # also MemoryError: a damaged length may ask for any amount
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "nsupported" in str(error) or "not an allowed" in str(error):
            raise unsafe_file(path, "objects that are no tensors") from None
        raise DataError(
            "GFM103", f"not readable as .pt: {first[:200]}", where=str(path),
            fix="it may be damaged: write it again with torch.save(data, file)",
        ) from None  # fmt: skip
    try:
        if isinstance(loaded, dict):
            loaded = Data(**{k: v for k, v in loaded.items() if isinstance(k, str)})
        if not hasattr(loaded, "edge_index") and not hasattr(loaded, "edge_types"):
            raise DataError(
                "GFM102",
                f"expected a PyG Data, or a dict with edge_index, got {type(loaded).__name__}",
                where=str(path),
                fix="torch.save(data, file)",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyG, where it has to guess num_nodes
            return from_pyg(loaded, name=name, task=options.task, split=options.split)
    except (GraphFMError, MemoryError):
        raise
    except Exception as error:  # tensors of the wrong kinds or shapes
        raise DataError(
            "GFM103", f"not readable as a graph: {str(error)[:200]}", where=str(path)
        ) from None
