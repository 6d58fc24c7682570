"""Labels and splits from the text columns of a node table.

Shapes:
    N  nodes   C  classes or labels
"""

from __future__ import annotations

import difflib
import fnmatch
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphfm.errors import FEW, DataError
from graphfm.graphs.classes import dtype_of_names
from graphfm.graphs.readers.cells import MARKS, numbers_in_text
from graphfm.graphs.readers.tables import MISSING, TableFile
from graphfm.graphs.spec import Task

log = logging.getLogger(__name__)

MANY = 50  # whole numbers from which a target is more likely a number than a class
UNLABELLED = "-1"  # "no label" in the files of graph libraries
SPLIT = "split"
PARTS = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}
PARTS |= {part: part for part in ("train", "val", "test")}
MASK_COLUMNS = {f"{part}_mask": part for part in ("train", "val", "test")}


def target_columns(target: str, names: Sequence[str], where: str) -> list[str]:
    """Return the columns that ``--target`` names.

    Args:
        target: Name of a column, names separated by commas, or a pattern with ``*``.
        names: Names of all columns.
        where: Path of the file, for messages.

    Raises:
        DataError: GFM104 for a name that is not a column.
    """
    if target in names:
        return [target]
    found: list[str] = []
    for part in (part.strip() for part in target.split(",")):
        hits = [n for n in names if fnmatch.fnmatchcase(n, part)] if "*" in part else [part]
        if not hits or hits[0] not in names:
            raise no_column("GFM104", part, names, where)
        found += [name for name in hits if name not in found]
    return found


def feature_columns(asked: str | None, names: Sequence[str], where: str) -> list[str]:
    """Return the columns that ``--features`` names; a name or pattern after ``!`` is left out.

    Args:
        asked: Names and patterns separated by commas, or ``none``. Default: all.
        names: Names of the columns that may become features.
        where: Path of the file, for messages.

    Raises:
        DataError: GFM104 for a name that is not a column.
    """
    if asked is None:
        return list(names)
    if asked == "none":
        return []
    if asked in names:
        return [asked]
    parts = [part.strip() for part in asked.split(",")]
    wanted = [part for part in parts if not part.startswith("!")]
    gone = [part[1:] for part in parts if part.startswith("!")]
    found = list(names)
    if wanted:
        found = [] if wanted == ["none"] else target_columns(",".join(wanted), names, where)
    dropped = target_columns(",".join(gone), names, where) if gone else []
    return [name for name in found if name not in dropped]


def no_column(code: str, name: str, names: Sequence[str], where: str) -> DataError:
    """Return the error for a missing column, with the name that was probably meant."""
    near = difflib.get_close_matches(name, names, n=1) or [
        other for other in names if other.casefold() == name.casefold()
    ]
    return DataError(
        code,
        f"there is no column {name!r}" + (f". Did you mean {near[0]!r}?" if near else ""),
        where=where,
        why=f"the columns are {', '.join(names[:20])}" + (", ..." if len(names) > 20 else ""),
    )


