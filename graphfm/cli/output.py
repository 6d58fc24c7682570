"""Folders and files that a command writes; nothing is replaced by accident."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from graphfm.errors import OutputError

if TYPE_CHECKING:
    import pyarrow as pa

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes such a cell for a formula
# Files that only graphfm writes: --overwrite removes a folder only if it has one of them.
_OURS = ("run.json", "config.resolved.yaml", "split.json", "demo.json", ".graphfm.lock")


def new_folder(out: Path, *, overwrite: bool = False, dry_run: bool = False) -> Path:
    """Make an empty folder, or check that it could be made.

    Args:
        out: The folder.
        overwrite: True to remove an existing folder that graphfm wrote.
        dry_run: True to check only, and to change nothing.

    Raises:
        OutputError: GFM402 for a folder that is not empty, GFM403 if it cannot be made.
    """
    _check_place(out)
    if out.exists() and not out.is_dir():
        raise OutputError("GFM402", "--out must be a folder, but it is a file", where=str(out))
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise OutputError(
                "GFM402",
                "--out must be a new or an empty folder, but it has files in it",
                where=str(out),
                fix="choose another folder, or add --overwrite to replace this one",
            )
        if not any((out / name).exists() for name in _OURS):
            raise OutputError(
                "GFM402",
                "--overwrite replaces only folders that graphfm wrote; this one has none of "
                + ", ".join(_OURS),
                where=str(out),
                fix="choose another folder, or empty this one yourself",
            )
        if not dry_run:
            from graphfm.places import empty_folder

            empty_folder(out)
    if not dry_run:
        make_folder(out)
    return out


def _check_place(out: Path) -> None:
    """Check that a path can be written, by a temporary file.

    Raises:
        OutputError: GFM403 if it cannot be written.
    """
    from graphfm.places import reason_of, try_writing

    try:
        try_writing(out.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a zero byte
        what = f"--out cannot be written: {reason_of(error)}"
        raise OutputError("GFM403", what, where=str(out)) from None


@contextmanager
def folder_for_one(out: Path) -> Iterator[None]:
    """Lock a folder for this process. The lock file ``.NAME.lock`` lies beside the folder.

    So processes with different cache folders see each other. Where nothing can be written beside
    the folder, the lock file is in the cache.

    Raises:
        OutputError: GFM802 if another process writes to the folder; the message names it.
    """
    from graphfm.storage import cache_lock, file_lock

    place = out.resolve()
    beside = place.with_name(f".{place.name}.lock")
    try:
        beside.touch()
    except OSError:
        key = hashlib.sha256(str(place).encode()).hexdigest()
        with cache_lock(key, wait=False, what=str(out)):
            yield
        return
    with file_lock(beside, wait=False, what=str(out)):
        try:
            yield
        finally:
            beside.unlink(missing_ok=True)  # while it is held: whoever opened it looks again


def make_folder(out: Path) -> None:
    """Make a folder and its parents.

    Raises:
        OutputError: GFM403 if the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "GFM403", f"cannot make the folder: {error.strerror}", where=str(out)
        ) from None


def check_file(out: Path, *, overwrite: bool = False) -> None:
    """Check that a file can be written, and that nothing is replaced without ``overwrite``.

    Raises:
        OutputError: GFM402 for a file that exists or no regular file, GFM403 if it cannot be
            written.
    """
    from graphfm.places import stream_number

    if stream_number(out) is not None:
        return
    _check_place(out)
    if out.exists() and not out.is_dir() and not out.is_file():
        raise OutputError(
            "GFM402",
            "--out is no regular file, but a device, pipe or socket",
            where=str(out),
            fix="give the name of a file, or /dev/stdout to write to a pipe",
        )
    if out.is_dir() or (out.exists() and not overwrite):
        raise OutputError(
            "GFM402",
            f"--out already exists, as a {'folder' if out.is_dir() else 'file'}",
            where=str(out),
            fix="choose another name"
            + ("" if out.is_dir() else ", or add --overwrite to replace it"),
        )
    if not out.resolve().parent.is_dir():
        raise OutputError("GFM403", "the folder of --out does not exist", where=str(out.parent))


def write_table(out: Path, table: pa.Table, *, safe: bool = False) -> None:
    """Write a table as CSV, or as Parquet if the name ends in ``.parquet``; whole or not at all.

    In CSV a missing value is an empty cell, and a text with a carriage return is quoted, so that
    there are as many rows as nodes.

    Args:
        out: File to write; replaced if it exists.
        table: The table.
        safe: If true, put ``'`` before each text in CSV that a spreadsheet could take for a
            formula: one that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return.
    """
    from graphfm.storage import whole_file

    with whole_file(out) as path:
        if out.suffix == ".parquet":
            from pyarrow import parquet

            parquet.write_table(table, path)
            return
        columns = [_cells(column, safe=safe) for column in table.columns]
        # The csv module leaves a bare carriage return unquoted, and readers end a row there.
        is_broken = any("\r" in cell for cells in columns for cell in cells)
        with path.open("w", encoding="utf-8", newline="") as file:
            if is_broken:
                writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
            else:
                writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table.column_names)
            writer.writerows(zip(*columns, strict=True))


def _cells(column: pa.ChunkedArray, *, safe: bool) -> list[str]:
    """Return the cells of a column in CSV."""
    import pyarrow as pa

    values = column.to_pylist()
    if pa.types.is_floating(column.type):
        digits = ".9g" if column.type == pa.float64() else ".6g"
        return ["" if v is None else f"{v:{digits}}" for v in values]
    if pa.types.is_boolean(column.type):
        return ["" if v is None else str(v).lower() for v in values]
    cells = ["" if v is None else str(v) for v in values]
    return [f"'{c}" if c.startswith(FORMULA) else c for c in cells] if safe else cells
