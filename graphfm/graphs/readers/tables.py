"""CSV and Parquet files: columns as text or as numbers, and the line of each row.

Text stays text until a caller asks for numbers: an id ``007`` is not ``7``, and ``NA`` may be a
name. pyarrow reads the data. Python's csv module finds the lines that an error names.
"""

from __future__ import annotations

import csv
import gzip
import io
import mmap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from graphfm.errors import FEW, DataError
from graphfm.graphs.readers.arrow import as_text, is_words, parsed_cells, plain, storage
from graphfm.graphs.readers.textfiles import SAMPLE_BYTES, head, not_utf8

SUFFIXES = (".csv", ".tsv", ".txt", ".edgelist", ".parquet", ".jsonl", ".ndjson", ".mtx")
BLOCK_BYTES = 2**24  # size of a batch (10,000 rows of 1,433 columns) and of the longest line
BATCH_ROWS = 2**16  # rows of a batch of Arrow columns

# Text that means "no value" in a column that does not hold ids: the list of pandas.
MISSING = (
    *("", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "<NA>"),
    *("#N/A", "#NA", "#N/A N/A", "1.#IND", "1.#QNAN", "-1.#IND", "-1.#QNAN"),
)


class MistypedError(Exception):
    """A value that is not of the type of its column."""


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """Format of a table whose rows were not read yet.

    Args:
        path: Path of the file.
        names: Names of the columns, unique.
        delimiter: Character between two cells; empty for Parquet.
        skip: Number of lines before the first row: comments and the header.
        has_header: True if the first row names the columns.
        gzipped: True if the file is packed by gzip.
        content: The file as CSV, where it was converted. Default: the file itself is read.
        held: Arrow columns in memory, by name; the others are read from the Parquet file.
    """

    path: Path
    names: tuple[str, ...]
    delimiter: str = ""
    skip: int = 0
    has_header: bool = True
    gzipped: bool = False
    content: bytes | None = None
    held: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def headless(self) -> TableFile:
        """Return the same file, with its first row read as values."""
        names = tuple(f"column {i + 1}" for i in range(len(self.names)))
        return replace(self, names=names, skip=self.skip - 1, has_header=False)

    def text(self, columns: Sequence[str]) -> Any:
        """Read columns as text: a ``pyarrow.Table``; in CSV, a missing value is empty text.

        Args:
            columns: Names of the columns, in the order of the result.

        Raises:
            DataError: GFM103, GFM107 or GFM108 for a file that cannot be read, with the line.
        """
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        with _reading(self):
            if not self.delimiter:
                return pa.table(
                    {n: as_text(v, self.path, n) for n, v in self._arrow(columns).items()}
                )
            options = self._options({name: pa.string() for name in columns}, columns)
            with self._stream() as stream:
                return arrow_csv.read_csv(stream, **options)

    def batches(self, columns: Sequence[str], types: dict[str, Any]) -> Iterator[Any]:
        """Read columns batch by batch: ``pyarrow.RecordBatch``.

        Args:
            columns: Names of the columns, in the order of the result.
            types: Types of the columns, from :meth:`types`.

        Raises:
            DataError: See :meth:`text`.
            MistypedError: For a value that is not of the type of its column.
        """
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        with _reading(self):
            if not self.delimiter:
                yield from self._arrow_batches(columns, types)
                return
            try:
                with self._stream() as stream:
                    yield from arrow_csv.open_csv(stream, **self._options(types, columns))
            except pa.ArrowInvalid as error:
                if "conversion error" in str(error) and "UTF8" not in str(error):
                    raise MistypedError(str(error)) from None
                raise

    def types(
        self, columns: Sequence[str], *, text: Iterable[str] = (), whole: bool = False
    ) -> dict[str, Any]:
        """Return the type of each column: float32, truth value, date, or text.

        Args:
            columns: Names of the columns.
            text: Columns that are text whatever they hold.
            whole: If True, all rows decide, not only the first megabyte.
        """
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        fixed = {name: pa.string() for name in text}
        with _reading(self):
            if not self.delimiter:
                schema = self._schema()
            elif whole:
                with self._stream() as stream:
                    schema = arrow_csv.read_csv(stream, **self._options(fixed, columns)).schema
            else:
                sample = self._head()
                if len(sample) == SAMPLE_BYTES:
                    sample = sample[: sample.rfind(b"\n") + 1]
                stream = io.BytesIO(sample)
                try:
                    schema = arrow_csv.read_csv(stream, **self._options(fixed, columns)).schema
                except pa.ArrowInvalid as error:
                    if "Empty CSV" not in str(error):
                        raise
                    schema = pa.schema([(name, pa.null()) for name in columns])
        found = {name: fixed.get(name, schema.field(name).type) for name in columns}
        clock = pa.types.is_time if self.delimiter else pa.types.is_null  # a CSV reader's own type
        return {n: kind if clock(kind) else storage(kind) for n, kind in found.items()}

    def is_text(self, name: str) -> bool:
        """Return True if the source says that a column is text; a CSV file does not."""
        return not self.delimiter and is_words(self._schema().field(name).type)

    def with_parsed_text(self, columns: Iterable[str]) -> TableFile:
        """Return the table with text columns read as a CSV file of them would be.

        Args:
            columns: Names of the columns to look at. Those of a CSV file stay as they are.
        """
        import pyarrow as pa

        if self.delimiter:
            return self
        with _reading(self):
            words = [name for name in columns if is_words(self._schema().field(name).type)]
            parsed = {}
            for name, values in self._arrow(words).items():
                text = as_text(values, self.path, name)
                cells = parsed_cells(text, MISSING)
                parsed[name] = text if pa.types.is_string(cells.type) else cells
        return replace(self, held={**self.held, **parsed})

    def lines(self, rows: Iterable[int]) -> list[int]:
        """Return the lines of the first few rows, counted from 1; for Parquet, the rows from 1.

        Args:
            rows: Numbers of the rows, counted from 0.
        """
        wanted = sorted(rows)[:FEW]
        if not self.delimiter or not wanted:
            return [row + 1 for row in wanted]
        found: list[int] = []
        try:
            for row, (line, _) in enumerate(self._rows()):
                if row == wanted[len(found)]:
                    found.append(line)
                    if len(found) == len(wanted):
                        break
        except csv.Error:
            pass
        return found

    def where(self, rows: Iterable[int]) -> str:
        """Return the place of rows, for messages: ``nodes.csv, lines 3, 17``."""
        lines = ", ".join(map(str, self.lines(rows)))
        kind = "line" if self.delimiter else "row"
        return (
            f"{self.path}, {kind}{'s' if ',' in lines else ''} {lines}" if lines else f"{self.path}"
        )

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Return every row with the line that it ends on; slow, for messages only."""
        with self._text_stream() as stream:
            for _ in range(self.skip):
                stream.readline()
            reader = csv.reader(stream, delimiter=self.delimiter)
            for row in reader:
                if row:
                    yield reader.line_num + self.skip, row

    def _options(self, types: dict[str, Any], columns: Sequence[str]) -> dict[str, Any]:
        """Return the options for pyarrow's CSV reader."""
        from pyarrow import csv as arrow_csv

        return {
            "read_options": arrow_csv.ReadOptions(
                column_names=list(self.names), skip_rows=self.skip, block_size=BLOCK_BYTES
            ),
            "parse_options": arrow_csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=self._quoted()
            ),
            "convert_options": arrow_csv.ConvertOptions(
                column_types=types,
                include_columns=list(columns),
                null_values=list(MISSING),
                strings_can_be_null=False,  # an id may be called NA
            ),
        }

    def _schema(self) -> Any:
        """Return the names and types of the columns of a Parquet file or of columns in memory."""
        import pyarrow as pa
        from pyarrow import parquet

        fields: list[Any] = []
        if any(name not in self.held for name in self.names):
            fields = [f for f in parquet.ParquetFile(self.path).schema_arrow
                      if f.name not in self.held]  # fmt: skip
        return pa.schema([*fields, *((name, v.type) for name, v in self.held.items())])

    def _arrow(self, columns: Sequence[str]) -> dict[str, Any]:
        """Return whole columns of a Parquet file or of memory, in the order of the names."""
        from pyarrow import parquet

        rest = [name for name in columns if name not in self.held]
        table = parquet.ParquetFile(self.path).read(rest) if rest else {}
        return {name: table[name] if name in rest else self.held[name] for name in columns}

    def _arrow_batches(self, columns: Sequence[str], types: dict[str, Any]) -> Iterator[Any]:
        """Read columns of a Parquet file or of memory batch by batch."""
        import pyarrow as pa
        from pyarrow import parquet

        rest = [name for name in columns if name not in self.held]
        if rest:
            file = parquet.ParquetFile(self.path)
            blocks = ((b, b.num_rows) for b in file.iter_batches(BATCH_ROWS, columns=rest))
        else:
            total = len(self.held[columns[0]])
            blocks = ((None, min(BATCH_ROWS, total - i)) for i in range(0, total, BATCH_ROWS))
        start = 0
        for batch, count in blocks:
            arrays = []
            for name in columns:
                array = batch.column(name) if name in rest else _one_chunk(
                    self.held[name].slice(start, count)
                )  # fmt: skip
                if types[name] == pa.string():
                    array = _one_chunk(as_text(pa.chunked_array([array]), self.path, name))
                else:
                    array = plain(array, self.path, name)
                arrays.append(array)
            start += count
            yield pa.record_batch(arrays, names=list(columns))

    def _quoted(self) -> bool:
        """Return True if a cell may hold a line break: lines cannot be parsed in parallel."""
        if self.content is not None:
            return b'"' in self.content
        if self.gzipped:
            return True
        with self.path.open("rb") as file:
            try:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    return content.find(b'"') >= 0
            except ValueError:  # an empty file
                return False

    def _head(self) -> bytes:
        if self.content is not None:
            return self.content[:SAMPLE_BYTES]
        return head(self.path, self.gzipped)

    def _stream(self) -> Any:
        import pyarrow as pa

        if self.content is not None:
            return pa.BufferReader(self.content)
        return pa.input_stream(str(self.path), compression="gzip" if self.gzipped else None)

    def _text_stream(self) -> IO[str]:
        if self.content is not None:
            return io.StringIO(self.content.decode(errors="replace"), newline="")
        opened = gzip.open if self.gzipped else open
        return opened(self.path, "rt", encoding="utf-8-sig", errors="replace", newline="")


