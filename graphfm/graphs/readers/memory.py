"""Tables in memory (pandas, polars, pyarrow, a dict of columns) in the form of a table file.

Shapes:
    N  rows
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from graphfm.errors import FEW, DataError
from graphfm.graphs.readers.arrow import flat_columns
from graphfm.graphs.readers.ends import INDEX_LEVEL
from graphfm.graphs.readers.headers import ENDS
from graphfm.graphs.readers.open_table import check_names
from graphfm.graphs.readers.tables import TableFile

ARRAYS = ("edge_index", "adjacency")  # a dict with one of these is a graph, not a table


def is_table(thing: Any) -> bool:
    """Return True for a table with named columns: of pandas, polars, pyarrow, or a dict of them."""
    if sparse.issparse(thing):  # one of SciPy's is a dict
        return False
    if isinstance(thing, Mapping):
        return bool(thing) and not any(name in thing for name in ARRAYS) and all(
            isinstance(v, list | tuple | np.ndarray) for v in thing.values()
        )  # fmt: skip
    if not hasattr(thing, "__arrow_c_stream__") and not hasattr(thing, "__dataframe__"):
        return False
    return not isinstance(thing, type) and (hasattr(thing, "columns") or hasattr(thing, "schema"))


def has_ends(thing: Any) -> bool:
    """Return True for a table with two columns that are named as the ends of an edge."""
    names = thing.column_names if hasattr(thing, "column_names") else thing
    folded = {str(name).casefold() for name in getattr(names, "columns", names)}
    return any(one in folded and other in folded for one, other in ENDS)


def is_adjacency(thing: Any) -> bool:
    """Return True for a table of pandas whose rows are named as its columns are."""
    if not hasattr(thing, "iloc") or not hasattr(thing, "columns"):
        return False
    if not 3 <= len(thing) == len(thing.columns) or type(thing.index).__name__ == "RangeIndex":
        return False  # the index that pandas gives to every table names nothing
    return [str(v) for v in thing.index] == [str(v) for v in thing.columns]


def table_in_memory(thing: Any, name: str, *, index: bool = False) -> TableFile:
    """Return a table in memory in the form of a file.

    An index of pandas that has a name is a column.

    Args:
        thing: A table, see :func:`is_table`.
        name: Name of the table, for messages.
        index: If True, an index of pandas without a name is a column too.

    Raises:
        DataError: GFM103 for a table that pyarrow does not read, GFM106 for columns with the same
            name.
    """
    import pyarrow as pa

    try:
        if isinstance(thing, Mapping):
            pairs: Iterable[tuple[Any, Any]] = thing.items()
        elif hasattr(thing, "iloc") and hasattr(thing, "index"):
            pairs = [*thing.items(), *_index_levels(thing, index)]
            if is_adjacency(thing):
                pairs = [("", thing.index), *thing.items()]
        else:
            from pyarrow import interchange

            to_arrow = pa.table if hasattr(thing, "__arrow_c_stream__") else (
                interchange.from_dataframe
            )  # fmt: skip
            found = to_arrow(thing)
            pairs = zip(found.column_names, found.columns, strict=True)
        return column_table(name, [(str(key), arrow_column(values)) for key, values in pairs])
    except DataError:
        raise
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError(
            "GFM103", f"not readable as a table: {str(error)[:200]}", where=name,
            fix="pass a table of pandas, polars or pyarrow with one value in each cell",
        ) from None  # fmt: skip


def column_table(name: str | Path, columns: Sequence[tuple[str, Any]]) -> TableFile:
    """Return Arrow columns as a table; lists of numbers become one column for each place.

    Args:
        name: Name of the table or path of its file, for messages.
        columns: Name and values of each column, (N,) each.

    Raises:
        DataError: GFM103 for columns of several lengths, GFM106 for columns with the same name.
    """
    lengths = {key: len(values) for key, values in columns}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key!r} has {count:,}" for key, count in [*lengths.items()][:FEW])
        raise DataError(
            "GFM103", f"the columns of a table have one length, but {shown}", where=str(name),
            fix="lists of neighbors: networkx.from_dict_of_lists(neighbors)",
        )  # fmt: skip
    table = TableFile(path=Path(name), names=tuple(key for key, _ in columns))
    check_names(table)
    held = flat_columns(dict(columns), table.path.name)
    table = TableFile(path=Path(name), names=tuple(held), held=held)
    check_names(table)
    return table


def arrow_column(values: Any) -> Any:
    """Return values as an Arrow column; values of several types become text.

    Args:
        values: A column, (N,); None, NaN and NA are missing.
    """
    import pyarrow as pa

    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = list(values)
    elif isinstance(values, list):
        values = [_plain(value) for value in values]
    for kind in (None, pa.float64()):
        try:
            return pa.array(values, type=kind, from_pandas=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError):
            pass
    words = [None if v is None or v is not v or _differs(v) else str(v) for v in values]
    return pa.array(words, pa.string())


def _index_levels(thing: Any, unnamed: bool) -> list[tuple[str, Any]]:
    """Return the levels of the index of a pandas table as columns.

    Args:
        thing: The table.
        unnamed: If True, levels without a name are columns too.
    """
    return [
        (f"{INDEX_LEVEL}{i}__" if level is None else str(level), thing.index.get_level_values(i))
        for i, level in enumerate(thing.index.names)
        if unnamed or level is not None
    ]


def _plain(value: Any) -> Any:
    """Return a tensor as an array, and a set as text, because a set has no order."""
    if hasattr(value, "detach"):
        return value.detach().cpu().numpy()
    return str(sorted(value, key=str)) if isinstance(value, set | frozenset) else value


def _differs(value: Any) -> bool:
    """Return True for NaN, the value that differs from itself."""
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # NA of pandas, arrays
        return type(value).__name__ == "NAType"
