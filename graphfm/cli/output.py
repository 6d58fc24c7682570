"""Folders and files that a command writes; nothing is replaced by accident."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from graphfm.errors import OutputError

if TYPE_CHECKING:
    from graphfm.graphs.graph import Graph

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


@contextmanager
def table_file(out: Path, *, text: Sequence[str]) -> Iterator[TextIO]:
    """Open a CSV file for writing; with the suffix ``.parquet`` it is converted at the end.

    Args:
        out: File to write. It appears only when it is complete.
        text: Columns that are text in Parquet, even if all values look like numbers.
    """
    from graphfm.storage import whole_file

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


@dataclass(frozen=True, kw_only=True)
class PredictedRows:
    """Nodes that a file of predictions lists, and the part of the split that each is in.

    Args:
        split: ``train``, ``val``, ``test``, ``unlabelled`` or nothing for each node, (N,) text.
            Default: unknown, so the file has no column ``split``.
        only: Part to write. Default: all nodes.
    """

    split: Sequence[str] | None = None
    only: str | None = None

    @property
    def head(self) -> list[str]:
        """Name of the column of the split, if it is known."""
        return [] if self.split is None else ["split"]

    def has(self, node: int) -> bool:
        """Return true if a node is written."""
        return self.only is None or (self.split is not None and self.split[node] == self.only)

    def cells(self, node: int) -> list[str]:
        """Return the cell of the column of the split, if it is known."""
        return [] if self.split is None else [self.split[node]]


def parts_of_nodes(graph: Graph, fit: Mapping[str, Any]) -> list[str] | None:
    """Return the part of the split of each node; None if a fit does not know its split.

    Args:
        graph: The graph to predict.
        fit: Content of ``split.json``. Nodes are found by id.
    """
    nodes = fit.get("nodes")
    if not nodes:
        return None
    part = {name: word for word, names in nodes.items() for name in names}
    known = graph.labelled.tolist() if graph.y is not None else [False] * graph.num_nodes
    return [
        part.get(name, "" if labelled else "unlabelled")
        for name, labelled in zip(graph.ids(), known, strict=True)
    ]


class RowWriter:
    """CSV writer that quotes a carriage return too, so that a row stays one row.

    Args:
        file: Text file to write.
    """

    def __init__(self, file: TextIO):
        self.plain = csv.writer(file, lineterminator="\n")
        self.quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def writerow(self, row: Sequence[object]) -> None:
        """Write one row."""
        has_return = any("\r" in cell for cell in row if isinstance(cell, str))
        (self.quoted if has_return else self.plain).writerow(row)


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
