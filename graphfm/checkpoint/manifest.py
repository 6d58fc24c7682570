"""Manifest of a checkpoint folder: which files belong to it, and the sha256 of each.

Only files that the manifest lists are ever read, and only those are replaced when a model is saved
into the folder again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from graphfm.errors import CheckpointError, OutputError
from graphfm.storage import file_sha256, whole_folder, write_json

MANIFEST = "manifest.json"
UNLISTED = frozenset({MANIFEST, "split.json", "metrics.jsonl"})
"""Files of ours that a manifest does not list; split.json only in folders of format 1."""


def is_inside(name: str) -> bool:
    """Return true if a name in a manifest stays inside its folder.

    >>> is_inside("sharded/__0_0.distcp"), is_inside("../config.json"), is_inside("/etc/passwd")
    (True, False, False)
    """
    parts = PurePosixPath(name).parts
    is_plain = bool(parts) and "\\" not in name and "\0" not in name
    return is_plain and ".." not in parts and not PureWindowsPath(name).anchor


def write_manifest(folder: Path) -> None:
    """List every file of a folder in its manifest, with sha256 and size."""
    entries = {
        path.relative_to(folder).as_posix(): {
            "sha256": file_sha256(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    write_json(folder / MANIFEST, entries)


def list_file(folder: Path, name: str) -> None:
    """Add a file that was written later to the manifest, if the folder has one."""
    path = folder / MANIFEST
    if path.is_file():
        entry = {"sha256": file_sha256(folder / name), "bytes": (folder / name).stat().st_size}
        write_json(path, {**read_json(path), name: entry})


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the sha256 of each listed file by name, without a look at the files.

    Raises:
        CheckpointError: GFM302 if the manifest cannot be read, or names files outside the folder.
    """
    path = folder / MANIFEST
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not manifest.keys() >= {"config.json", "specs.json"}:
        raise CheckpointError("GFM302", "the file is not a manifest", where=str(path))
    outside = [name for name in manifest if not is_inside(name)]
    if outside:
        raise CheckpointError(
            "GFM302",
            f"the manifest names {outside[0]!r}, which is not inside the folder",
            where=str(path),
            fix="get the folder again from where it came; graphfm never writes such a name",
        )
    return {
        name: str(entry.get("sha256")) if isinstance(entry, dict) else "none"
        for name, entry in manifest.items()
    }


def verify_files(folder: Path) -> frozenset[str]:
    """Compare every listed file with its sha256, and return the names of the files.

    Raises:
        CheckpointError: GFM302 for a file that is missing, truncated or changed.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.items():
        path = folder / name
        found = file_sha256(path) if path.is_file() else "no file"
        if found != expected:
            raise CheckpointError(
                "GFM302",
                f"{name} is damaged: expected sha256 {expected[:16]}…, got {found[:16]}…",
                where=str(path),
                fix="copy the folder again, or use another checkpoint",
            )
    return frozenset(manifest)


def read_json(path: Path) -> Any:
    """Read a JSON file of a checkpoint.

    Raises:
        CheckpointError: GFM302 if it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            "GFM302", f"the file cannot be read: {error}", where=str(path)
        ) from None


@contextmanager
def replaced_model(folder: Path, *, keep_others: bool) -> Iterator[Path]:
    """Yield an empty folder; what is written there replaces the model in ``folder``.

    Files of ``folder`` that do not belong to the model stay as they are.

    Args:
        folder: New or empty folder, or one that holds a model.
        keep_others: False replaces the folder as a whole, whatever it holds.

    Raises:
        OutputError: GFM402 if the folder holds files, but no model; nothing is changed.
    """
    folder = folder.resolve()  # a link stays a link, and "." has a name
    others = _other_files(folder) if keep_others else []
    with whole_folder(folder) as temporary:
        yield temporary
        write_manifest(temporary)
        for name in others:
            _keep(folder / name, temporary / name)


def _other_files(folder: Path) -> list[PurePosixPath]:
    """Return the files and empty folders in a folder that do not belong to its model."""
    if not os.path.lexists(folder):
        return []
    if not folder.is_dir():
        raise OutputError("GFM402", "a model needs a folder, but this is a file", where=str(folder))
    found = [path for path in sorted(folder.rglob("*")) if _is_leaf(path)]
    if not found:
        return []
    try:
        own: Mapping[str, str] = read_manifest(folder)
    except CheckpointError:
        raise OutputError(
            "GFM402",
            f"the folder holds files that are not a model, such as {found[0].name!r}",
            where=str(folder),
            fix="choose a new or an empty folder; nothing was changed",
        ) from None
    names = [PurePosixPath(path.relative_to(folder).as_posix()) for path in found]
    return [name for name in names if str(name) not in own and str(name) not in UNLISTED]


def _is_leaf(path: Path) -> bool:
    """Return true for anything but a folder that holds something."""
    return path.is_symlink() or not path.is_dir() or not any(path.iterdir())


def _keep(path: Path, copy: Path) -> None:
    """Make a file or an empty folder appear at a second place."""
    if os.path.lexists(copy) or not (path.is_symlink() or path.is_file() or path.is_dir()):
        raise OutputError(
            "GFM402",
            "the folder holds a file that graphfm did not write and cannot keep",
            where=str(path),
            fix="move it, or choose another folder; nothing was changed",
        )
    if path.is_dir() and not path.is_symlink():
        copy.mkdir(parents=True, exist_ok=True)
        return
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, copy, follow_symlinks=False)
    except OSError:  # a disk without links, or a file of another user
        shutil.copy2(path, copy, follow_symlinks=False)
