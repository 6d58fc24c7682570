"""Reader of ``.npz`` and ``.npy``: arrays of a graph, or an adjacency matrix of SciPy or NumPy.

Shapes:
    N  nodes   E  edges   F  feature columns   C  labels
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse

from graphfm.errors import FEW, DataError, GraphFMError
from graphfm.graphs.convert import features, fill_missing, from_adjacency
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.masks import read_mask
from graphfm.graphs.readers.given_labels import given_labels
from graphfm.graphs.readers.options import ReadOptions, unsafe_file
from graphfm.graphs.spec import Task

log = logging.getLogger(__name__)

CSR_PARTS = ("data", "indices", "indptr", "shape")
READ = ("edge_index", "x", *(f"x_{part}" for part in CSR_PARTS), "y", "node_ids", "num_nodes")
MAX_UNPACKED = 2**34  # bytes of a .npz when unpacked: 16 GiB


def read_arrays(path: Path, name: str, options: ReadOptions) -> Graph:
    """Read a ``.npz`` or ``.npy`` file.

    Args:
        path: Path of the file.
        name: Id of the graph.
        options: Options; ``task`` and ``split`` are read.

    Raises:
        DataError: GFM103 for a file that cannot be read, GFM305 for one that holds Python objects,
            and the errors of :class:`Graph`.
    """
    with readable_arrays(path):
        loaded = load_arrays(path)
        if isinstance(loaded, np.ndarray):
            return from_adjacency(loaded, name=name)
        if "edge_index" not in loaded and "adj_data" in loaded:
            loaded = _gnnbench(loaded)
        if "edge_index" in loaded:
            _warn_unread(loaded, path.name)
            return bundle_graph(loaded, name, options.task, options.split)
        return from_adjacency(_matrix(loaded, path), name=name)


def arrays_graph(arrays: Mapping[str, Any], name: str, options: ReadOptions) -> Graph:
    """Make a graph of arrays, lists or tensors in a dict.

    Args:
        arrays: See :func:`bundle_graph`; ``adjacency`` (N, N) may stand for ``edge_index``.
        name: Id of the graph.
        options: Options; ``task`` and ``split`` are read.

    Raises:
        DataError: GFM105 for both, and the errors of :class:`Graph`.
    """
    found = {str(k): _as_array(v) for k, v in arrays.items() if v is not None}
    if "adjacency" in found:
        if "edge_index" in found:
            raise DataError("GFM105", "edge_index and adjacency both give the edges", where=name)
        matrix = from_adjacency(found.pop("adjacency"), name=name)
        found = {"edge_index": matrix.edge_index.numpy(), "num_nodes": matrix.num_nodes} | found
    _warn_unread(found, name)
    return bundle_graph(found, name, options.task, options.split)


def _as_array(values: Any) -> Any:
    """Return a tensor or list as a NumPy array; a sparse matrix is one of SciPy."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.layout != torch.strided:
            values = values.to_sparse_coo().coalesce()
            parts = (values.values().numpy(), tuple(values.indices().numpy()))
            return sparse.coo_array(parts, shape=tuple(values.shape))
    return values if hasattr(values, "tocsr") else np.asarray(values)


def _warn_unread(arrays: Mapping[str, Any], where: str) -> None:
    """Log the arrays that are not read."""
    unread = [key for key in arrays if key not in READ and key not in MASKS]
    if unread:
        log.warning("%s: %d arrays are not read: %s", where, len(unread),
                    ", ".join(unread[:FEW]))  # fmt: skip


