"""Detection of the format, delimiter and header of a table."""

from __future__ import annotations

import csv
import zlib
from collections import Counter
from pathlib import Path

from graphfm.errors import DataError
from graphfm.graphs.graph import FEW
from graphfm.graphs.readers.tables import TableFile
from graphfm.graphs.readers.textfiles import SAMPLE_BYTES, decoded, head, is_number, sniff

MAX_COLUMNS = 110_000  # pyarrow takes about 10 kB per column


def open_table(path: Path) -> TableFile:
    """Detect the format, delimiter and header of a table.

    Lines at the top that begin with ``#`` or ``%`` are comments. A first line of numbers only is
    not a header: then the columns are ``column 1``, ``column 2``, ...

    Args:
        path: Path of a CSV or Parquet file.

    Raises:
        DataError: GFM101 for an empty file, GFM103 for a missing one, GFM106 for a header that
            names a column twice, GFM108 for a format or encoding that its suffix does not name.
    """
    if not path.is_file():
        what = "expected a table, got a folder" if path.is_dir() else f"no such file: {path.name}"
        raise DataError("GFM103", what, where=str(path))
    if path.name.endswith(".parquet"):
        return _open_parquet(path)
    gzipped = path.name.endswith(".gz")
    try:
        sample = head(path, gzipped)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, PermissionError):
            raise
        raise DataError(
            "GFM108", f"named .gz, but it cannot be unpacked: {error}", where=str(path),
            fix="check it with gzip -t; drop the .gz if it is plain text",
        ) from None  # fmt: skip
    text = decoded(sample, path)
    lines = text.splitlines(keepends=True)
    if len(sample) == SAMPLE_BYTES and len(lines) > 1:
        lines.pop()  # the sample may end within it
    comments = 0
    while comments < len(lines) and lines[comments][:1] in ("#", "%"):
        comments += 1
    body = [line for line in lines[comments:] if line.strip("\r\n")]
    blank = next((i for i, line in enumerate(lines[comments:]) if line.strip("\r\n")), 0)
    if not body:
        raise DataError("GFM101", "the table is empty", where=str(path))
    delimiter = sniff(body)
    reader = csv.reader(body, delimiter=delimiter)
    try:
        names = tuple(name.strip() for name in next(reader))
    except csv.Error as error:
        raise DataError("GFM106", f"no header: {error}", where=str(path)) from None
    table = TableFile(
        path=path,
        names=names,
        delimiter=delimiter,
        skip=comments + blank + reader.line_num,
        gzipped=gzipped,
    )
    if all(is_number(name) for name in names):
        return table.headless()
    _check_names(table)
    return table


def _open_parquet(path: Path) -> TableFile:
    """Return the table of a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    if head(path, False)[:4] != b"PAR1":
        raise DataError(
            "GFM108", "named .parquet, but it is not Parquet", where=str(path),
            fix="give it the suffix of what it is, such as .csv",
        )  # fmt: skip
    try:
        names = tuple(parquet.ParquetFile(path).schema_arrow.names)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError("GFM103", f"not readable as Parquet: {error}", where=str(path)) from None
    table = TableFile(path=path, names=names)
    _check_names(table)
    return table


def _check_names(table: TableFile) -> None:
    """Raise an error for columns with the same name, and for too many columns."""
    names = Counter(table.names)
    where = str(table.path) + (f", line {table.skip}" if table.delimiter else "")
    twice = [name for name, count in names.items() if count > 1]
    folded = Counter(name.casefold() for name in names)
    clash = [name for name in names if folded[name.casefold()] > 1 and name.casefold() == "id"]
    if twice or clash:
        listed = ", ".join(repr(name) for name in (twice or clash)[:FEW])
        raise DataError(
            "GFM106",
            f"two columns have the same name: {listed}"
            if twice
            else f"it is not clear which column holds the ids: {listed}",
            where=where,
            fix="give every column its own name",
        )
    if len(names) > MAX_COLUMNS:
        raise DataError(
            "GFM106", f"a table may have {MAX_COLUMNS:,} columns, got {len(names):,}", where=where,
            fix="save the graph as .npz, with the parts of a sparse matrix: x_data, x_indices, "
            "x_indptr, x_shape",
        )  # fmt: skip
