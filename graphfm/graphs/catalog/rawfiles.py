"""Checks of raw files before another library's parser opens them.

Some public datasets are pickles (Planetoid), and opening a pickle runs code that it holds. So the
opcodes are read without running them, and a pickle that names anything but numpy, scipy and plain
containers is refused.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np

from graphfm.errors import DataError, OfflineError

PLAIN = frozenset({".txt", ".csv", ".tsv", ".edgelist", ".mat", ".index", ".json", ".md"})
"""Suffixes of files of text or numbers, which cannot run code."""

ALLOWED = frozenset(
    {
        "__builtin__ list",
        "_codecs encode",  # how Python 3 writes bytes in protocol 2
        "__builtin__ object",
        "builtins list",
        "collections defaultdict",
        "copy_reg _reconstructor",
        "numpy dtype",
        "numpy ndarray",
        "numpy.core.multiarray _reconstruct",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray _reconstruct",
        "numpy._core.multiarray scalar",
        "scipy.sparse.csr csr_matrix",
        "scipy.sparse._csr csr_matrix",
    }
)
"""Names that a pickled raw file may hold: they build arrays and containers, nothing else."""

# These opcodes take their name from a registry, so it cannot be checked.
HIDDEN = frozenset({"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"})
TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"})


def here(paths: Sequence[Path], *, what: str = "") -> list[Path]:
    """Return the raw files of a source after a check that all exist.

    Args:
        paths: The files.
        what: Description of their folder for the error.

    Raises:
        OfflineError: GFM401 with the missing files.
    """
    gone = [str(path) for path in paths if not path.is_file()]
    if gone:
        raise missing(", ".join(gone), what=what)
    return list(paths)


def missing(where: str, *, what: str = "") -> OfflineError:
    """Return the error for missing raw files; the arguments are those of :func:`here`."""
    return OfflineError(
        "GFM401",
        "raw files are missing, and no address to fetch them from is known",
        where=where,
        fix="set GRAPHFM_DATA to the folder that holds them" + (what and f": {what}"),
    )


def check_raw(path: Path) -> None:
    """Refuse a raw file that could run code when it is read.

    Raises:
        DataError: GFM138 for such a file, and for a file of an unknown kind.
    """
    if path.suffix in PLAIN:
        return
    try:
        if path.suffix == ".yaml":  # a tag can build any object
            bad = ["a YAML tag"] if b"!" in path.read_bytes() else []
        elif path.suffix in {".npz", ".npy"} or _is_npy(path):
            bad = _object_arrays(path)
        else:
            bad = foreign_names(path)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        bad = [str(error)]
    if bad:
        raise DataError(
            "GFM138",
            f"a raw file may hold arrays and plain containers only, got {', '.join(bad[:3])}",
            where=str(path),
            why="reading it could run code, or it is damaged",
            fix="fetch the file again from its origin, or convert it to .npz",
        )


def _is_npy(path: Path) -> bool:
    """Return true for a numpy array; some datasets (MixHop) save arrays without the suffix."""
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def foreign_names(path: Path, allowed: Set[str] = ALLOWED) -> list[str]:
    """Return the names in a pickle that are not allowed; nothing of it runs.

    Newer pickles push module and name as texts before they look them up. Such a lookup is resolved
    only if both texts were pushed directly before it; else it counts as not allowed.

    Args:
        path: The file.
        allowed: Allowed names, each as ``module name``.
    """
    bad: set[str] = set()
    memo: dict[int, str | None] = {}
    last: tuple[str | None, str | None] = None, None  # the two newest texts on the stack
    for code, argument, _ in pickletools.genops(path.read_bytes()):
        if code.name == "MEMOIZE":
            memo[len(memo)] = last[1]
        elif code.name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            memo[int(str(argument))] = last[1]
        elif code.name in TEXTS:
            last = last[1], str(argument)
        elif code.name in {"GET", "BINGET", "LONG_BINGET"}:
            last = last[1], memo.get(int(str(argument)))
        elif code.name != "FRAME":
            name = str(argument)
            if code.name == "STACK_GLOBAL":
                name = code.name if None in last else f"{last[0]} {last[1]}"
            if code.name in {"GLOBAL", "INST", "STACK_GLOBAL"} and name not in allowed:
                bad.add(name)
            elif code.name in HIDDEN:
                bad.add(code.name)
            last = None, None
    return sorted(bad)


def _object_arrays(path: Path) -> list[str]:
    """Return the arrays of a file that hold Python objects, which are pickles."""
    if path.suffix != ".npz":
        return [path.name] if np.load(path, mmap_mode="r").dtype.hasobject else []
    bad = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    read = np.lib.format.read_array_header_2_0
                if read(file)[2].hasobject:
                    bad.append(member)
    return bad
