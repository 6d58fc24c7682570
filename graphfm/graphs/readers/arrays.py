"""TODO: graphfm/graphs/readers/arrays.py, from graphfm/graphs/readers/containers.py."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from graphfm.errors import DataError, GraphFMError
from graphfm.graphs.convert import features, from_adjacency, without_gaps
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.labels import labels
from graphfm.graphs.readers.options import _unsafe
from graphfm.graphs.spec import Task

MAX_UNPACKED = 2**34  # bytes of a .npz when unpacked: 16 GiB


def _arrays(path: Path, name: str, task: Task) -> Graph:
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(1)
            if path.suffix == ".npz":
                with zipfile.ZipFile(file) as archive:
                    size = sum(member.file_size for member in archive.infolist())
                if size > MAX_UNPACKED:
                    raise DataError(
                        "GFM103", f"it would unpack to {size / 2**30:.0f} GiB", where=str(path)
                    )
            file.seek(0)
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return from_adjacency(loaded, name=name)
            arrays = {key: loaded[key] for key in loaded.files}
        return _from_arrays(arrays, name, path, task)
    except (GraphFMError, PermissionError, MemoryError):
        raise
    except Exception as error:  # zlib, zipfile, numpy and scipy each raise their own
        if "Object arrays" in str(error) or head == b"\x80":
            raise _unsafe(path, "Python objects") from None
        raise DataError(
            "GFM103",
            f"not readable as {path.suffix[1:]}: {str(error)[:200] or type(error).__name__}",
            where=str(path),
        ) from None


def _from_arrays(arrays: dict[str, Any], name: str, path: Path, task: Task) -> Graph:
    if "edge_index" in arrays:
        return _bundle(arrays, name, task)
    if "adj_data" in arrays:
        matrix = _csr(arrays, "adj_")
    elif "format" in arrays and "shape" in arrays:  # scipy.sparse.save_npz
        kind = arrays["format"].item()
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        shape = tuple(int(n) for n in arrays["shape"])
        if kind == "coo":
            parts = (arrays["data"], (arrays["row"], arrays["col"]))
            matrix = sparse.coo_array(parts, shape=shape)
        elif kind in ("csr", "csc"):
            made = sparse.csr_array if kind == "csr" else sparse.csc_array
            matrix = made((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
            matrix.check_format(full_check=True)
        else:
            raise DataError(
                "GFM103", f"expected a csr, csc or coo matrix, got {kind[:20]!r}", where=str(path)
            )
    elif len(arrays) == 1:
        return from_adjacency(next(iter(arrays.values())), name=name)
    else:
        raise DataError(
            "GFM103",
            f"expected edge_index, or a SciPy matrix, got arrays {', '.join(arrays)[:100]}",
            where=str(path),
            fix="scipy.sparse.save_npz(file, adjacency), or numpy.savez(file, edge_index=..., "
            "x=..., y=...)",
        )
    return from_adjacency(matrix, name=name)


def _bundle(arrays: dict[str, Any], name: str, task: Task) -> Graph:
    """``edge_index``, and ``x`` or the parts of a sparse one, ``y``, masks, ``num_nodes``."""
    x = _csr(arrays, "x_") if "x_data" in arrays else arrays.get("x")
    y, class_names = labels(arrays.get("y"), task=task)
    edges = arrays["edge_index"]
    sizes = [len(arrays[key]) for key in ("y", "node_ids") if key in arrays]
    sizes += [x.shape[0]] if x is not None else []
    num_nodes = sizes[0] if sizes else int(edges.max()) + 1 if edges.size else 0
    if "num_nodes" in arrays:
        num_nodes = int(arrays["num_nodes"])
    ids = arrays.get("node_ids")
    masks: dict[str, Any] = {
        m: torch.from_numpy(arrays[m].astype(bool)) for m in MASKS if m in arrays
    }
    return Graph.from_edges(
        edges,
        num_nodes=num_nodes,
        name=name,
        x=features(without_gaps(x, name)),
        y=y,
        class_names=class_names,
        node_ids=None if ids is None else tuple(str(i) for i in ids.tolist()),
        **masks,
    )


def _csr(arrays: dict[str, Any], prefix: str) -> Any:
    parts = tuple(arrays[prefix + part] for part in ("data", "indices", "indptr"))
    matrix = sparse.csr_array(parts, shape=tuple(int(n) for n in arrays[prefix + "shape"]))
    matrix.check_format(full_check=True)  # scipy's C code trusts the indices
    return matrix
