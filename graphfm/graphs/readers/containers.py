"""Dispatch by suffix for files that hold a whole graph: GraphML, GML, GEXF, NumPy, PyG, AnnData.

No reader runs code from a file: arrays of objects and Python object files are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphfm.errors import DataError
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.readers.anndata import read_anndata
from graphfm.graphs.readers.arrays import read_arrays
from graphfm.graphs.readers.columns import Column
from graphfm.graphs.readers.markup import read_markup
from graphfm.graphs.readers.options import unsafe_file
from graphfm.graphs.readers.torch_data import read_torch

if TYPE_CHECKING:
    from graphfm.graphs.readers.options import ReadOptions

MARKUP = (".graphml", ".gml", ".gexf", ".json")
OBJECTS = (".pkl",)
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
        DataError: GFM103 for a file that is not what its suffix says, GFM105 for a node table
            beside it, GFM305 for one that could run code, and the errors of :class:`Graph` and
            :func:`plan_columns`.
    """
    if not path.is_file():
        raise DataError("GFM103", f"no such file: {path.name}", where=str(path))
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
        graph = read_arrays(path, name, options.task)
    elif suffix in (".pt", ".pth"):
        graph = read_torch(path, name, options.task)
    elif suffix == ".h5ad":
        graph = read_anndata(path, name, options)
    else:
        raise unsafe_file(path, "a Python object file")
    if options.target is not None and options.need_target and suffix not in (*MARKUP, ".h5ad"):
        raise DataError(
            "GFM104",
            f"a {suffix} file holds its labels as y, and --target names a column of a table",
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
