"""Text columns of a node table -> labels and splits.

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

from graphfm.errors import DataError
from graphfm.graphs.readers.tables import MISSING, TableFile
from graphfm.graphs.spec import Task

log = logging.getLogger(__name__)

UNLABELLED = "-1"  # what libraries of graphs write for "no label"
SPLIT = "split"
PARTS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
MASK_COLUMNS = {f"{part}_mask": part for part in ("train", "val", "test")}
FEW = 5  # values that a message names


def target_columns(target: str, names: Sequence[str], where: str) -> list[str]:
    """Columns that ``--target`` names: one, several with commas between, or a pattern with ``*``.

    Raises:
        DataError: GFM104 for a name that is no column.
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


def no_column(code: str, name: str, names: Sequence[str], where: str) -> DataError:
    """The error for a column that is not there, with the likely one."""
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
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels of one column of classes or of numbers, or of several of 0 and 1.

    Empty cells, ``NA`` and its like, and ``-1`` among numbers are no label. Classes are ordered by
    number if all are numbers, else by their text.

    Args:
        table: Where they come from.
        columns: Text by the name of its column, (N,) each.
        task: ``regress`` = numbers, ``classify`` = classes, ``auto`` = numbers where they have
            fractions.

    Returns:
        ``(y, class_names)``: (N,) int64 or (N, C) int8, -1 = unlabelled; or (N,) float64, NaN =
        unlabelled, without class names.

    Raises:
        DataError: GFM118 for numbers that are no classes, or text that is no number.
    """
    if len(columns) > 1:
        return _several(table, columns)
    from pyarrow import compute as pc

    name, values = next(iter(columns.items()))
    values, num_missing = _known(values)
    if task == "regress":
        return _numbers(table, name, values, num_missing), ()
    classes = [str(v) for v in values.unique().drop_null().to_pylist()]
    numbers = [_number(c) for c in classes]
    if classes and all(number is not None for number in numbers):
        broken = [c for c, n in zip(classes, numbers, strict=True) if n is not None and n != n // 1]
        if broken and task == "auto":
            log.info("%s: %r holds fractions such as %s: a continuous target", table.path.name,
                     name, ", ".join(broken[:3]))  # fmt: skip
            return _numbers(table, name, values, num_missing), ()
        if broken:
            rows = np.flatnonzero(pc.equal(values, broken[0]).to_numpy(zero_copy_only=False))[:3]
            raise DataError(
                "GFM118",
                f"{name!r} holds fractions such as {', '.join(broken[:3])}",
                where=table.where(rows.tolist()),
                why="a label is one of a few classes",
                fix="--task regress for a continuous target, or cut the values into classes",
            )
        if len(classes) == len(set(numbers)):  # 1.0 is 1, but 1 and 01 stay two
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
    num_minus = 0
    if ordered[:1] == (UNLABELLED,):
        num_minus = int((y == 0).sum())
        y, ordered = np.where(y == -1, -1, y - 1), ordered[1:]
    if num_missing or num_minus:
        parts = [f"{num_missing:,} empty or NA"] * bool(num_missing)
        parts += [f"{num_minus:,} with {UNLABELLED}"] * bool(num_minus)
        log.info("%s: %s of %s nodes have no label in %r (%s)", table.path.name,
                 f"{num_missing + num_minus:,}", f"{len(y):,}", name, ", ".join(parts))  # fmt: skip
    return torch.from_numpy(y.astype(np.int64)), ordered


def _numbers(table: TableFile, name: str, values: Any, num_missing: int) -> Tensor:
    """Text without space around it -> (N,) float64, NaN where there is none."""
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
    """Masks of a ``split`` column of train, val, test, or of columns such as ``train_mask``.

    Raises:
        DataError: GFM135 for a value that is none of these.
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
                fix="rename the column if it is no split",
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


def _several(table: TableFile, columns: dict[str, Any]) -> tuple[Tensor, tuple[str, ...]]:
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
    """Text without space around it, null where there is no value, and how many there are."""
    import pyarrow as pa
    from pyarrow import compute as pc

    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    values = pc.utf8_trim_whitespace(values)
    gone = pc.is_in(values, value_set=pa.array(MISSING))  # null is in no set
    values = pc.if_else(gone, pa.scalar(None, pa.string()), values)
    return values, int(values.null_count)


def _number(text: str) -> float | None:
    """A number that can name a class: whole ones above 2^53 are no longer exact."""
    number = _finite(text)
    return number if number is not None and abs(number) < 2**53 else None


def _finite(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
