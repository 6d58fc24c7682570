"""Edge lists from matrices: Matrix Market files, and tables that are an adjacency matrix."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from graphfm.errors import DataError
from graphfm.graphs.packed import check_packed
from graphfm.graphs.readers.edges import EdgeList
from graphfm.graphs.readers.frames import read_frame
from graphfm.graphs.readers.tables import TableFile

log = logging.getLogger(__name__)


def read_matrix_market(path: Path) -> EdgeList:
    """Read a ``.mtx`` file: pattern, real or integer; general or symmetric. Ids count from 1.

    Raises:
        DataError: GFM103 for a file that cannot be read, GFM115 for a matrix that is not square.
    """
    from scipy.io import mmread

    if not path.is_file():
        raise DataError("GFM103", f"no such file: {path.name}", where=str(path))
    check_packed(path)
    try:
        if path.name.endswith(".gz"):
            with gzip.open(path) as file:
                found = mmread(file)
        else:
            found = mmread(path)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # scipy raises ValueError, OverflowError, StopIteration and others
        raise DataError(
            "GFM103", f"not readable as Matrix Market: {str(error)[:200]}", where=str(path),
            fix="scipy.io.mmwrite writes such files",
        ) from None  # fmt: skip
    matrix = sparse.coo_array(found)
    ids = np.arange(1, matrix.shape[0] + 1).astype(str)
    return _listed(TableFile(path=path, names=()), matrix, ids)


def read_matrix_table(table: TableFile) -> EdgeList:
    """Read a table whose first column and first line name the nodes, and whose cells are edges.

    Raises:
        DataError: GFM109 for a cell that is not a number.
    """
    names = list(table.names)
    frame = read_frame(table, names[1:])
    words = [name for name, kind in frame.kinds.items() if kind == "category"]
    if words:
        raise DataError(
            "GFM109",
            f"an adjacency matrix holds numbers, but column {words[0]!r} holds text",
            where=str(table.path),
        )
    numbers = frame.numbers
    cells = numbers if isinstance(numbers, np.ndarray) else numbers.toarray()
    log.warning("%s: read as an adjacency matrix: its columns are named as its rows are",
                table.path.name)  # fmt: skip
    return _listed(table, sparse.coo_array(np.nan_to_num(cells)), np.array(names[1:]))


def _listed(table: TableFile, matrix: Any, ids: np.ndarray) -> EdgeList:
    """Return the edge list of a matrix: every value but 0 is an edge."""
    import pyarrow as pa

    if matrix.shape[0] != matrix.shape[1]:
        raise DataError(
            "GFM115",
            f"an adjacency matrix must be square, got {matrix.shape[0]:,} x {matrix.shape[1]:,}",
            where=str(table.path),
            fix="a matrix of two kinds of nodes is not one graph: write an edge list",
        )
    if np.iscomplexobj(matrix.data) or not np.isfinite(matrix.data).all():
        raise DataError("GFM109", "edge weights must be finite numbers", where=str(table.path))
    matrix.eliminate_zeros()
    names = pa.array(ids.tolist(), pa.string())
    row, col = matrix.coords
    ends = tuple(pa.chunked_array([names.take(pa.array(at))]) for at in (row, col))
    weight = matrix.data.astype(np.float32)
    return EdgeList(
        table=table,
        ends=(ends[0], ends[1]),
        weight=None if len(np.unique(weight[:100_000])) < 2 else weight,
        all_ids=names,
    )
