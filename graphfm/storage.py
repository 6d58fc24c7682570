"""Files and folders: written whole or not at all, locked, cached and hashed.

A whole file or folder is first written beside its place as ``NAME.tmp-PID-...``, forced onto the
disk, and then renamed. A process that is killed leaves at most such a temporary one behind. A link
stays a link: what it points to is replaced. A folder that cannot be renamed, such as a mount point,
is filled from a temporary folder inside it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graphfm.errors import DataError, GraphFMError, OutputError
from graphfm.places import exchange, fill, is_fixed, is_write_error, reason_of, send, stream_number

if TYPE_CHECKING:
    from torch import Tensor  # at run time it would slow --help, which imports this file

HASHES = "sha256.json"  # hashes of the other files of a folder of the cache

log = logging.getLogger(__name__)

Content = TypeVar("Content")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; what is written there replaces ``path`` when the block succeeds.

    The temporary path has the same suffix. If the block raises, ``path`` stays as it was. The
    content of a stream such as ``/dev/stdout`` is written to it at the end.

    Raises:
        OutputError: GFM403 if the file cannot be written.
    """
    number = stream_number(path)
    try:
        with _replacement(path) if number is None else _streamed(path, number) as temporary:
            yield temporary
    except BrokenPipeError:
        raise  # the reader of a stream has ended
    except Exception as error:
        if not is_write_error(error):
            raise
        what = f"cannot write: {reason_of(error)}"
        raise OutputError("GFM403", what, where=str(path)) from error


@contextmanager
def _streamed(path: Path, number: int) -> Iterator[Path]:
    """Yield a temporary file whose content goes to an open file when the block succeeds."""
    with tempfile.TemporaryDirectory(prefix="graphfm-") as folder:
        temporary = Path(folder) / f"out{path.suffix}"
        temporary.touch()
        yield temporary
        send(temporary, number)


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; raises OSError, which the caller explains."""
    with _replacement(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON by :func:`replace_text`."""
    replace_text(path, json.dumps(content, indent=1, default=str) + "\n")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it replaces ``path`` when the block succeeds.

    If the block raises, ``path`` stays as it was. An OSError is left to the caller. On Linux a
    process that is killed leaves the old folder or the new one; elsewhere it can also be killed
    between the two renames, and then both lie beside ``path``.
    """
    path = path.resolve()
    fixed = is_fixed(path)
    temporary = _temporary(path / path.name if fixed else path)
    before = temporary.with_name(f"{temporary.name}-before")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for part in (*temporary.rglob("*"), temporary):
            _flush(part)
        if fixed:
            fill(path, temporary, before)
            _flush(path)
            return
        if exchange(temporary, path):
            _flush(path.parent)
            return
        with suppress(FileNotFoundError):
            os.replace(path, before)
        try:
            os.replace(temporary, path)
        except OSError:
            if before.exists():
                os.replace(before, path)
            raise
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


@contextmanager
def _replacement(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces ``path`` when the block succeeds."""
    path = path.resolve()
    temporary = _temporary(path)
    try:
        temporary.touch()  # a folder that cannot be written is found before the work
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Return a new path beside ``path``, with its suffix: writers choose a format by suffix.

    The process id alone does not do: two containers with one disk can have the same one.
    """
    return path.parent / f"{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}"


def _flush(path: Path) -> None:
    """Force a file or folder onto the disk: a rename is safe only after that."""
    if os.name == "nt" or path.is_symlink():
        return  # Windows opens no folder, and flushes no file that is open for reading
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """Return the folder of prepared data: ``GRAPHFM_HOME``, else the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("GRAPHFM_HOME") or user_cache_dir("graphfm"))


def from_cache(
    folder: Path,
    *,
    read: Callable[[Path], Content],
    make: Callable[[], Content],
    write: Callable[[Content, Path], None],
    name: str,
) -> Content:
    """Read a folder of the cache; make and write it if it is missing or damaged.

    If several processes want the same folder, one makes it and the others wait.

    Args:
        folder: The folder; its name is also the name of the lock.
        read: Read the content from the folder.
        make: Make the content.
        write: Write the content to the folder.
        name: Name of the content, for messages.

    Raises:
        OutputError: GFM403 if the cache cannot be written.
    """
    found = _read(folder, read)  # no message: the second look, under the lock, gives it
    if found is not None:
        return found
    with cache_lock(folder.name, wait=True, what=name):
        found = _read(folder, read, name)  # another process may have made it meanwhile
        if found is None:
            found = make()
            with cache_errors(folder.parent):
                write(found, folder)
    return found


