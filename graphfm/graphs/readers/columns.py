"""Columns of a node table -> features, by a plan that is made at the fit and saved with the model.

    number, truth value, date   one column of float32; a date is in days since 1970
    category                    one column per level, 1 where the node has that level
    missing value               the mean of the known values (a category: no level), and one more
                                column that marks it, if a value was missing when the plan was made
    free text                   left out, with a log line; an error if it was asked for

Shapes:
    N  rows   F  feature columns that come out   K  columns of numbers in the file
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse

from graphfm.errors import FEW, DataError
from graphfm.graphs.convert import features
from graphfm.graphs.readers.frames import WIDE, Frame, Kind, Numbers

log = logging.getLogger(__name__)

MAX_LEVELS = 256  # levels of a category; a column with more is free text
SHARE_OF_LEVELS = 0.5  # levels per row; names and remarks have nearly one level per row


@dataclass(frozen=True, kw_only=True)
class Column:
    """Rule by which one column of a table becomes features.

    Args:
        name: Name in the header.
        kind: Kind of the values.
        fill: Number that replaces a missing number.
        indicator: If True, one more feature column marks the missing values.
        levels: Levels of a category, in the order of their feature columns.
    """

    name: str
    kind: Kind
    fill: float = 0.0
    indicator: bool = False
    levels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of feature columns that the column becomes."""
        return (len(self.levels) if self.kind == "category" else 1) + self.indicator


def plan_columns(frame: Frame, asked: str | None = None) -> tuple[Column, ...]:
    """Choose the rule for each column, and log a summary.

    A column without any value is left out. A constant column stays: the feature transform drops it
    later, and a table that was written from a graph is read back as the same graph. Free text is
    left out.

    Args:
        frame: The columns.
        asked: Columns that the user named. Default: all were read.

    Raises:
        DataError: GFM110 for free text among the columns that the user named.
    """
    plan: list[Column] = []
    empty, constant, prose, gaps = [], [], {}, []
    known, mean, varies = _summary(frame.numbers)
    place = 0
    for name, kind in frame.kinds.items():
        if kind == "category":
            values = frame.text[name]
            levels = sorted(str(v) for v in values.unique().drop_null().to_pylist())
            count = frame.num_rows - values.null_count
            if len(levels) > MAX_LEVELS or len(levels) > max(2, SHARE_OF_LEVELS * count):
                prose[name] = len(levels)
                continue
            column = Column(
                name=name, kind=kind, indicator=count < frame.num_rows, levels=tuple(levels)
            )
            differs = len(levels) + (count < frame.num_rows) > 1
        else:
            count = int(known[place])
            column = Column(
                name=name, kind=kind, fill=float(mean[place]), indicator=count < frame.num_rows
            )
            differs = bool(varies[place]) or count < frame.num_rows
            place += 1
        if count == 0:
            empty.append(name)
            continue
        if count < frame.num_rows:
            gaps.append(f"{name} {1 - count / frame.num_rows:.1%}")
        if not differs:
            constant.append(name)
        plan.append(column)
    named = {part.strip() for part in (asked or "").split(",")}
    refused = {name: count for name, count in prose.items() if name in named}
    if refused:
        _refuse_text(frame, refused, [column.name for column in plan])
    if prose:
        listed = [f"{name!r} ({count:,} values)" for name, count in prose.items()]
        log.warning("%s: %d columns hold free text and do not become features: %s",
                    frame.table.path.name, len(prose), _first_few(listed))  # fmt: skip
    _report(frame, plan, empty, constant, gaps)
    return tuple(plan)