def read_labels(
    table: TableFile, columns: dict[str, Any], *, task: Task = "auto"
) -> dict[str, Any]:
    """Return the labels in one column of classes or numbers, or in several columns of 0 and 1.

    An empty cell, ``NA`` and the like, and ``-1`` mean unlabelled. Classes are sorted
    as numbers if all are numbers, else as text.

    Args:
        table: The table, for messages.
        columns: Text of the columns, (N,) each, by name.
        task: Kind of the labels: ``regress`` = numbers, ``classify`` = classes, ``auto`` = numbers
            if they have fractions.

    Returns:
        The fields of :class:`Graph` for labels: ``y``, (N,) int64 or (N, C) int8, -1 = unlabelled,
        or (N,) float64, NaN = unlabelled; ``class_names`` and ``class_dtype``.

    Raises:
        DataError: GFM118 for fractions that cannot be classes, or text that is not a number.
    """
    if len(columns) > 1:
        found, names = _multilabel(table, columns)
        return {"y": found, "class_names": names}
    from pyarrow import compute as pc

    name, values = next(iter(columns.items()))
    values, num_missing = _known(values)
    if task == "regress":
        plain = numbers_in_text(table, name, values)
        if plain is not None and _has_commas_or_marks(values):
            values, num_missing = plain, int(plain.null_count)
        return {"y": _numbers(table, name, values, num_missing)}
    classes = [str(v) for v in values.unique().drop_null().to_pylist()]
    plain = None if task == "classify" else numbers_in_text(table, name, values)
    if plain is not None and not plain.equals(values):
        values, num_missing = plain, int(plain.null_count)
        classes = [str(v) for v in values.unique().drop_null().to_pylist()]
    numbers = [_number(c) for c in classes]
    if classes and all(number is not None for number in numbers):
        broken = [c for c, n in zip(classes, numbers, strict=True) if n is not None and n != n // 1]
        if broken and task == "auto":
            log.info("%s: %r holds fractions such as %s: a continuous target", table.path.name,
                     name, ", ".join(broken[:3]))  # fmt: skip
            return {"y": _numbers(table, name, values, num_missing)}
        if broken:
            rows = np.flatnonzero(pc.equal(values, broken[0]).to_numpy(zero_copy_only=False))[:3]
            raise DataError(
                "GFM118",
                f"{name!r} holds fractions such as {', '.join(broken[:3])}",
                where=table.where(rows.tolist()),
                why="a label is one of a few classes",
                fix="--task regress for a continuous target, or cut the values into classes",
            )
        padded = any(c.lstrip("-")[:1] == "0" and c.lstrip("-0")[:1].isdecimal() for c in classes)
        if len(classes) == len(set(numbers)) and not padded:  # 1.0 is renamed 1, but 01 is a code
            classes = [str(int(n)) for n in numbers if n is not None]
        order = sorted(range(len(classes)), key=lambda i: (numbers[i] or 0, classes[i]))
    else:
        order = sorted(range(len(classes)), key=lambda i: classes[i])
    spelled = values.unique().drop_null()
    place = np.empty(len(classes), dtype=np.int64)
    place[order] = np.arange(len(classes))
    codes = pc.index_in(values, value_set=spelled).fill_null(len(classes))
    y = np.append(place, -1)[codes.to_numpy(zero_copy_only=False)]
    ordered = tuple(classes[i] for i in order)
    if task == "auto" and len(classes) > MANY and None not in numbers:
        log.warning("%s: %r holds %d different whole numbers, which are read as classes; "
                    "--task regress predicts them as numbers", table.path.name, name,
                    len(classes))  # fmt: skip
    num_minus = 0
    if UNLABELLED in ordered:
        at = ordered.index(UNLABELLED)
        num_minus = int((y == at).sum())
        y, ordered = np.where(y == at, -1, y - (y > at)), ordered[:at] + ordered[at + 1 :]
    if num_missing or num_minus:
        parts = [f"{num_missing:,} empty or NA"] * bool(num_missing)
        parts += [f"{num_minus:,} with {UNLABELLED}"] * bool(num_minus)
        log.info("%s: %s of %s nodes have no label in %r (%s)", table.path.name,
                 f"{num_missing + num_minus:,}", f"{len(y):,}", name, ", ".join(parts))  # fmt: skip
    return {
        "y": torch.from_numpy(y.astype(np.int64)),
        "class_names": ordered,
        "class_dtype": None if table.is_text(name) else dtype_of_names(ordered),
    }


def _has_commas_or_marks(values: Any) -> bool:
    """Return True if no cell is text other than a number with a decimal comma, or a mark."""
    words = [str(v) for v in values.unique().drop_null().to_pylist()]
    return all(word in MARKS or _finite(word.replace(",", ".")) is not None for word in words)


def _numbers(table: TableFile, name: str, values: Any, num_missing: int) -> Tensor:
    """Return text as numbers, (N,) float64; NaN where it is missing."""
    words = values.dictionary_encode()
    numbers = [_finite(word) for word in words.dictionary.to_pylist()]
    codes = words.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
    bad = [i for i, number in enumerate(numbers) if number is None]
    if bad:
        rows = np.flatnonzero(np.isin(codes, bad))[:FEW]
        shown = ", ".join(repr(words.dictionary[i].as_py()) for i in bad[:FEW])
        raise DataError(
            "GFM118",
            f"a continuous target is a column of finite numbers, but {name!r} holds {shown}",
            where=table.where(rows.tolist()),
            fix="--task classify if these are classes; an empty cell is an unlabelled node",
        )
    if num_missing:
        log.info("%s: %s of %s nodes have no value in %r (empty or NA)", table.path.name,
                 f"{num_missing:,}", f"{len(codes):,}", name)  # fmt: skip
    return torch.from_numpy(np.array([*numbers, np.nan], dtype=np.float64)[codes])


def read_splits(table: TableFile, columns: dict[str, Any]) -> dict[str, Tensor]:
    """Return the masks in a ``split`` column, or in columns such as ``train_mask``.

    Args:
        table: The table, for messages.
        columns: Text of the columns, (N,) each, by name.

    Raises:
        DataError: GFM135 for a value that is not a part of a split or a truth value.
    """
    masks: dict[str, Tensor] = {}
    for column, values in columns.items():
        values, _ = _known(values)
        text = values.dictionary_encode()
        words = [str(word).lower() for word in text.dictionary.to_pylist()]
        codes = text.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        allowed = PARTS if column == SPLIT else {**TRUTH}
        bad = [word for word in words if word not in allowed]
        if bad:
            rows = np.flatnonzero(codes == words.index(bad[0]))[:FEW].tolist()
            raise DataError(
                "GFM135",
                f"column {column!r} must hold {', '.join(dict.fromkeys(map(str, allowed)))} or "
                f"nothing, got {', '.join(map(repr, bad[:FEW]))}",
                where=table.where(rows),
                fix="rename the column if it does not hold a split",
            )
        wanted = [PARTS[word] if column == SPLIT else TRUTH[word] for word in words]
        if column == SPLIT:
            for part in dict.fromkeys(wanted):
                hits = [i for i, word in enumerate(wanted) if word == part]
                masks[f"{part}_mask"] = torch.from_numpy(np.isin(codes, hits))
        else:
            hits = [i for i, word in enumerate(wanted) if word]
            masks[column] = torch.from_numpy(np.isin(codes, hits))
    return masks


TRUTH = {"true": 1, "1": 1, "yes": 1, "1.0": 1, "false": 0, "0": 0, "no": 0, "0.0": 0}


def _multilabel(table: TableFile, columns: dict[str, Any]) -> tuple[Tensor, tuple[str, ...]]:
    """Return the labels in several columns of 0 and 1, (N, C) int8, and their names."""
    y = np.empty((len(next(iter(columns.values()))), len(columns)), dtype=np.int8)
    for i, (name, values) in enumerate(columns.items()):
        values, _ = _known(values)
        text = values.dictionary_encode()
        words = [str(word).lower() for word in text.dictionary.to_pylist()]
        truth = [-1 if word in (UNLABELLED, "-1.0") else TRUTH.get(word, 2) for word in words]
        codes = text.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
        y[:, i] = np.array([*truth, -1], dtype=np.int8)[codes]
        if (y[:, i] == 2).any():
            rows = np.flatnonzero(y[:, i] == 2)[:FEW].tolist()
            raise DataError(
                "GFM118",
                f"several targets are columns of 0 and 1, but {name!r} holds "
                f"{words[truth.index(2)]!r}",
                where=table.where(rows),
            )
    return torch.from_numpy(y), tuple(columns)


def _known(values: Any) -> tuple[Any, int]:
    """Return text without space around it, null where it is missing, and the number missing."""
    import pyarrow as pa
    from pyarrow import compute as pc

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    values = pc.utf8_trim_whitespace(values)
    gone = pc.is_in(values, value_set=pa.array(MISSING))  # null is in no set
    values = pc.if_else(gone, pa.scalar(None, pa.string()), values)
    return values, int(values.null_count)


def _number(text: str) -> float | None:
    """Return a number that can name a class; from 2^53 on, integers are no longer exact."""
    number = _finite(text)
    return number if number is not None and abs(number) < 2**53 else None


def _finite(text: str) -> float | None:
    """Return text as a finite number; None if it is not one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
