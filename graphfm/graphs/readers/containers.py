"""Dispatch for a whole graph in one file or object: GraphML, NetworkX, NumPy, PyG, AnnData.

No reader runs code from a file: arrays of objects and Python object files are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from graphfm.errors import DataError
from graphfm.graphs.convert import from_adjacency, from_pyg, is_networkx
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.packed import check_packed
from graphfm.graphs.readers.anndata import read_anndata, read_cells
from graphfm.graphs.readers.arrays import arrays_graph, read_arrays
from graphfm.graphs.readers.attributes import read_igraph, read_networkx, with_attributes
from graphfm.graphs.readers.columns import Column
from graphfm.graphs.readers.markup import read_markup
from graphfm.graphs.readers.memory import ARRAYS, is_table, table_in_memory
from graphfm.graphs.readers.options import unsafe_file
from graphfm.graphs.readers.torch_data import read_torch

if TYPE_CHECKING:
    from graphfm.graphs.readers.options import ReadOptions

MARKUP = (".graphml", ".gml", ".gexf", ".json", ".cyjs")
OBJECTS = (".pkl",)
PYG = ("edge_index", "adj_t", "edge_types")  # a PyG graph has one of these attributes
SUFFIXES = (*MARKUP, ".npz", ".npy", ".pt", ".pth", ".h5ad", *OBJECTS)


def read(
    path: Path, name: str, options: ReadOptions, plan: Sequence[Column] | None = None
) -> tuple[Graph, tuple[Column, ...] | None]:
    """Read one file: the graph, and the rules by which its named attributes became features.

    Args:
        path: Path of the file; its suffix decides the format.
        name: Id of the graph.
        options: Options; ``target``, ``need_target``, ``directed``, ``features``, ``obsp`` and
            ``task`` are read.
        plan: Rules of an earlier fit. Default: made from this file.

    Raises:
        DataError: GFM141 for a file that unpacks to far more than its size, GFM103 for one that is
            not what its suffix says, GFM105 for a node table
            beside it, GFM305 for one that could run code, and the errors of :class:`Graph` and
            :func:`plan_columns`.
    """
    if not path.is_file():
        raise DataError("GFM103", f"no such file: {path.name}", where=str(path))
    check_packed(path)
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if options.nodes is not None:
        raise DataError(
            "GFM105", f"a {suffix} file holds its own nodes", where=str(options.nodes),
            fix="leave --nodes out",
        )  # fmt: skip
    made: tuple[Column, ...] | None = None
    if suffix in MARKUP:
        graph, made = read_markup(path, suffix, name, options, plan)
    elif suffix in (".npz", ".npy"):
        graph = read_arrays(path, name, options)
    elif suffix in (".pt", ".pth"):
        graph = read_torch(path, name, options)
    elif suffix == ".h5ad":
        graph = read_anndata(path, name, options)
    else:
        raise unsafe_file(path, "a Python object file")
    if suffix not in (*MARKUP, ".h5ad"):
        _refuse_target(options, f"a {suffix} file", str(path))
    return _turned(graph, options.directed), made


def kind_of(thing: Any) -> tuple[str, str] | None:
    """Return the name of a graph in memory, and the suffix of files that hold the same content.

    Returns None for anything else.
    """
    if any(hasattr(thing, name) for name in PYG) or _is_dataset(thing):
        return "a PyG Data", ".pt"
    if is_networkx(thing):
        return "a NetworkX graph", ".graphml"
    if hasattr(thing, "vcount") and hasattr(thing, "vs"):
        return "an igraph graph", ".graphml"
    if hasattr(thing, "obsp") and hasattr(thing, "obs_names"):
        return "an AnnData object", ".h5ad"
    if sparse.issparse(thing) or isinstance(thing, np.ndarray):
        return "an adjacency matrix", ".npz"
    if isinstance(thing, Mapping) and any(name in thing for name in ARRAYS):
        return "a dict of arrays", ".npz"
    return None


def read_object(
    thing: Any, options: ReadOptions, plan: Sequence[Column] | None = None
) -> tuple[Graph, tuple[Column, ...] | None]:
    """Read a graph in memory for which :func:`kind_of` has a name; see :func:`read`."""
    kind = kind_of(thing)
    assert kind is not None
    what, suffix = kind
    path = Path(what.split()[1])  # for messages
    made: tuple[Column, ...] | None = None
    if suffix == ".graphml":
        reader = read_networkx if is_networkx(thing) else read_igraph
        graph, made = reader(thing, "graph", path, options, plan)
    elif suffix == ".h5ad":
        graph = read_cells(thing, path, "graph", options)
    elif what == "a dict of arrays" and is_table(thing.get("x")):
        x = thing["x"]  # an index of pandas is no feature
        x = x.reset_index(drop=True) if hasattr(x, "reset_index") else x
        columns = table_in_memory(x, "x").held
        num_nodes = len(next(iter(columns.values())))
        graph = arrays_graph({**thing, "x": None, "num_nodes": num_nodes}, "graph", options)
        graph, made = with_attributes(graph, Path("x"), [*columns.items()], options, plan)
    elif what == "a dict of arrays":
        graph = arrays_graph(thing, "graph", options)
    elif suffix == ".pt":
        graph = from_pyg(_only_graph(thing), task=options.task, split=options.split)
    else:
        graph = from_adjacency(thing)
    if made is None and suffix != ".h5ad":
        _refuse_target(options, what, "")
    return _turned(graph, options.directed), made


def _is_dataset(thing: Any) -> bool:
    """Return True for a dataset of PyG."""
    return hasattr(thing, "get_summary") and hasattr(thing, "len")


def _only_graph(thing: Any) -> Any:
    """Return the graph of a PyG dataset of one graph, or the graph itself."""
    if not _is_dataset(thing):
        return thing
    if len(thing) != 1:
        raise DataError(
            "GFM102",
            f"expected one graph, got a dataset of {len(thing):,} graphs: {type(thing).__name__}",
            fix="choose one: dataset[0]",
        )
    return thing[0]


def _refuse_target(options: ReadOptions, what: str, where: str) -> None:
    """Raise an error for a target beside a graph that holds its labels as ``y``."""
    if options.target is not None and options.need_target:
        raise DataError(
            "GFM104",
            f"{what} holds its labels as y, and --target names a column of a table",
            where=where,
            fix="leave --target (target=) out",
        )


def _turned(graph: Graph, directed: bool | None) -> Graph:
    """Return the graph with edges of the kind that was asked for."""
    if directed is None or directed == graph.directed:
        return graph
    names = ("x", "y", "class_names", "class_dtype", "node_ids", *MASKS)
    return Graph.from_edges(
        graph.edge_index,
        num_nodes=graph.num_nodes,
        name=graph.name,
        directed=directed,
        **{name: getattr(graph, name) for name in names},
    )
