"""First megabyte of a text file: detection of its encoding and of the delimiter of its cells."""

from __future__ import annotations

import csv
import gzip
import re
from itertools import islice
from pathlib import Path

from graphfm.errors import DataError

DELIMITERS = ",\t;| "
SAMPLE_BYTES = 2**20  # a header of 100,000 columns fits
SAMPLE_ROWS = 50

MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip archive (an .xlsx or .npz is one)",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow or Feather",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "a NumPy array",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x80\x02": "a Python object file",
    b"\x80\x03": "a Python object file",
    b"\x80\x04": "a Python object file",
    b"\x80\x05": "a Python object file",
}


def head(path: Path, gzipped: bool) -> bytes:
    """Return the first megabyte of a file, unpacked."""
    with gzip.open(path) if gzipped else path.open("rb") as file:
        return bytes(file.read(SAMPLE_BYTES))


def decoded(sample: bytes, path: Path) -> str:
    """Decode a sample of a file.

    Args:
        sample: First bytes of the file.
        path: Path of the file, for messages.

    Raises:
        DataError: GFM101 for an empty file, GFM108 for anything but UTF-8 text, with the format
            that was found.
    """
    if not sample:
        raise DataError("GFM101", "the file is empty", where=str(path))
    for magic, what in MAGIC.items():
        if sample.startswith(magic):
            fixes = {
                "gzip": f"rename it to {path.name}.gz",
                "UTF-16 text": "save it as UTF-8 (iconv -f utf-16 -t utf-8)",
            }
            fix = fixes.get(what, "save it as CSV in UTF-8, or as Parquet")
            raise DataError("GFM108", f"expected text, but it is {what}", where=str(path), fix=fix)
    if b"\0" in sample:
        raise DataError(
            "GFM108", "expected text, but it is binary (or UTF-16)", where=str(path),
            fix="save it as CSV in UTF-8",
        )  # fmt: skip
    try:
        return sample.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start > len(sample) - 4 and len(sample) == SAMPLE_BYTES:
            return sample[: error.start].decode("utf-8-sig")
        raise not_utf8(path, sample[: error.start].count(b"\n") + 1, sample[error.start]) from None


def not_utf8(path: Path, line: int, byte: int) -> DataError:
    """Return the error for a byte that is not valid UTF-8."""
    return DataError(
        "GFM108",
        f"expected UTF-8 text, got the byte 0x{byte:02x}",
        where=f"{path}, line {line}",
        why="it looks like Latin-1 or Windows-1252",
        fix="save it as UTF-8 (iconv -f latin1 -t utf-8)",
    )


def sniff(lines: list[str]) -> str:
    """Return the delimiter that gives most lines as many cells as the first; then, most cells.

    A space is the delimiter only where no other one fits half of the lines: names hold spaces.
    """
    best, delimiter = (0.0, 0), DELIMITERS[0]
    for candidate in DELIMITERS:
        if candidate == " " and best[0] >= 0.5:
            break
        try:
            rows = islice(csv.reader(lines[: 2 * SAMPLE_ROWS], delimiter=candidate), SAMPLE_ROWS)
            counts = [len(row) for row in rows]
        except csv.Error:
            continue
        share = counts.count(counts[0]) / len(counts)
        if counts[0] > 1 and (share, counts[0]) > best:
            best, delimiter = (share, counts[0]), candidate
    return delimiter


def has_runs(lines: list[str]) -> bool:
    """Return True if cells are separated by runs of spaces, or lines are indented by them."""
    return any("  " in line.strip() or line[:1] == " " for line in lines[:SAMPLE_ROWS])


def num_comments(lines: list[str]) -> int:
    """Return the number of comment lines at the head of a file; they begin with ``#`` or ``%``.

    A line such as ``#cats,#dogs`` is no comment where other ids begin with ``#`` too: it has as
    many cells as the lines below, and no space after the mark.
    """
    count = 0
    while count < len(lines) and lines[count][:1] in ("#", "%"):
        count += 1
    body = [line for line in lines[count:] if line.strip()] or lines[:count]
    if not any(re.search(r"(^|[,\t;| ])[#%]\w", line) for line in body[:SAMPLE_ROWS]):
        return count
    delimiter = sniff(body)
    wide = len(body[0].split(delimiter))
    data = 0
    while data < count:
        line = lines[count - 1 - data]
        if line[1:2].isspace() or len(line.split(delimiter)) != wide or wide < 2:
            break
        data += 1
    return count - data


def is_number(text: str) -> bool:
    """Return True for text that is a finite number."""
    try:
        float(text)
    except ValueError:
        return False
    return text.lower().lstrip("+-") not in ("nan", "inf", "infinity")
