"""Where a command writes: never over something that is not ours."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from graphfm.errors import OutputError
from graphfm.storage import whole_file

# What only a folder of ours holds; --overwrite removes no other folder.
_OURS = ("run.json", "config.resolved.yaml", "split.json", "demo.json", ".graphfm.lock")


def new_folder(out: Path, *, overwrite: bool = False, dry_run: bool = False) -> Path:
    """An empty folder at ``out``.

    Raises:
        OutputError: GFM402 for a folder that holds something, GFM403 for one that cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise OutputError("GFM402", "--out must be a folder, but is a file", where=str(out))
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise OutputError(
                "GFM402",
                "--out must be an empty or a new folder, but holds something",
                where=str(out),
                fix="name another folder, or --overwrite to replace this one",
            )
        if not any((out / name).exists() for name in _OURS):
            raise OutputError(
                "GFM402",
                "--overwrite replaces only what graphfm has written, and this folder holds none of "
                + ", ".join(_OURS),
                where=str(out),
                fix="empty it yourself, or name another folder",
            )
        if not dry_run:
            shutil.rmtree(out)
    if not dry_run:
        make_folder(out)
    return out


@contextmanager
def folder_for_one(out: Path) -> Iterator[None]:
    """Write to a folder as the only process; the lock lies in the cache, not in the folder.

    Raises:
        OutputError: GFM802 where another process writes to it, saying which.
    """
    from graphfm.storage import alone

    key = hashlib.sha256(str(out.resolve()).encode()).hexdigest()
    with alone(key, wait=False, what=str(out)):
        yield


def make_folder(out: Path) -> None:
    """Make a folder and what leads to it.

    Raises:
        OutputError: GFM403 if that cannot be.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "GFM403", f"cannot make the folder: {error.strerror}", where=str(out)
        ) from None


def check_file(out: Path, *, overwrite: bool = False) -> None:
    """Refuse to replace a file unless told to.

    Raises:
        OutputError: GFM402 for a file that exists, GFM403 for a folder that does not.
    """
    if out.is_dir() or (out.exists() and not overwrite):
        raise OutputError(
            "GFM402",
            f"--out must be a new file, but there is a {'folder' if out.is_dir() else 'file'}",
            where=str(out),
            fix="name another file" + ("" if out.is_dir() else ", or --overwrite to replace it"),
        )
    if not out.parent.is_dir():
        raise OutputError("GFM403", "the folder of --out does not exist", where=str(out.parent))


@contextmanager
def table_file(out: Path, *, text: Sequence[str]) -> Iterator[TextIO]:
    """A file for the lines of a CSV; with the suffix ``.parquet`` it becomes Parquet in the end.

    Args:
        out: Where the table shall be, whole or not at all.
        text: Columns that are text in Parquet, whatever is in them.
    """
    with whole_file(out) as path:
        lines = path if out.suffix != ".parquet" else path.with_suffix(".csv")
        try:
            with lines.open("w", encoding="utf-8", newline="") as file:
                yield file
            if lines != path:
                _to_parquet(lines, path, text)
        finally:
            if lines != path:
                lines.unlink(missing_ok=True)


def _to_parquet(lines: Path, path: Path, text: Sequence[str]) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    table = csv.read_csv(
        lines,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(text, pa.string()), strings_can_be_null=False
        ),
    )
    parquet.write_table(table, path)
