"""TODO: graphfm/storage.py, from graphfm/checkpoint/folder.py."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from platformdirs import user_cache_dir

from graphfm.errors import OutputError

if TYPE_CHECKING:
    import torch  # the command line imports this file, and --help imports no torch


def replace_text(path: Path, text: str) -> None:
    """Write a file that is there whole, the old one or the new one, whenever the power fails."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        _flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Readable JSON, one line at the end."""
    replace_text(path, json.dumps(content, indent=1, default=str) + "\n")


def _flush(path: Path) -> None:
    """Force a file or folder onto the disk: a rename is only safe after that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


log = logging.getLogger(__name__)


Content = TypeVar("Content")


def cache_folder() -> Path:
    """Where prepared data lies: ``GRAPHFM_HOME``, or the user's cache folder."""
    return Path(os.environ.get("GRAPHFM_HOME") or user_cache_dir("graphfm"))


def from_cache(
    folder: Path,
    *,
    read: Callable[[Path], Content],
    make: Callable[[], Content],
    write: Callable[[Content, Path], None],
    name: str,
) -> Content:
    """What lies in a folder of the cache; made and written if it is not there or damaged.

    Of several processes that want the same folder one makes it, and the others wait for it.

    Raises:
        OutputError: GFM403 if the cache cannot be written.
    """
    found = _read(folder, read, name)
    if found is not None:
        return found
    with alone(folder.name, wait=True, what=name):
        found = _read(folder, read, name)  # another process may have made it meanwhile
        if found is None:
            found = make()
            with writing(folder.parent):
                shutil.rmtree(folder, ignore_errors=True)
                write(found, folder)
    return found


@contextmanager
def alone(key: str, *, wait: bool, what: str) -> Iterator[None]:
    """One process at a time; the lock lies in the cache and is freed if its process is killed.

    Args:
        key: What is locked: part of a file name.
        wait: For whoever holds it, whom a line names; else that is an error.
        what: That it is about, for the message.

    Raises:
        OutputError: GFM403 if the cache cannot be written, GFM802 where another process holds it.
    """
    path = cache_folder() / "locks" / f"{key}.lock"
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with locked(path, wait=wait, what=what):
        yield


@contextmanager
def locked(path: Path, *, wait: bool, what: str) -> Iterator[None]:
    """:func:`alone` by a lock file of any place."""
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
    """Who holds a lock, beside it: the lock itself is emptied by whoever asks for it.

    It serves a message, so a disk that cannot take it is left to say so of what matters.
    """
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
    half = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        half.write_text(json.dumps(who), encoding="utf-8")
        os.replace(half, path)
    except OSError:
        half.unlink(missing_ok=True)


def _read_holder(path: Path) -> str:
    """``process 17 on the host ant, since ...``, as far as it has been said."""
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError):
        return "a process that has not said who it is"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say of whatever the system refuses that the cache cannot be written: GFM403."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            "GFM403",
            f"the cache cannot be written: {error.strerror or error}",
            where=str(error.filename or folder),
            fix="make room, or set GRAPHFM_HOME to a folder that can be written",
        ) from error


def _read(folder: Path, read: Callable[[Path], Content], name: str) -> Content | None:
    if not folder.is_dir():
        return None
    try:
        return read(folder)
    except Exception as error:  # whatever is wrong with a cache, it can be made again
        log.warning("%s: the cache is damaged and is made again: %s", name, error)
        return None


def write_folder(
    folder: Path, stem: str, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any]
) -> None:
    """Write ``stem.safetensors`` and ``stem.json`` beside the folder, then rename it into place."""
    from safetensors.torch import save_file

    folder.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{folder.name[:8]}-", dir=folder.parent))
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, half / f"{stem}.safetensors")
        (half / f"{stem}.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        try:
            os.replace(half, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(half, ignore_errors=True)


def read_folder(folder: Path, stem: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`write_folder` wrote."""
    from safetensors.torch import load_file

    config = json.loads((folder / f"{stem}.json").read_text(encoding="utf-8"))
    return load_file(folder / f"{stem}.safetensors"), config


def file_sha256(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_offline() -> bool:
    """Whether the user has said that nothing may be fetched: ``--offline``, GRAPHFM_OFFLINE."""
    return os.environ.get("GRAPHFM_OFFLINE", "").lower() not in {"", "0", "false", "no"}


@contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """A path to write to that takes the place of ``out`` when all is written, and only then."""
    try:
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=out.suffix)
    except OSError as error:
        raise OutputError("GFM403", f"cannot write: {error.strerror}", where=str(out)) from None
    os.close(handle)
    try:
        yield Path(name)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp gives 0600; a result is as readable as any file
        os.replace(name, out)
    finally:
        Path(name).unlink(missing_ok=True)
