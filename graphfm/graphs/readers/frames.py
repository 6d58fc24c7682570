"""Columns of a table as they are read: numbers in one matrix, text apart.

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
from graphfm.graphs.readers.tables import MISSING, MistypedError, TableFile

SPARSE = 0.1  # a batch with a smaller share of values that are not 0 is kept as CSR
WIDE = 128  # narrower ones are dense

Numbers: TypeAlias = "np.ndarray | sparse.csr_array"
Kind = Literal["number", "flag", "date", "category"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """The columns of a table as they were read.

    Args:
        table: Where they come from.
        num_rows: N.
        kinds: What each column holds, in the order of the file.
        numbers: (N, K) float32, NaN = missing: all that are no category, in that order.
        text: The others, (N,) each: dictionary-encoded, null = missing.
    """

    table: TableFile
    num_rows: int
    kinds: dict[str, Kind]
    numbers: Numbers
    text: dict[str, Any]

    def rows(self, index: np.ndarray) -> Frame:
        """Some rows, (M,), in this order; -1 gives a row without any value."""
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
        columns: Which.
        num_rows: N, where no column is asked for.
        text: Those of them that are categories whatever is in them.
        finite: Whether an infinite number is an error.

    Raises:
        DataError: As :meth:`TableFile.text`; GFM117 for a number that is infinite.
    """
    names = list(columns)
    if not names:
        nothing = np.empty((num_rows, 0), dtype=np.float32)
        return Frame(table=table, num_rows=num_rows, kinds={}, numbers=nothing, text={})
    types = table.types(names, text=text)
    try:
        frame = _collect(table, names, types)
    except MistypedError:  # a later row does not hold what the first ones promised
        try:
            frame = _collect(table, names, table.types(names, text=text, whole=True))
        except MistypedError as error:
            raise DataError("GFM103", f"not readable: {error}", where=str(table.path)) from None
    if finite:
        check_finite(frame)
    return frame


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
    """(N,) float32, NaN = missing; dates in days."""
    import pyarrow as pa

    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        days = array.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy(zero_copy_only=False)
        return np.asarray(days, dtype=np.float64) / 86_400e6  # us a day; null has become NaN
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8()).cast(pa.float32())
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _compact(block: np.ndarray) -> Numbers:
    if block.shape[1] < WIDE or np.count_nonzero(block) > SPARSE * block.size:
        return np.ascontiguousarray(block)
    return sparse.csr_array(block)


def _stacked(blocks: list[Numbers], width: int) -> Numbers:
    if not blocks:
        return np.empty((0, width), dtype=np.float32)
    if len(blocks) == 1:
        return blocks[0]
    if any(isinstance(block, np.ndarray) for block in blocks):
        return np.concatenate([b if isinstance(b, np.ndarray) else b.toarray() for b in blocks])
    return sparse.csr_array(sparse.vstack(blocks, format="csr"))


def check_finite(frame: Frame) -> None:
    """Refuse infinite numbers.

    Raises:
        DataError: GFM117 with the first of them.
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
