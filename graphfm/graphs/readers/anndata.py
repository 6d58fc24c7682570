"""Reader of ``.h5ad``: cells as nodes, one graph of ``obsp`` as edges, ``X`` as features."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.errors import FEW, DataError
from graphfm.graphs.convert import features, fill_missing, from_adjacency
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.tables import TableFile
from graphfm.graphs.readers.targets import no_column, read_labels

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
    import pyarrow as pa

    try:
        cells = anndata.read_h5ad(path)
        keys = list(cells.obsp.keys())
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # h5py and anndata raise their own
        raise DataError(
            "GFM103", f"not readable as .h5ad: {str(error)[:200]}", where=str(path)
        ) from None
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
            fix=f"--obsp {keys[0]}" if keys else "scanpy.pp.neighbors(adata) makes one",
        )
    fields: dict[str, Any] = {}
    unread = [str(c) for c in cells.obs.columns if str(c) != options.target]
    if unread:
        log.warning("%s: %d columns of obs are not read: %s", path.name, len(unread),
                    ", ".join(unread[:FEW]))  # fmt: skip
    if options.target is not None:
        columns = [str(column) for column in cells.obs.columns]
        if options.target in columns:
            gone = cells.obs[options.target].isna()  # None, NaN, or pandas' NA, which is not a bool
            values = zip(cells.obs[options.target], gone, strict=True)
            words = [None if missing else str(value) for value, missing in values]
            table = TableFile(path=path, names=tuple(columns))
            fields = read_labels(
                table, {options.target: pa.array(words, pa.string())}, task=options.task
            )
        elif options.need_target:
            raise no_column("GFM104", options.target, columns, f"{path}, obs")
    graph = from_adjacency(cells.obsp[key], name=name)
    return graph.replace(
        x=features(fill_missing(cells.X, name)),
        node_ids=tuple(str(i) for i in cells.obs_names),
        **fields,
    )


def _neighbors(cells: Any, keys: list[str]) -> str | None:
    """Return the key of the graph that scanpy's neighbors wrote; None if it is not clear."""
    facts = dict(getattr(cells, "uns", {}).get("neighbors", {}))
    key = str(facts.get("connectivities_key", "connectivities"))
    return key if facts and key in keys else None
