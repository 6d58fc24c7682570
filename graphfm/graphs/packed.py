"""Bound on how much a packed file unpacks to."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from pathlib import Path

from graphfm.errors import DataError

MAX_RATIO = 1000
"""Largest ratio of unpacked to packed bytes. Deflate reaches 1032; our files reach 582."""
HARMLESS = 1_000_000
"""Number of bytes below which the ratio is not checked: a small file can repeat one line."""
PIECE = 1 << 20
VARIABLE = "GRAPHFM_MAX_RATIO"


def check_packed(path: Path) -> None:
    """Refuse a gzip or zip file that unpacks to far more than its size, before it is read.

    A gzip file is unpacked once for that, without keeping the content: half a second for 100 MB. A
    damaged file is left to its reader.

    Args:
        path: The file. One that is not packed passes.

    Raises:
        DataError: GFM141 if it is above the ratio.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    limit = max(HARMLESS, _max_ratio() * path.stat().st_size)
    try:
        if magic[:2] == b"\x1f\x8b":
            size = 0
            with gzip.open(path) as content:
                while size <= limit and (piece := content.read(PIECE)):
                    size += len(piece)
        elif magic == b"PK\x03\x04":
            with zipfile.ZipFile(path) as archive:
                size = sum(info.file_size for info in archive.infolist())
        else:
            return
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile):
        return
    if size > limit:
        raise DataError(
            "GFM141",
            f"a file unpacks to more than {_max_ratio()} times its packed size",
            where=str(path),
            why="a ratio this high is a sign of a file made to fill the memory",
            fix=f"if the file is right, set the environment variable {VARIABLE} to a higher ratio",
        )


def _max_ratio() -> int:
    """Return the largest ratio: that of the environment variable, or :data:`MAX_RATIO`.

    Raises:
        DataError: GFM141 if the variable is not a whole number above 0.
    """
    text = os.environ.get(VARIABLE, str(MAX_RATIO))
    if not text.isdecimal() or int(text) == 0:
        raise DataError(
            "GFM141",
            f"{VARIABLE} must be a whole number above 0, got {text[:80]!r}",
            where=VARIABLE,
        )
    return int(text)
