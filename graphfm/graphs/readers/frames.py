"""Columns of a table in memory: numbers in one matrix, text columns apart.

Shapes:
    N  rows   K  columns of numbers in the file
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy import sparse

from graphfm.errors import DataError
from graphfm.graphs.readers.cells import numbers_in_text
from graphfm.graphs.readers.tables import MISSING, MistypedError, TableFile

SPARSE = 0.1  # a batch with a smaller share of nonzero values is stored as CSR
WIDE = 128  # columns; narrower tables are dense

Numbers: TypeAlias = "np.ndarray | sparse.csr_array"
Kind = Literal["number", "flag", "date", "category"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """Columns of a table that were read.

    Args:
        table: The table, for messages.
        num_rows: Number of rows, N.
        kinds: Kind of each column, in the order of the file.
        numbers: All columns but categories, (N, K) float32, in that order; NaN = missing.
        text: Categories, (N,) text each; null = missing.
    """

    table: TableFile
    num_rows: int
    kinds: dict[str, Kind]
    numbers: Numbers
    text: dict[str, Any]

    def rows(self, index: np.ndarray) -> Frame:
        """Return the rows ``index``, (M,), in this order; -1 means a row without any value."""
        import pyarrow as pa

        gone = index < 0
        if self.num_rows:
            numbers = self.numbers[np.where(gone, 0, index)]
        else:
            numbers = np.empty((len(index), self.numbers.shape[1]), dtype=np.float32)
        if gone.any():
            numbers = numbers.toarray() if not isinstance(numbers, np.ndarray) else numbers
            numbers[gone] = np.nan
        places = pa.array(index, mask=gone)
        text = {name: values.take(places) for name, values in self.text.items()}
        return replace(self, num_rows=len(index), numbers=numbers, text=text)


def read_frame(
    table: TableFile,
    columns: Sequence[str],
    *,
    num_rows: int = 0,
    text: Sequence[str] = (),
    finite: bool = True,
) -> Frame:
    """Read columns of a table.

    Args:
        table: The table.
        columns: Names of the columns to read.
        num_rows: Number of rows; used if ``columns`` is empty.
        text: Columns among them that are categories whatever they hold.
        finite: If True, an infinite number is an error.

    Raises:
        DataError: GFM117 for an infinite number, and the errors of :meth:`TableFile.text`.
    """
    names = list(columns)
    if not names:
        nothing = np.empty((num_rows, 0), dtype=np.float32)
        return Frame(table=table, num_rows=num_rows, kinds={}, numbers=nothing, text={})
    table = table.with_parsed_text([name for name in names if name not in text])
    types = table.types(names, text=text)
    try:
        frame = _collect(table, names, types)
    except MistypedError:  # a later row is not of the type that the first rows had
        try:
            frame = _collect(table, names, table.types(names, text=text, whole=True))
        except MistypedError as error:
            raise DataError("GFM103", f"not readable: {error}", where=str(table.path)) from None
    frame = with_numbers(frame, text)
    if finite:
        check_finite(frame)
    return frame


def with_numbers(frame: Frame, text: Sequence[str] = ()) -> Frame:
    """Return the frame with the text columns that hold numbers as numbers.

    Args:
        frame: The frame.
        text: Columns that stay text.
    """
    import pyarrow as pa

    found: dict[str, np.ndarray] = {}
    for name, values in frame.text.items():
        plain = None if name in text else numbers_in_text(frame.table, name, values)
        if plain is not None:
            cast = plain.cast(pa.float64()).to_numpy(zero_copy_only=False)
            found[name] = cast.astype(np.float32)
    if not found:
        return frame
    known = [name for name, kind in frame.kinds.items() if kind != "category"]
    kinds: dict[str, Kind] = {
        name: "number" if name in found else kind for name, kind in frame.kinds.items()
    }
    place = {name: i for i, name in enumerate([*known, *found])}
    order = [place[name] for name, kind in kinds.items() if kind != "category"]
    new = np.stack(list(found.values()), axis=1)
    if isinstance(frame.numbers, np.ndarray):
        numbers: Numbers = np.hstack([frame.numbers, new])[:, order]
    else:
        numbers = sparse.csr_array(sparse.hstack([frame.numbers, new], format="csc")[:, order])
    rest = {name: values for name, values in frame.text.items() if name not in found}
    return replace(frame, kinds=kinds, numbers=numbers, text=rest)


def _collect(table: TableFile, names: list[str], types: dict[str, Any]) -> Frame:
    import pyarrow as pa
    from pyarrow import compute as pc

    kinds: dict[str, Kind] = {}
    for name in names:
        kind = types[name]
        date = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
        flag, words = pa.types.is_boolean(kind), pa.types.is_string(kind)
        kinds[name] = "date" if date else "flag" if flag else "category" if words else "number"
    numeric = [name for name in names if kinds[name] != "category"]
    blocks: list[Numbers] = []
    texts: dict[str, list[Any]] = {name: [] for name in names if kinds[name] == "category"}
    num_rows = 0
    for batch in table.batches(names, types):
        num_rows += batch.num_rows
        block = np.empty((batch.num_rows, len(numeric)), dtype=np.float32, order="F")
        for i, name in enumerate(numeric):
            block[:, i] = _as_float(batch.column(name))
        blocks.append(_compact(block))
        for name, parts in texts.items():
            values = pc.utf8_trim_whitespace(batch.column(name))
            gone = pc.is_in(values, value_set=pa.array(MISSING))
            parts.append(pc.if_else(gone, pa.scalar(None, pa.string()), values))
    numbers = _stacked(blocks, len(numeric))
    text = {
        name: pa.chunked_array(parts, type=pa.string()).combine_chunks()
        for name, parts in texts.items()
    }
    return Frame(table=table, num_rows=num_rows, kinds=kinds, numbers=numbers, text=text)


def _as_float(array: Any) -> np.ndarray:
    """Return a column as float32, (N,); NaN = missing, dates in days since 1970."""
    import pyarrow as pa

    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("us"), safe=False)  # nanoseconds are cut
        days = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return np.asarray(days, dtype=np.float64) / 86_400e6  # us a day; null has become NaN
    if pa.types.is_time(array.type):
        array = array.cast(pa.int32())  # seconds, from a CSV file
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8()).cast(pa.float32())
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _compact(block: np.ndarray) -> Numbers:
    """Return a batch of numbers as CSR if that is smaller."""
    if block.shape[1] < WIDE or np.count_nonzero(block) > SPARSE * block.size:
        return np.ascontiguousarray(block)
    return sparse.csr_array(block)


def _stacked(blocks: list[Numbers], width: int) -> Numbers:
    """Return batches as one matrix, dense if one of them is."""
    if not blocks:
        return np.empty((0, width), dtype=np.float32)
    if len(blocks) == 1:
        return blocks[0]
    if any(isinstance(block, np.ndarray) for block in blocks):
        return np.concatenate([b if isinstance(b, np.ndarray) else b.toarray() for b in blocks])
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))


def check_finite(frame: Frame) -> None:
    """Raise an error if a number is infinite.

    Raises:
        DataError: GFM117 with the place of the first one.
    """
    values = frame.numbers if isinstance(frame.numbers, np.ndarray) else frame.numbers.data
    if not np.isinf(values).any():
        return
    if isinstance(frame.numbers, np.ndarray):
        rows, columns = np.nonzero(np.isinf(frame.numbers))
    else:
        bad = frame.numbers.tocoo()
        at = np.isinf(bad.data)
        rows, columns = bad.row[at], bad.col[at]
    names = [name for name, kind in frame.kinds.items() if kind != "category"]
    raise DataError(
        "GFM117",
        f"features must be finite, but {len(rows):,} values are infinite or beyond 3.4e38",
        where=f"{frame.table.where(rows.tolist())}, column {names[columns[0]]!r}",
        fix="leave the cell empty where the value is not known",
    )
