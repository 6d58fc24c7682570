"""One file that holds a whole graph: GraphML, GML, GEXF, SciPy or NumPy, PyG, AnnData.

Nothing here runs what is in a file: arrays of objects and Python object files are refused.
"""

from __future__ import annotations

import importlib
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

from graphfm.errors import DataError, GraphFMError
from graphfm.graphs.attributes import attribute_frame, attribute_text
from graphfm.graphs.columns import Column, encode, plan_columns
from graphfm.graphs.convert import (
    features,
    from_adjacency,
    from_networkx,
    from_pyg,
    without_gaps,
)
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.labels import labels
from graphfm.graphs.spec import Task
from graphfm.graphs.tables import TableFile
from graphfm.graphs.targets import SPLIT, no_column, read_labels, read_splits, target_columns

if TYPE_CHECKING:
    from graphfm.graphs.files import ReadOptions

MARKUP = (".graphml", ".gml", ".gexf")
OBJECTS = (".pkl",)
SUFFIXES = (*MARKUP, ".npz", ".npy", ".pt", ".pth", ".h5ad", *OBJECTS)
MAX_UNPACKED = 2**34  # bytes of a .npz when unpacked: 16 GiB
CONVERT = (
    "in a Python that trusts the file: torch.save(data.to_dict(), 'graph.pt'), "
    "scipy.sparse.save_npz('graph.npz', adjacency), or write edges.csv and nodes.csv"
)


def read(
    path: Path, name: str, options: ReadOptions, plan: Sequence[Column] | None = None
) -> tuple[Graph, tuple[Column, ...] | None]:
    """Read one file: the graph, and how its node attributes became features if they have names.

    Args:
        path: Its suffix says what it is.
        name: Id of the graph.
        options: Of these ``target``, ``need_target``, ``directed``, ``features``, ``obsp`` and
            ``task`` are read.
        plan: How named attributes become features; None = decide.

    Raises:
        DataError: GFM103 for a file that is not what its suffix says, GFM305 for one that could run
            code, and as :class:`Graph` and :func:`plan_columns`.
    """
    if not path.is_file():
        raise DataError("GFM103", "there is no such file", where=str(path))
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if options.nodes is not None:
        raise DataError(
            "GFM105", f"a {suffix} file holds its nodes itself", where=str(options.nodes),
            fix="leave --nodes out",
        )  # fmt: skip
    made: tuple[Column, ...] | None = None
    if suffix in MARKUP:
        graph, made = _markup(path, suffix, name, options, plan)
    elif suffix in (".npz", ".npy"):
        graph = _arrays(path, name, options.task)
    elif suffix in (".pt", ".pth"):
        graph = _torch(path, name, options.task)
    elif suffix == ".h5ad":
        graph = _anndata(path, name, options)
    else:
        raise _unsafe(path, "a Python object file")
    if options.target is not None and options.need_target and suffix not in (*MARKUP, ".h5ad"):
        raise DataError(
            "GFM104",
            f"a {suffix} file holds its labels as y; --target names a column",
            where=str(path),
            fix="leave --target out",
        )
    if options.directed is None or options.directed == graph.directed:
        return graph, made
    fields = {f: getattr(graph, f) for f in ("x", "y", "class_names", "node_ids", *MASKS)}
    turned = Graph.from_edges(
        graph.edge_index,
        num_nodes=graph.num_nodes,
        name=name,
        directed=options.directed,
        **fields,
    )
    return turned, made


