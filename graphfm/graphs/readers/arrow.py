"""Conversion of Arrow columns: numbers to float32, ids to text, truth values and dates as is.

Shapes:
    N  rows   K  numbers in each cell of a column of lists
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.errors import FEW, DataError

log = logging.getLogger(__name__)


def storage(kind: Any) -> Any:
    """Return the Arrow type that a column of this type is read as; features are float32."""
    import pyarrow as pa

    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return pa.float32()
    if pa.types.is_decimal(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        return pa.float32()
    if pa.types.is_boolean(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return kind
    return pa.string()


def plain(array: Any, path: Path, name: str) -> Any:
    """Return a column in the type that :func:`storage` returns: times of day in seconds.

    Raises:
        DataError: GFM110 for lists and bytes.
    """
    import pyarrow as pa
    from pyarrow import compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    _check_plain(kind, path, name)
    if pa.types.is_time(kind):
        array = pc.divide(array.cast(pa.time64("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
    if pa.types.is_duration(kind):
        days = array.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64())
        array = pc.divide(days, 86_400e6)
    wanted = storage(kind)
    if wanted == pa.float32() and not pa.types.is_null(kind):
        return array.cast(pa.float64(), safe=False).cast(wanted, safe=False)
    return array.cast(wanted)


def as_text(array: Any, path: Path, name: str) -> Any:
    """Return a column of a Parquet file as text; whole numbers have no decimal point.

    Raises:
        DataError: GFM110 for lists and bytes.
    """
    import pyarrow as pa
    from pyarrow import compute as pc

    if pa.types.is_dictionary(array.type):
        kind = pa.string() if is_words(array.type) else array.type.value_type
        chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
        taken = [chunk.dictionary.cast(kind).take(chunk.indices) for chunk in chunks]
        array = pa.chunked_array(taken, type=kind)
    if pa.types.is_floating(array.type):  # pandas stores integer ids as floats if one is missing
        try:
            array = array.cast(pa.int64())
        except pa.ArrowInvalid:
            pass  # fractions keep theirs
    _check_plain(array.type, path, name)
    if pa.types.is_timestamp(array.type):  # 2020-01-01, as pandas writes days without a time
        for kind in (pa.date32(), pa.timestamp("s", tz=array.type.tz)):
            coarse = array.cast(kind, safe=False)
            if coarse.cast(array.type).equals(array):
                array = coarse
                break
    if pa.types.is_boolean(array.type):
        return pc.if_else(array, "True", "False")  # as Python writes them
    return array.cast(pa.string())


def is_words(kind: Any) -> bool:
    """Return True for an Arrow type of text, also where each text is stored once."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def parsed_cells(words: Any, missing: Sequence[str]) -> Any:
    """Return text in the type that the same cells of a CSV file have.

    Args:
        words: Text, (N,); null = missing.
        missing: Text that means a missing value.
    """
    import pyarrow as pa
    from pyarrow import csv

    if not len(words):
        return words
    written = io.BytesIO()
    csv.write_csv(pa.table({"v": words}), written, csv.WriteOptions(include_header=False))
    read = csv.read_csv(
        pa.BufferReader(written.getvalue()),
        csv.ReadOptions(column_names=["v"]),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        csv.ConvertOptions(null_values=list(missing), strings_can_be_null=False),
    )
    return read["v"]


def is_nested(kind: Any) -> bool:
    """Return True for an Arrow type of lists, objects or bytes."""
    import pyarrow as pa

    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return bool(pa.types.is_nested(kind) or is_bytes or pa.types.is_fixed_size_binary(kind))


def flat_columns(columns: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the columns with lists of numbers as one column for each place.

    Lists of other values or of several lengths, and bytes, are left out with a line.

    Args:
        columns: Arrow columns by name.
        where: Name of the table, for the line.
    """
    found, unread = {}, []
    for name, values in columns.items():
        if not is_nested(values.type):
            found[name] = values
            continue
        parts = _places(values)
        if parts is None:
            unread.append(name)
            continue
        log.info("%s: column %r holds lists of %d numbers, which become columns %s_0 to %s_%d",
                 where, name, len(parts), name, name, len(parts) - 1)  # fmt: skip
        found |= {f"{name}_{i}": part for i, part in enumerate(parts)}
    if unread:
        log.warning("%s: %d columns hold lists of several lengths, objects or bytes and are not "
                    "read: %s", where, len(unread), ", ".join(unread[:FEW]))  # fmt: skip
    return found


def _places(values: Any) -> list[Any] | None:
    """Return one column for each place of lists of numbers, K of (N,); None for other cells."""
    import pyarrow as pa
    from pyarrow import compute as pc

    kind = values.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list and not pa.types.is_fixed_size_list(kind):
        return None
    inner = kind.value_type
    if not (pa.types.is_floating(inner) or pa.types.is_integer(inner)):
        return None
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    known = values.drop_null()
    widths = pc.unique(pc.list_value_length(known)).to_pylist()
    if len(widths) != 1 or not widths[0]:
        return None
    matrix = np.full((len(values), widths[0]), np.nan)
    flat = known.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    matrix[np.asarray(values.is_valid())] = flat.reshape(-1, widths[0])
    return [pa.array(column, from_pandas=True) for column in matrix.T]


def _check_plain(kind: Any, path: Path, name: str) -> None:
    if is_nested(kind):
        raise DataError(
            "GFM110",
            f"column {name!r} holds {kind}, which cannot become a feature",
            where=str(path),
            fix="write one column per number, or leave it out with --features",
        )
