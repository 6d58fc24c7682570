"""Fetching of raw files into the cache's data folder, checked by their sha256.

A hash is shipped with the package (``datasets/sha256.txt``), or recorded when a file is first
fetched (``raw.sha256`` beside the data folder) and checked from then on.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath

from graphfm.config.load import shipped
from graphfm.errors import DataError, GraphFMError, OfflineError
from graphfm.graphs.catalog.archives import unpacked
from graphfm.graphs.catalog.download import Download
from graphfm.graphs.catalog.source import WHOLE, RawFile
from graphfm.storage import cache_errors, file_lock, file_sha256, is_offline, replace_text

log = logging.getLogger(__name__)

MB = 1_000_000
KEPT_MB = 1000
"""Largest archive that is kept: 96 entries read that of Facebook100; larger ones have one entry."""


@cache
def known_hashes() -> dict[str, str]:
    """Return the sha256 hashes shipped with the package, by path below the data folder."""
    return _read_hashes(shipped("datasets") / "sha256.txt")


def locked_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 hashes that were recorded when files below a folder were first fetched."""
    return _read_hashes(_lock_file(folder))


def verify_hash(relative: str, actual: str, *, where: Path) -> None:
    """Compare the hash of a raw file with the known one, if there is one.

    Args:
        relative: Path of the file below its data folder.
        actual: Its sha256.
        where: The file. The ``raw.sha256`` beside its data folder is read too.

    Raises:
        DataError: GFM140 with the expected and the actual hash.
    """
    folder = where.parents[len(PurePosixPath(relative).parts) - 1]
    _check(relative, actual, folder, where=str(where))


def fetch(files: Sequence[RawFile], folder: Path, *, offline: bool | None = None) -> None:
    """Fetch the raw files that are missing below a folder.

    The folder receives complete files with the right hash only. Unfinished downloads, and archives
    that other entries read, lie in ``downloads`` beside it, which can be deleted at any time.

    Args:
        files: The files.
        folder: The cache's data folder.
        offline: Raise instead of fetching. Default: true if GRAPHFM_OFFLINE is set.

    Raises:
        OfflineError: GFM401 if a file cannot be fetched, with how to get it by hand.
        DataError: GFM140 for a file with another hash, GFM141 for a file above its limit, GFM142
            for an archive that cannot be read.
        OutputError: GFM403 if the cache cannot be written.
    """
    if offline is None:
        offline = is_offline()
    wanted: dict[str, list[RawFile]] = {}  # by address: each archive is fetched once
    with cache_errors(folder):
        for file in dict.fromkeys(files):
            if not _lies_there(file, folder, keep=offline):
                wanted.setdefault(file.url, []).append(file)
        if wanted and offline:
            raise _offline([file for group in wanted.values() for file in group], folder)
        for url, group in wanted.items():
            with _lock(folder, _name(url)):  # another process may have been faster
                if group := [file for file in group if not _lies_there(file, folder)]:
                    _fetch_address(url, group, folder)


def _fetch_address(url: str, files: list[RawFile], folder: Path) -> None:
    """Fetch one address and check all its files, then move them to the folder."""
    import pooch

    # pooch logs an advice to write the hash into the code.
    pooch.get_logger().setLevel(logging.WARNING)
    downloads = _made(folder.parent / "downloads")
    name = _name(url)
    only = files[0] if not files[0].member else None
    known = _expected(only.path, folder) if only else None
    download = Download(
        downloads / f"{name}.part",
        title=PurePosixPath(only.path).name if only else name.partition("-")[2],
        max_bytes=int(max(file.max_mb for file in files) * MB),
        # A known hash, or the end of an archive, shows that a download is complete.
        must_be_whole=only is not None and known is None,
        by_hand=_by_hand(files, folder),
    )
    try:
        got = Path(pooch.retrieve(url, known, name, downloads, downloader=download))
    except GraphFMError:
        raise
    except ValueError:  # pooch found another hash, which its error does not hold
        assert only
        _check(only.path, download.sha256, folder, where=url)
        raise
    with tempfile.TemporaryDirectory(prefix=".out-", dir=downloads) as out:
        ready = []
        try:
            for number, file in enumerate(files):
                path = _take_out(got, file, Path(out, str(number))) if file.member else got
                actual = file_sha256(path)
                _check(file.path, actual, folder, where=f"{url} {file.member}".strip())
                ready.append((path, file, actual))
        except DataError:
            got.unlink()  # so that a damaged archive is fetched again
            raise
        _record({file.path: actual for _, file, actual in ready}, folder)
        for path, file, _ in ready:
            target = folder / file.path
            _made(target.parent)
            os.replace(path, target)
    if not only and got.stat().st_size > KEPT_MB * MB:
        got.unlink()


