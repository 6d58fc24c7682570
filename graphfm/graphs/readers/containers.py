"""One file that holds a whole graph: GraphML, GML, GEXF, SciPy or NumPy, PyG, AnnData.

Nothing here runs what is in a file: arrays of objects and Python object files are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphfm.errors import DataError
from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.readers.anndata import _anndata
from graphfm.graphs.readers.arrays import _arrays
from graphfm.graphs.readers.columns import Column
from graphfm.graphs.readers.markup import _markup
from graphfm.graphs.readers.options import _unsafe
from graphfm.graphs.readers.torch_data import _torch

if TYPE_CHECKING:
    from graphfm.graphs.readers.options import ReadOptions

MARKUP = (".graphml", ".gml", ".gexf")
OBJECTS = (".pkl",)
SUFFIXES = (*MARKUP, ".npz", ".npy", ".pt", ".pth", ".h5ad", *OBJECTS)


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