def encode(frame: Frame, plan: Sequence[Column]) -> torch.Tensor | sparse.csr_array | None:
    """Return the features, (N, F), in the order of the plan; F is the sum of its widths.

    A level that is not in the plan becomes zeros, and a log line counts them.

    Raises:
        DataError: GFM130 for a column that is missing, or of another kind than in the plan.
    """
    _check_same(frame, plan)
    numeric = [name for name, kind in frame.kinds.items() if kind != "category"]
    place = {name: i for i, name in enumerate(numeric)}
    wanted = [column for column in plan if column.kind != "category"]
    numbers = frame.numbers
    picked = [place[column.name] for column in wanted]
    if picked != list(range(numbers.shape[1])):
        numbers = numbers[:, picked]
    numbers, missing = _filled(numbers, np.array([c.fill for c in wanted], dtype=np.float32))
    counts = np.asarray(missing.sum(axis=0)).ravel()
    gone = [c.name for c, count in zip(wanted, counts, strict=True) if count == frame.num_rows]
    texts = [c.name for c in plan if c.kind == "category"]
    gone += [name for name in texts if frame.text[name].null_count == frame.num_rows]
    _warn_empty(frame, gone)
    pieces: list[Any] = [numbers]
    start, starts = numbers.shape[1], {c.name: [i] for i, c in enumerate(wanted)}
    where = {c.name: i for i, c in enumerate(wanted)}
    for column in plan:
        if column.kind == "category":
            piece = _one_hot(frame, column)
            starts[column.name] = list(range(start, start + piece.shape[1]))
        elif column.indicator:
            piece = missing[:, [where[column.name]]]
            starts[column.name].append(start)
        else:
            continue
        pieces.append(piece)
        start += piece.shape[1]
    if len(pieces) == 1:
        return features(numbers if sparse.issparse(numbers) else torch.from_numpy(numbers))
    order = [i for column in plan for i in starts[column.name]]
    if all(isinstance(piece, np.ndarray) for piece in pieces[:1]) and start < WIDE:
        dense = np.hstack([p if isinstance(p, np.ndarray) else p.toarray() for p in pieces])
        return features(torch.from_numpy(np.ascontiguousarray(dense[:, order])))
    whole = sparse.hstack([sparse.csr_array(p) for p in pieces], format="csc")[:, order]
    return features(sparse.csr_array(whole))


def plan_to_json(plan: Sequence[Column]) -> list[dict[str, Any]]:
    """Return the plan as plain data for :func:`plan_from_json`."""
    return [asdict(column) for column in plan]


def plan_from_json(values: Sequence[dict[str, Any]]) -> tuple[Column, ...]:
    """Return the plan from what :func:`plan_to_json` returned."""
    return tuple(Column(**{**value, "levels": tuple(value["levels"])}) for value in values)