def _take_out(archive: Path, file: RawFile, path: Path) -> Path:
    """Write a file of an archive to a path."""
    pieces = unpacked(archive, file.member, max_bytes=int(file.max_mb * MB), where=file.url)
    with path.open("wb") as out:
        out.writelines(pieces)
    return path


def _lies_there(file: RawFile, folder: Path, *, keep: bool = False) -> bool:
    """Return true if a file is there with the right hash, or with no known hash.

    Args:
        file: The file.
        folder: The data folder.
        keep: Raise GFM140 for a file with another hash; if false, return false, and it is fetched
            again.
    """
    path = PurePosixPath(file.path)
    if path.is_absolute() or ".." in path.parts:
        what = f"{file.path!r} lies outside the data folder"
        raise DataError("GFM142", what, where=file.url, fix="correct the entry of the catalog")
    target = folder / path
    if not target.is_file():
        return False
    actual = file_sha256(target)
    try:
        _check(file.path, actual, folder, where=str(target))
    except DataError as error:
        if keep:
            raise
        log.warning("fetched again: %s", error)
        return False
    if _expected(file.path, folder) is None:  # placed by hand
        _record({file.path: actual}, folder)
    return True


def _expected(relative: str, folder: Path) -> str | None:
    """Return the known hash of a file."""
    return known_hashes().get(relative) or locked_hashes(folder).get(relative)


def _check(relative: str, actual: str, folder: Path, *, where: str) -> None:
    """Raise GFM140 if a file has another hash than the known one."""
    expected = _expected(relative, folder)
    if expected in (None, actual):
        return
    is_shipped = relative in known_hashes()
    source = "datasets/sha256.txt" if is_shipped else str(_lock_file(folder))
    raise DataError(
        "GFM140",
        f"{relative} has another hash: expected sha256 {expected}, got {actual}",
        where=where,
        why=f"{source} has the expected one; the file is damaged, was altered, or is a new version",
        fix="remove it or fetch it again"
        + ("" if is_shipped else f"; to use the new version, remove its line from {source}"),
    )


def _record(hashes: dict[str, str], folder: Path) -> None:
    """Add hashes to the lock file, except shipped ones; recorded hashes stay."""
    new = {path: value for path, value in hashes.items() if path not in known_hashes()}
    if not new:
        return
    lock_file = _lock_file(folder)
    with _lock(folder, lock_file.name):
        lines = sorted((new | locked_hashes(folder)).items())
        replace_text(lock_file, "".join(f"{value}  {path}\n" for path, value in lines))


def _read_hashes(path: Path) -> dict[str, str]:
    """Read hashes by path from the output of ``sha256sum``; other lines are skipped."""
    if not path.is_file():
        return {}
    lines = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {pair[1]: pair[0] for pair in lines if len(pair) == 2}


def _lock_file(folder: Path) -> Path:
    """Return the file of recorded hashes of a data folder."""
    return folder.parent / "raw.sha256"


def _name(url: str) -> str:
    """Return a file name for an address: a hash, since last parts repeat, and its last part."""
    last = re.sub(r"[^A-Za-z0-9._-]", "_", url.rpartition("/")[2])[-60:]
    return f"{sha256(url.encode()).hexdigest()[:12]}-{last}"


def _by_hand(files: list[RawFile], folder: Path) -> str:
    """Describe how to get files without fetching."""
    file, more = files[0], len(files) - 1
    part = {"": "it", WHOLE: "its content"}.get(file.member, f"its {file.member}")
    rest = f", and {more} more files in the same way" if more else ""
    return f"get {file.url} by hand and put {part} at {folder / file.path}{rest}"


def _offline(files: list[RawFile], folder: Path) -> OfflineError:
    """Return the error for files that would have to be fetched."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return OfflineError(
        "GFM401",
        f"{files[0].path}{more} would have to be fetched, but --offline is set",
        where=files[0].url,
        fix=f"run without --offline (GRAPHFM_OFFLINE), or {_by_hand(files, folder)}",
    )


def _made(folder: Path) -> Path:
    """Return a folder, made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lock(folder: Path, name: str) -> AbstractContextManager[None]:
    """Hold the lock of an address or a file, so that one process at a time fetches it."""
    return file_lock(_made(folder.parent / "locks") / f"{name}.lock", wait=True, what=name)