def _gnnbench(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return arrays ``adj_*``, ``attr_*``, ``labels`` under the names of this package."""
    matrix = sparse.coo_array(_csr(arrays, "adj_"))
    matrix.eliminate_zeros()
    made: dict[str, Any] = {
        "edge_index": np.stack(matrix.coords).astype(np.int64),
        "num_nodes": np.array(matrix.shape[0]),
    }
    renamed = {f"attr_{part}": f"x_{part}" for part in CSR_PARTS}
    renamed |= {"attr_matrix": "x", "labels": "y", "node_names": "node_ids"}
    rest = {k: v for k, v in arrays.items() if not k.startswith("adj_")}
    return made | {renamed.get(key, key): value for key, value in rest.items()}


def load_arrays(path: Path) -> np.ndarray | dict[str, Any]:
    """Return the array of a ``.npy`` file, or the arrays of a ``.npz`` file by name."""
    with path.open("rb") as file:  # opened here: np.load leaves a damaged file open
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
            return loaded
        return {key: loaded[key] for key in loaded.files}


def bundle_graph(
    arrays: Mapping[str, Any], name: str, task: Task = "auto", split: int | None = None
) -> Graph:
    """Make a graph of the arrays that ``numpy.savez`` stores.

    Args:
        arrays: ``edge_index`` (2, E), and if they are known ``x`` (N, F) or the parts of a CSR
            matrix ``x_data``, ``x_indices``, ``x_indptr``, ``x_shape``; ``y`` (N,) or (N, C), -1 =
            unlabelled; ``node_ids`` (N,); masks (N,); ``num_nodes``.
        name: Id of the graph.
        task: Kind of the labels.
        split: Split to take where the masks hold several. Default: such masks are an error.
    """
    x = _csr(arrays, "x_") if "x_data" in arrays else arrays.get("x")
    edges = arrays["edge_index"]
    sizes = [len(arrays[key]) for key in ("y", "node_ids") if key in arrays]
    sizes += [x.shape[0]] if x is not None else []
    num_nodes = sizes[0] if sizes else int(edges.max()) + 1 if edges.size else 0
    if "num_nodes" in arrays:
        num_nodes = int(arrays["num_nodes"])
    ids = arrays.get("node_ids")
    masks: dict[str, Any] = {
        mask: read_mask(arrays[mask], num_nodes, name=mask, where=name, split=split)
        for mask in MASKS
        if mask in arrays
    }
    return Graph.from_edges(
        edges,
        num_nodes=num_nodes,
        name=name,
        x=features(fill_missing(x, name)),
        node_ids=None if ids is None else tuple(str(i) for i in ids.tolist()),
        **given_labels(arrays.get("y"), task=task),
        **masks,
    )


@contextmanager
def readable_arrays(path: Path) -> Iterator[None]:
    """Turn the errors of zlib, zipfile, NumPy and SciPy into a :class:`DataError`."""
    try:
        yield
    except (GraphFMError, PermissionError, MemoryError):
        raise
    except Exception as error:  # each package raises its own
        with path.open("rb") as file:
            is_object_file = file.read(1) == b"\x80"
        if is_object_file or "Object arrays" in str(error):
            raise unsafe_file(path, "Python objects") from None
        raise DataError(
            "GFM103",
            f"not readable as {path.suffix[1:]}: {str(error)[:200] or type(error).__name__}",
            where=str(path),
        ) from None


def _matrix(arrays: dict[str, Any], path: Path) -> Any:
    """Return the adjacency matrix among the arrays of a ``.npz`` file."""
    if "format" in arrays and "shape" in arrays:  # scipy.sparse.save_npz
        kind = arrays["format"].item()
        kind = kind.decode() if isinstance(kind, bytes) else str(kind)
        shape = tuple(int(n) for n in arrays["shape"])
        if kind == "coo":
            parts = (arrays["data"], (arrays["row"], arrays["col"]))
            return sparse.coo_array(parts, shape=shape)
        if kind in ("csr", "csc"):
            make = sparse.csr_array if kind == "csr" else sparse.csc_array
            matrix = make((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
            matrix.check_format(full_check=True)
            return matrix
        raise DataError(
            "GFM103", f"expected a csr, csc or coo matrix, got {kind[:20]!r}", where=str(path)
        )
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise DataError(
        "GFM103",
        f"expected edge_index, or a SciPy matrix, got arrays {', '.join(arrays)[:100]}",
        where=str(path),
        fix="scipy.sparse.save_npz(file, adjacency), or numpy.savez(file, edge_index=..., "
        "x=..., y=...)",
    )


def _csr(arrays: Mapping[str, Any], prefix: str) -> Any:
    """Return the CSR matrix whose parts have this prefix."""
    parts = tuple(arrays[prefix + part] for part in CSR_PARTS[:3])
    matrix = sparse.csr_array(parts, shape=tuple(int(n) for n in arrays[prefix + "shape"]))
    matrix.check_format(full_check=True)  # scipy's C code trusts the indices
    return matrix
