"""Conversion of Arrow columns: numbers to float32, ids to text, truth values and dates as is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphfm.errors import DataError


def storage(kind: Any) -> Any:
    """Return the Arrow type that a column of this type is read as; features are float32."""
    import pyarrow as pa

    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return pa.float32()
    if pa.types.is_decimal(kind) or pa.types.is_time(kind):
        return pa.float32()
    if pa.types.is_boolean(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return kind
    return pa.string()


def plain(array: Any, path: Path, name: str) -> Any:
    """Return a column of a Parquet file in the type that :func:`storage` returns.

    Raises:
        DataError: GFM110 for lists and bytes.
    """
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    _check_plain(kind, path, name)
    if pa.types.is_time(kind):
        array = array.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64())
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
        array = array.cast(array.type.value_type)
    if pa.types.is_floating(array.type):  # pandas stores integer ids as floats if one is missing
        try:
            array = array.cast(pa.int64())
        except pa.ArrowInvalid:
            pass  # fractions keep theirs
    _check_plain(array.type, path, name)
    if pa.types.is_boolean(array.type):
        return pc.if_else(array, "True", "False")  # as Python writes them
    return array.cast(pa.string())


def _check_plain(kind: Any, path: Path, name: str) -> None:
    import pyarrow as pa

    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise DataError(
            "GFM110",
            f"column {name!r} holds {kind}, which cannot become a feature",
            where=str(path),
            fix="write one column per number, or leave it out with --features",
        )