def _markup(
    path: Path, suffix: str, name: str, options: ReadOptions, plan: Sequence[Column] | None
) -> tuple[Graph, tuple[Column, ...]]:
    import networkx as nx
    import pyarrow as pa

    try:
        if suffix == ".graphml":
            found = nx.read_graphml(path)
        elif suffix == ".gexf":
            found = nx.read_gexf(path)
        else:
            try:
                found = nx.read_gml(path)
            except nx.NetworkXError:  # its nodes have no labels; then their numbers name them
                found = nx.read_gml(path, label="id")
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # networkx raises AttributeError, RecursionError and others
        raise DataError(
            "GFM103",
            f"not readable as {suffix[1:]}: {str(error)[:200] or type(error).__name__}",
            where=str(path),
            fix="write it again with networkx, Gephi or igraph",
        ) from None
    records = [dict(record) for _, record in found.nodes(data=True)]
    for _, record in found.nodes(data=True):
        record.clear()  # what is left is structure
    keys = list(dict.fromkeys(str(key) for record in records for key in record))
    target: list[str] = []
    if options.target is not None:
        try:
            target = target_columns(options.target, keys, str(path))
        except DataError:
            if options.need_target:
                raise
    fields: dict[str, Any] = {}
    columns = {key: pa.array(attribute_text(records, key), pa.string()) for key in (*target, SPLIT)}
    table = TableFile(path=path, names=tuple(keys))
    if target:
        wanted = {key: columns[key] for key in target}
        fields["y"], fields["class_names"] = read_labels(table, wanted, task=options.task)
    free = [key for key in keys if key not in target]
    if SPLIT in free:
        fields |= read_splits(table, {SPLIT: columns[SPLIT]})
        free.remove(SPLIT)
    if plan is not None:
        free = [column.name for column in plan if column.name in free]
    elif options.features is not None:
        asked = options.features
        wished = [] if asked == "none" else target_columns(asked, keys, str(path))
        free = [key for key in wished if key in free]
    frame = attribute_frame(path, records, free)
    chosen = plan_columns(frame) if plan is None else tuple(plan)
    graph = from_networkx(found, name=name)
    return graph.replace(x=encode(frame, chosen), **fields), chosen


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


def _torch(path: Path, name: str, task: Task) -> Graph:
    from torch_geometric.data import Data
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.storage import GlobalStorage

    with path.open("rb") as file:
        head = file.read(2)
    if head[:1] == b"\x80":
        raise _unsafe(path, "a Python object file, or tensors of a torch older than 1.6")
    if head != b"PK":  # the old format's reader takes noise for any amount of memory
        raise DataError(
            "GFM103", "not readable as .pt: it is not what torch.save writes", where=str(path),
            fix="torch.save(data, file)",
        )  # fmt: skip
    # What a Data is made of; PyG itself lists Data only, and falls back to reading anything.
    parts = [DataEdgeAttr, DataTensorAttr, GlobalStorage]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(parts):
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # a MemoryError too: a damaged length may ask for any
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "nsupported" in str(error) or "not an allowed" in str(error):
            raise _unsafe(path, "objects that are no tensors") from None
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
            return from_pyg(loaded, name=name, task=task)
    except (GraphFMError, MemoryError):
        raise
    except Exception as error:  # tensors of the wrong kinds or shapes
        raise DataError(
            "GFM103", f"not readable as a graph: {str(error)[:200]}", where=str(path)
        ) from None


def _anndata(path: Path, name: str, options: ReadOptions) -> Graph:
    try:
        anndata = importlib.import_module("anndata")
    except ImportError:
        raise DataError(
            "GFM160", "reading .h5ad needs the package anndata", where=str(path),
            fix="pip install graphfm[h5ad]",
        ) from None  # fmt: skip
    import pyarrow as pa

    try:
        cells = anndata.read_h5ad(path)
        keys = list(cells.obsp.keys())
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # h5py's and anndata's own
        raise DataError(
            "GFM103", f"not readable as .h5ad: {str(error)[:200]}", where=str(path)
        ) from None
    key = options.obsp or (keys[0] if len(keys) == 1 else None)
    if key not in keys:
        raise DataError(
            "GFM137",
            f"expected one graph of the cells in obsp, got {', '.join(keys) or 'none'}"
            + (f"; there is no {key!r}" if key else ""),
            where=str(path),
            fix=f"--obsp {keys[0]}" if keys else "scanpy.pp.neighbors(adata) makes one",
        )
    y: torch.Tensor | None = None
    class_names: tuple[str, ...] = ()
    if options.target is not None:
        columns = [str(column) for column in cells.obs.columns]
        if options.target in columns:
            gone = cells.obs[options.target].isna()  # None, NaN, or pandas' NA, which has no truth
            values = zip(cells.obs[options.target], gone, strict=True)
            words = [None if missing else str(value) for value, missing in values]
            table = TableFile(path=path, names=tuple(columns))
            y, class_names = read_labels(
                table, {options.target: pa.array(words, pa.string())}, task=options.task
            )
        elif options.need_target:
            raise no_column("GFM104", options.target, columns, f"{path}, obs")
    graph = from_adjacency(cells.obsp[key], name=name)
    return graph.replace(
        x=features(without_gaps(cells.X, name)),
        y=y,
        class_names=class_names,
        node_ids=tuple(str(i) for i in cells.obs_names),
    )


def _unsafe(path: Path, what: str) -> DataError:
    return DataError(
        "GFM305",
        f"not opened: it holds {what}",
        where=str(path),
        why="reading it could run code",
        fix=CONVERT,
    )