def _one_chunk(values: Any) -> Any:
    """Return a column as one array."""
    return values.combine_chunks() if hasattr(values, "combine_chunks") else values


@contextmanager
def _reading(table: TableFile) -> Iterator[None]:
    """Turn errors of pyarrow and of the file into a :class:`DataError` with the line."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeError) as error:
        if isinstance(error, PermissionError | DataError | pa.ArrowMemoryError):
            raise
        raise _explained(table, str(error)) from None


def _explained(table: TableFile, message: str) -> DataError:
    """Return the error for a file that pyarrow cannot read, with the first bad line.

    Args:
        table: The table.
        message: Message of pyarrow.
    """
    if "UTF8" in message and table.delimiter:
        with gzip.open(table.path) if table.gzipped else table.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    raw.decode()
                except UnicodeDecodeError as error:
                    return not_utf8(table.path, number, raw[error.start])
    if "columns, got" in message or "straddl" in message:
        try:
            for line, row in table._rows():
                if len(row) != len(table.names):
                    shown = table.delimiter.join(row)
                    return DataError(
                        "GFM107",
                        f"expected {len(table.names)} cells, as in the first line, got {len(row)}",
                        where=f"{table.path}, line {line}",
                        why=f"it reads {shown[:80]!r}" + ("..." if len(shown) > 80 else ""),
                        fix="quote cells that hold the delimiter; a quote is doubled inside quotes",
                    )
        except (csv.Error, OSError, EOFError, zlib.error):
            pass
    return DataError("GFM103", f"not readable as a table: {message[:200]}", where=str(table.path))
