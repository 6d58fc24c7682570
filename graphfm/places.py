"""Places on a disk: streams, links, mount points, and what can be written."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_STREAM = re.compile(r"/dev/(stdout|stderr)|(?:/dev|/proc/self)/fd/(\d+)")


def is_write_error(error: Exception) -> bool:
    """Return true for a disk that is full or cannot be written, in Python or in safetensors."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError"


def reason_of(error: Exception) -> str:
    """Return the system's words for an error of writing."""
    return str(getattr(error, "strerror", None) or error)


def stream_number(path: Path) -> int | None:
    """Return the file descriptor of ``/dev/stdout`` or ``/dev/fd/63``; None for other paths."""
    found = _STREAM.fullmatch(str(path))
    if found is None:
        return None
    return int(found[2]) if found[2] else {"stdout": 1, "stderr": 2}[found[1]]


def send(file: Path, number: int) -> None:
    """Write the content of a file to an open file descriptor."""
    with file.open("rb") as source, os.fdopen(os.dup(number), "wb") as stream:
        shutil.copyfileobj(source, stream)


def try_writing(path: Path) -> None:
    """Make and remove a temporary file where a file or folder will be made.

    Raises:
        OSError: If that is not possible.
    """
    folder = path if is_fixed(path) else path.parent
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder):
        pass


def is_fixed(folder: Path) -> bool:
    """Return true for a folder that cannot be renamed.

    That is a mount point, a folder in one that cannot be written, and the current folder: a shell
    would stay in the old one.
    """
    if not folder.is_dir():
        return False
    with suppress(OSError):  # the current folder was removed
        if Path.cwd().samefile(folder):
            return True
    return folder.is_mount() or not os.access(folder.parent, os.W_OK)


def empty_folder(folder: Path, *, keep: Collection[str] = ()) -> None:
    """Remove what is in a folder, but not the folder: it may be a link or a mount point.

    Args:
        folder: The folder.
        keep: Names of entries to keep.
    """
    for path in folder.iterdir():
        if path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def fill(folder: Path, temporary: Path, before: Path) -> None:
    """Replace what is in a folder by what is in a temporary folder inside it.

    Args:
        folder: Folder to fill.
        temporary: Folder with the new content.
        before: Path inside the folder, for the old content. If a rename fails, it is moved back.
    """
    own = [path for path in folder.iterdir() if path != temporary]
    before.mkdir()
    moved: list[tuple[Path, Path]] = []
    try:
        for path in (*own, *temporary.iterdir()):
            place = (before if path in own else folder) / path.name
            os.replace(path, place)
            moved.append((path, place))
    except OSError:
        for path, place in reversed(moved):
            os.replace(place, path)
        raise


def exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; return false if one is missing or the system cannot."""
    swap, here = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, TypeError, AttributeError):
        return False
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), swap) == 0)
