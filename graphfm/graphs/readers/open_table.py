"""Detection of the format, delimiter and header of a table."""

from __future__ import annotations

import csv
import gzip
import logging
import re
import zlib
from collections import Counter
from pathlib import Path

from graphfm.errors import FEW, DataError
from graphfm.graphs.packed import check_packed
from graphfm.graphs.readers.arrow import flat_columns, is_nested
from graphfm.graphs.readers.tables import TableFile
from graphfm.graphs.readers.textfiles import (
    SAMPLE_BYTES,
    decoded,
    has_runs,
    head,
    is_number,
    num_comments,
    sniff,
)

log = logging.getLogger(__name__)

MAX_COLUMNS = 110_000  # pyarrow takes about 10 kB per column
JSON_LINES = (".jsonl", ".ndjson")


def open_table(path: Path | TableFile, *, header: bool | None = None) -> TableFile:
    """Detect the format, delimiter and header of a table.

    Lines at the top that begin with ``#`` or ``%`` are comments. A first line of numbers only is
    not a header: then the columns are ``column 1``, ``column 2``, ...

    Args:
        path: Path of a CSV, Parquet or JSON lines file; a table is returned as it is.
        header: If True, the first line names the columns; if False, it is a row. Default: found by
            its content.

    Raises:
        DataError: GFM101 for an empty file, GFM103 for a missing one, GFM106 for a header that
            names a column twice, GFM108 for a format or encoding that its suffix does not name.
    """
    if isinstance(path, TableFile):
        return path
    if not path.is_file():
        what = "expected a table, got a folder" if path.is_dir() else f"no such file: {path.name}"
        fix = "give one file; Spark writes one after coalesce(1)" if path.is_dir() else ""
        raise DataError("GFM103", what, where=str(path), fix=fix)
    check_packed(path)
    if path.name.endswith(".parquet"):
        return _open_parquet(path)
    gzipped = path.name.endswith(".gz")
    if path.name.removesuffix(".gz").endswith(JSON_LINES):
        return _open_json_lines(path, gzipped)
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
    _refuse_other_formats(text, path)
    comments = num_comments(lines)
    body = [line for line in lines[comments:] if line.strip("\r\n")]
    blank = next((i for i, line in enumerate(lines[comments:]) if line.strip("\r\n")), 0)
    if not body:
        raise DataError("GFM101", "the table is empty", where=str(path))
    delimiter = sniff(body)
    content: bytes | None = None
    if delimiter == " " and has_runs(body):
        content = _single_spaces(path, gzipped)
        body = [" ".join(line.split()) + "\n" for line in body]
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
        content=content,
    )
    if header is False or (header is None and all(is_number(name) for name in names)):
        return table.headless()
    check_names(table)
    return table


CONVERT = "NetworkX reads it, and networkx.write_graphml writes a file that is read here"


def _refuse_other_formats(text: str, path: Path) -> None:
    """Raise an error for text that is JSON, XML or Matrix Market, with the suffix that reads it."""
    start = text.lstrip()
    fixes = {
        "%%MatrixMarket": ("Matrix Market", "give it the suffix .mtx"),
        "{": ("JSON", "give it the suffix .jsonl (one object per line) or .json (node-link)"),
        "[{": ("JSON", "write one object per line, with the suffix .jsonl"),
        ">>graph6<<": ("graph6", CONVERT),
        ">>sparse6<<": ("sparse6", CONVERT),
        "@prefix": ("RDF (Turtle)", "write a table with the columns subject and object"),
        "<http": ("RDF (N-Triples)", "write a table with the columns subject and object"),
        "<": ("XML", "give it the suffix .graphml or .gexf"),
    }
    for mark, (what, fix) in fixes.items():
        if start.startswith(mark):
            raise DataError("GFM108", f"expected a table, but it is {what}", where=str(path),
                            fix=fix)  # fmt: skip
    if re.match(r"(Creator\s.*\n\s*)?graph\s*\[", start):
        raise DataError("GFM108", "expected a table, but it is GML", where=str(path),
                        fix="give it the suffix .gml")  # fmt: skip
    for pattern, what in (
        (r"\*vertices\b", "Pajek"),
        (r"(/\*.*?\*/\s*)?(strict\s+)?(di)?graph\b[^\n]*\{", "Graphviz"),
    ):
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            raise DataError("GFM108", f"expected a table, but it is {what}", where=str(path),
                            fix=CONVERT)  # fmt: skip


def _single_spaces(path: Path, gzipped: bool) -> bytes:
    """Return a file with one space in place of each run of spaces."""
    with gzip.open(path) if gzipped else path.open("rb") as file:
        raw = file.read()
    raw = re.sub(rb"[ \t]+", b" ", raw)
    return re.sub(rb"(?m)^ | (?=\r?$)", b"", raw)


def _open_json_lines(path: Path, gzipped: bool) -> TableFile:
    """Return the table of a file with one JSON object per line."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    try:
        with pa.input_stream(str(path), compression="gzip" if gzipped else None) as stream:
            table = arrow_json.read_json(stream)
    except (pa.ArrowException, OSError) as error:
        raise DataError("GFM103", f"not readable as JSON lines: {str(error)[:200]}",
                        where=str(path)) from None  # fmt: skip
    held = flat_columns(dict(zip(table.column_names, table.columns, strict=True)), path.name)
    if not table.num_rows or not held:
        raise DataError("GFM101", "the table is empty", where=str(path))
    made = TableFile(path=path, names=tuple(held), held=held)
    check_names(made)
    return made


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
        file = parquet.ParquetFile(path)
        nested = [f.name for f in file.schema_arrow if is_nested(f.type)]
        read = file.read(nested) if nested else {}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError("GFM103", f"not readable as Parquet: {error}", where=str(path)) from None
    check_names(TableFile(path=path, names=tuple(file.schema_arrow.names)))
    held = flat_columns({name: read[name] for name in nested}, path.name)
    plain = (name for name in file.schema_arrow.names if name not in nested)
    table = TableFile(path=path, names=(*plain, *held), held=held)
    check_names(table)
    return table


def check_names(table: TableFile) -> None:
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