def _summary(numbers: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each column the number of known values, their mean, and True if they vary."""
    n, width = numbers.shape
    known, mean = np.zeros(width, dtype=np.int64), np.zeros(width)
    varies = np.zeros(width, dtype=bool)
    if isinstance(numbers, np.ndarray):
        for i in range(width):  # one column at a time, so that the matrix is not copied
            values = numbers[:, i][~np.isnan(numbers[:, i])]
            known[i] = len(values)
            if len(values):
                mean[i] = values.mean(dtype=np.float64)
                varies[i] = bool((values != values[0]).any())
        return known, mean, varies
    gone = np.isnan(numbers.data)
    values = np.where(gone, 0, numbers.data).astype(np.float64)
    known = n - np.bincount(numbers.indices[gone], minlength=width)
    mean = np.bincount(numbers.indices, weights=values, minlength=width) / np.maximum(known, 1)
    filled = sparse.csr_array(
        (np.where(gone, mean[numbers.indices], numbers.data), numbers.indices, numbers.indptr),
        shape=numbers.shape,
    )
    low, high = filled.min(axis=0).toarray().ravel(), filled.max(axis=0).toarray().ravel()
    return known, mean, low != high


def _filled(numbers: Numbers, fill: np.ndarray) -> tuple[Numbers, Any]:
    """Return the numbers with missing ones filled, and a matrix that marks them, (N, K) each."""
    if isinstance(numbers, np.ndarray):
        gone = np.isnan(numbers)
        if not gone.any():
            return numbers, sparse.csc_array(numbers.shape, dtype=np.float32)
        return np.where(gone, fill, numbers).astype(np.float32), gone.astype(np.float32)
    at = np.isnan(numbers.data)
    if not at.any():
        return numbers, sparse.csc_array(numbers.shape, dtype=np.float32)
    whole = numbers.copy()
    whole.data[at] = fill[numbers.indices[at]]
    gone = numbers.copy()
    gone.data = at.astype(np.float32)
    gone.eliminate_zeros()
    return whole, gone.tocsc()


def _one_hot(frame: Frame, column: Column) -> sparse.csr_array:
    """Return one column per level of a category, and the indicator if the plan has one."""
    import pyarrow as pa
    from pyarrow import compute as pc

    values = frame.text[column.name]
    codes = pc.index_in(values, value_set=pa.array(column.levels, type=pa.string()))
    new = int(codes.null_count - values.null_count)
    if new:
        log.warning("%s: %s of %s values of %r were not seen at the fit and are ignored",
                    frame.table.path, f"{new:,}", f"{frame.num_rows:,}", column.name)  # fmt: skip
    level = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    if column.indicator:
        gone = values.is_null().to_numpy(zero_copy_only=False)
        level = np.where(gone, len(column.levels), level)
    rows = np.flatnonzero(level >= 0)
    ones = np.ones(len(rows), dtype=np.float32)
    return sparse.coo_array(
        (ones, (rows, level[rows])), shape=(frame.num_rows, column.width)
    ).tocsr()


def _check_same(frame: Frame, plan: Sequence[Column]) -> None:
    gone = [column.name for column in plan if column.name not in frame.kinds]
    if gone:
        raise DataError(
            "GFM130",
            f"{len(gone)} of {len(plan)} columns that the model was fitted to are missing",
            where=f"{frame.table.path}: {', '.join(gone[:FEW])}",
            fix="give the same columns; empty cells are allowed",
        )
    for column in plan:
        kind = frame.kinds[column.name]
        if (kind == "category") != (column.kind == "category"):
            raise DataError(
                "GFM130",
                f"column {column.name!r} was {_kind_name(column.kind)} at the fit, here it is "
                f"{_kind_name(kind)}",
                where=str(frame.table.path),
            )


def _warn_empty(frame: Frame, names: Sequence[str]) -> None:
    """Name the columns that had values at the fit and have none here."""
    if names and frame.num_rows:
        log.warning("%s: %d columns had values at the fit and are empty here, so their values "
                    "count as missing: %s", frame.table.path.name, len(names),
                    _first_few(list(names)))  # fmt: skip


def _kind_name(kind: str) -> str:
    return "text" if kind == "category" else f"a {kind}"


def _refuse_text(frame: Frame, prose: dict[str, int], others: list[str]) -> None:
    listed = ", ".join(f"{name!r} ({count:,} values)" for name, count in prose.items())
    raise DataError(
        "GFM110",
        f"free text cannot be a feature: {listed}",
        where=str(frame.table.path),
        why=f"a category has at most {MAX_LEVELS} values, and fewer values than half the rows",
        fix=f"name the columns to use: --features {','.join(others[:20]) or 'none'}"
        + (",..." if len(others) > 20 else ""),
    )


def _report(
    frame: Frame, plan: list[Column], empty: list[str], constant: list[str], gaps: list[str]
) -> None:
    name = frame.table.path.name
    if plan:
        kinds = [column.kind for column in plan]
        counts = ", ".join(
            f"{kinds.count(kind)} {word}"
            for kind, word in (
                ("number", "numbers"), ("flag", "truth values"), ("date", "dates"),
                ("category", "categories"),
            )
            if kind in kinds
        )  # fmt: skip
        log.info("%s: %d columns (%s) become %d features", name, len(plan), counts,
                 sum(column.width for column in plan))  # fmt: skip
    if gaps:
        log.warning("%s: %d columns have missing values; they get the mean (a category: no level), "
                    "and one more column marks them: %s", name, len(gaps),
                    _first_few(gaps))  # fmt: skip
    if empty:
        log.warning("%s: %d columns are empty and are left out: %s", name, len(empty),
                    _first_few(empty))  # fmt: skip
    if constant:
        log.warning("%s: %d columns hold the same value in every row: %s", name, len(constant),
                    _first_few(constant))  # fmt: skip


def _first_few(names: list[str]) -> str:
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
