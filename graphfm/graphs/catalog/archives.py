"""One file out of an archive, as a stream, with everything else left where it is.

The archive may be hostile: nothing is unpacked to where it says, and never more than a cap.
"""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from graphfm.errors import DataError
from graphfm.graphs.catalog.source import WHOLE

MAX_RATIO = 1000
"""Unpacked bytes to packed ones. Deflate ends at 1032; of our files the emptiest has 582."""
HARMLESS = 1_000_000
"""Bytes up to which the ratio does not matter: a file of one repeated line reaches it."""
CHUNK = 1 << 16


def unpacked(archive: Path, member: str, *, max_bytes: int, where: str = "") -> Iterator[bytes]:
    """The content of one file of an archive, in pieces.

    What the archive is, its first bytes say: an address like ``download?id=7`` does not.

    Args:
        archive: A ``.zip``, a ``.tar.gz`` or a ``.gz``.
        member: The file's name in it; ``*`` for a ``.gz``, which holds one.
        max_bytes: More is refused. Of a ``.tar.gz`` this counts whatever has to be unpacked: all.
        where: What an error calls the archive.

    Raises:
        DataError: GFM141 for a file larger than the cap or packed too well to be honest, GFM142 for
            an archive that is damaged, that lacks the file or where it is a link, or that names
            files outside its folder.
    """
    where = f"{member} in {where or archive}"
    with archive.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        size = archive.stat().st_size
        try:
            if magic[:2] == b"PK":
                pieces = _from_zip(file, member, where)
            elif magic[:2] == b"\x1f\x8b":
                limit = _Limit(gzip.GzipFile(fileobj=file), size, max_bytes, where)
                pieces = _pieces(limit) if member == WHOLE else _from_tar(limit, member, where)
            else:
                raise _bad("it is no zip, tar.gz or gz", where)
            yield from _capped(pieces, max_bytes, where)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # zipfile, tarfile, gzip and zlib each raise their own
            raise _bad(f"{type(error).__name__}: {error}", where) from error


def _from_zip(file: IO[bytes], member: str, where: str) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            _check_name(name, where)
        found = [info for info in archive.infolist() if _plain(info.filename) == _plain(member)]
        if len(found) != 1:
            raise _bad(f"{len(found)} members are called so", where)
        (info,) = found
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir() or kind not in (0, stat.S_IFREG):
            raise _bad("it is not a plain file", where)
        # The others unpack a whole block at once, however large it becomes.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _bad(f"it is packed by method {info.compress_type}", where)
        with archive.open(info) as content:
            yield from _pieces(_Limit(content, info.compress_size, None, where))


def _from_tar(file: Any, member: str, where: str) -> Iterator[bytes]:
    found = 0
    with tarfile.open(fileobj=file, mode="r|") as archive:
        for info in archive:
            _check_name(info.name, where)
            if _plain(info.name) != _plain(member):
                continue
            found += 1
            content = archive.extractfile(info) if info.isreg() else None
            if content is None or info.issparse():
                raise _bad("it is not a plain file", where)
            if found == 1:
                yield from _pieces(content)
    for _ in _pieces(file):  # up to the checksum, which comes last
        pass
    if found != 1:
        raise _bad(f"{found} members are called so", where)


class _Limit:
    """A file that cannot be read further than is honest."""

    def __init__(self, file: Any, packed: int, max_bytes: int | None, where: str):
        self.file, self.where, self.max_bytes, self.read_so_far = file, where, max_bytes, 0
        self.by_ratio = max(HARMLESS, MAX_RATIO * packed)

    def read(self, size: int) -> bytes:
        data: bytes = self.file.read(size)
        self.read_so_far += len(data)
        if self.max_bytes is not None and self.read_so_far > self.max_bytes:
            raise _too_large(self.max_bytes, self.where)
        if self.read_so_far > self.by_ratio:
            raise DataError(
                "GFM141",
                f"a file unpacks to more than {MAX_RATIO} times its size",
                where=self.where,
                why="so much of nothing is made to fill a disk",
                fix="get the file from another origin",
            )
        return data


def _pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(CHUNK):
        yield piece


def _capped(pieces: Iterator[bytes], max_bytes: int, where: str) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > max_bytes:
            raise _too_large(max_bytes, where)
        yield piece


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _check_name(name: str, where: str) -> None:
    """An honest archive holds no name that leaves its folder: one that does is not used at all."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or re.match("[A-Za-z]:", name):
        raise _bad(f"the archive holds {name!r}, which leaves its folder", where)


def _too_large(max_bytes: int, where: str) -> DataError:
    return DataError(
        "GFM141",
        f"an archive may unpack to {max_bytes:,} bytes, and has more",
        where=where,
        fix="if that is right, raise max_mb in the entry of the catalog",
    )


def _bad(reason: str, where: str) -> DataError:
    return DataError(
        "GFM142",
        f"a file cannot be taken out of its archive: {reason}",
        where=where,
        fix="run again to fetch the archive anew; if it stays so, get the file from elsewhere",
    )