def _read(folder: Path, read: Callable[[Path], Content], name: str = "") -> Content | None:
    if not folder.is_dir():
        return None
    try:
        return read(folder)
    except Exception as error:  # no damage of a cache is fatal: it can be made again
        reason = error.what if isinstance(error, GraphFMError) else error
        if name:
            log.warning("%s: the cache is damaged and is made again: %s", name, reason)
        return None


def write_folder(
    folder: Path, stem: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> None:
    """Write ``stem.safetensors`` and ``stem.json`` to a folder that is whole or not there."""
    from safetensors.torch import save_file

    with whole_folder(folder) as temporary:
        save_file(
            {k: v.contiguous() for k, v in tensors.items()}, temporary / f"{stem}.safetensors"
        )
        (temporary / f"{stem}.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        hashes = {path.name: file_sha256(path) for path in sorted(temporary.iterdir())}
        (temporary / HASHES).write_text(json.dumps(hashes, indent=1), encoding="utf-8")


def read_folder(folder: Path, stem: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the config that :func:`write_folder` wrote, after a check of both.

    Raises:
        DataError: GFM139 for a file that differs from what was written, or a folder of an
            earlier version, which has no hashes.
    """
    from safetensors.torch import load_file

    path = folder / HASHES
    hashes = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in (f"{stem}.safetensors", f"{stem}.json"):
        if hashes.get(name) != file_sha256(folder / name):
            what = "is not what was written" if hashes else "has no hash: an older version wrote it"
            raise DataError("GFM139", f"{name} {what}", where=str(folder))
    config = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
    return load_file(folder / f"{stem}.safetensors"), config


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Turn an error of writing into GFM403: the cache cannot be written."""
    try:
        yield
    except Exception as error:
        if not is_write_error(error):
            raise
        raise OutputError(
            "GFM403",
            f"the cache cannot be written: {reason_of(error)}",
            where=str(getattr(error, "filename", None) or folder),
            fix="make room, or set GRAPHFM_HOME to a folder that can be written",
        ) from error


@contextmanager
def cache_lock(key: str, *, wait: bool, what: str) -> Iterator[None]:
    """Hold a lock of the cache, so that one process at a time runs the block.

    Args:
        key: Name of the lock: the stem of a file name.
        wait: Wait for the process that holds the lock, and log its id; if false, raise.
        what: The thing that is locked, for messages.

    Raises:
        OutputError: GFM403 if the cache cannot be written, GFM802 if another process holds the
            lock and ``wait`` is false.
    """
    path = cache_folder() / "locks" / f"{key}.lock"
    with cache_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with file_lock(path, wait=wait, what=what):
        yield


@contextmanager
def file_lock(path: Path, *, wait: bool, what: str) -> Iterator[None]:
    """Hold a lock file at any place; the arguments are those of :func:`cache_lock`.

    The system frees the lock when its process ends, however that happens.
    """
    from filelock import FileLock, Timeout

    lock, holder = FileLock(path), path.with_suffix(".json")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = _read_holder(holder)
        if not wait:
            raise OutputError(
                "GFM802", "another process writes to it", where=what, why=who,
                fix="wait for it, stop it, or choose another --out",
            ) from None  # fmt: skip
        log.info("%s: waiting for %s, which makes the same", what, who)
        lock.acquire()
    try:
        _write_holder(holder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _write_holder(path: Path) -> None:
    """Write this process' id beside its lock: another process that asks empties the lock file."""
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
    with suppress(OSError):  # only a message needs it; a full disk is reported by what matters
        write_json(path, who)


def _read_holder(path: Path) -> str:
    """Describe the holder of a lock: ``process 17 on the host ant, since ...``."""
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError):
        return "an unknown process"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_offline() -> bool:
    """Return true if nothing may be downloaded: ``--offline`` or ``GRAPHFM_OFFLINE``."""
    return os.environ.get("GRAPHFM_OFFLINE", "").lower() not in {"", "0", "false", "no"}
