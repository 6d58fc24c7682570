"""Reading of one file from an archive, as a stream.

An archive is untrusted: its paths are never used as places to write to, and no more than a limit
is unpacked.
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
from graphfm.graphs.packed import HARMLESS, MAX_RATIO

CHUNK = 1 << 16


def unpacked(archive: Path, member: str, *, max_bytes: int, where: str = "") -> Iterator[bytes]:
    """Yield the content of one file of an archive, in pieces.

    The first bytes decide the format, because an address like ``download?id=7`` has no suffix.

    Args:
        archive: A ``.zip``, a ``.tar.gz`` or a ``.gz`` file.
        member: Name of the file in the archive; ``*`` for a ``.gz``, which holds one file.
        max_bytes: Limit on the unpacked size. In a ``.tar.gz`` all files count, because all have to
            be unpacked.
        where: Name of the archive in an error. Default: its path.

    Raises:
        DataError: GFM141 for a file above a limit on its size or its ratio; GFM142 for an archive
            that is damaged, lacks the file, has a link in its place, or names files outside its
            folder.
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
            raise _bad(f"the archive has {len(found)} files of this name, not one", where)
        (info,) = found
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir() or kind not in (0, stat.S_IFREG):
            raise _bad("it is not a plain file", where)
        # Other methods unpack a whole block at once, of any size.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _bad(f"its compression method {info.compress_type} is not supported", where)
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
    for _ in _pieces(file):  # read to the end, where the checksum is
        pass
    if found != 1:
        raise _bad(f"the archive has {found} files of this name, not one", where)


class _Limit:
    """A file that raises GFM141 when more is read than the limits allow."""

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
                f"a file unpacks to more than {MAX_RATIO} times its packed size",
                where=self.where,
                why="a ratio this high is a sign of an archive made to fill the disk",
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
    """Refuse an archive with a name that leaves its folder."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or re.match("[A-Za-z]:", name):
        raise _bad(f"the archive holds {name!r}, which leaves its folder", where)


def _too_large(max_bytes: int, where: str) -> DataError:
    return DataError(
        "GFM141",
        f"an archive unpacks to more than the limit of {max_bytes:,} bytes",
        where=where,
        fix="if the size is right, raise max_mb in the entry of the catalog",
    )


def _bad(reason: str, where: str) -> DataError:
    return DataError(
        "GFM142",
        f"a file cannot be read from its archive: {reason}",
        where=where,
        fix="run again to fetch the archive again; if it fails again, get the file from elsewhere",
    )
