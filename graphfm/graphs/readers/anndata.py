"""Reader of ``.h5ad``: cells as nodes, one graph of ``obsp`` as edges, ``X`` as features."""

from __future__ import annotations

import importlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.errors import FEW, DataError
from graphfm.graphs.convert import features, fill_missing, from_adjacency
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.memory import table_in_memory
from graphfm.graphs.readers.node_table import node_fields, read_node_table

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from graphfm.graphs.readers.options import ReadOptions


def read_anndata(path: Path, name: str, options: ReadOptions) -> Graph:
    """Read a graph of cells.

    Args:
        path: Path of the file.
        name: Id of the graph.
        options: Options; ``target``, ``need_target``, ``obsp`` and ``task`` are read.

    Raises:
        DataError: GFM103 for a file that cannot be read, GFM104 for a target that is not a column
            of ``obs``, GFM137 if it is not clear which graph of ``obsp`` is meant, GFM160 without
            the package anndata.
    """
    try:
        anndata = importlib.import_module("anndata")
    except ImportError:
        raise DataError(
            "GFM160", "reading .h5ad needs the package anndata", where=str(path),
            fix="pip install graphfm[h5ad]",
        ) from None  # fmt: skip
    try:
        cells = anndata.read_h5ad(path)
        list(cells.obsp.keys())
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # h5py and anndata raise their own
        raise DataError(
            "GFM103", f"not readable as .h5ad: {str(error)[:200]}", where=str(path)
        ) from None
    return read_cells(cells, path, name, options)


def read_cells(cells: Any, path: Path, name: str, options: ReadOptions) -> Graph:
    """Return the graph of an AnnData object; arguments as in :func:`read_anndata`.

    Args:
        cells: The object.
        path: Path of its file, or name of the graph, for messages.
        name: Id of the graph.
        options: Options.
    """
    import pyarrow as pa

    keys = list(cells.obsp.keys())
    key = options.obsp or (keys[0] if len(keys) == 1 else _neighbors(cells, keys))
    if options.obsp is None and len(keys) > 1 and key is not None:
        log.warning("%s: obsp[%r] is read as the graph, as uns['neighbors'] says; another one: "
                    "--obsp", path.name, key)  # fmt: skip
    if key not in keys:
        raise DataError(
            "GFM137",
            f"expected one graph of the cells in obsp, got {', '.join(keys) or 'none'}"
            + (f"; there is no {key!r}" if key else ""),
            where=str(path),
            fix=f"--obsp {keys[0]} (options=ReadOptions(obsp={keys[0]!r}))" if keys
            else "scanpy.pp.neighbors(adata) makes one",
        )  # fmt: skip
    obs = table_in_memory(cells.obs.reset_index(drop=True), f"{path}, obs")
    ids = pa.array([str(i) for i in cells.obs_names], pa.string())
    nodes = read_node_table(obs, replace(options, features="none", id=None), None, ids=ids)
    used = (*nodes.target, *nodes.splits)
    unread = [c for c in obs.names if c not in used]
    layers = [f"{part}[{k!r}]" for part in ("layers", "obsm") for k in getattr(cells, part, {})]
    for what, names in (("columns of obs", unread), ("matrices", layers)):
        if names:
            log.warning("%s: %d %s are not read: %s", path.name, len(names), what,
                        ", ".join(names[:FEW]))  # fmt: skip
    return from_adjacency(cells.obsp[key], name=name).replace(
        node_ids=tuple(ids.to_pylist()),
        **(node_fields(nodes, ()) | {"x": features(fill_missing(cells.X, name))}),
    )


def _neighbors(cells: Any, keys: list[str]) -> str | None:
    """Return the key of the graph that scanpy's neighbors wrote; None if it is not clear."""
    facts = dict(getattr(cells, "uns", {}).get("neighbors", {}))
    key = str(facts.get("connectivities_key", "connectivities"))
    return key if facts and key in keys else None
