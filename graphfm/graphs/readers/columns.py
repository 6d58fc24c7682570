"""Columns of a node table -> features, by a plan that is made once and kept with the model.

    number, truth value, date   one column of float32; a date is in days since 1970
    category                    one column a level, 1 where the node has it
    missing                     the mean of the known values (a category: no level), and one more
                                column that says where, if any was missing when the plan was made
    free text                   refused by name

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

from graphfm.errors import DataError
from graphfm.graphs.convert import features
from graphfm.graphs.readers.frames import WIDE, Frame, Kind, Numbers

log = logging.getLogger(__name__)

MAX_LEVELS = 256  # of a category; more is text
SHARE_OF_LEVELS = 0.5  # of the rows: names and remarks have nearly one level a row
NAMED = 5  # columns that a message names


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one column of the table becomes features.

    Args:
        name: As in the header.
        kind: What it holds.
        fill: What a missing number becomes.
        indicator: Whether a further column says where it was missing.
        levels: Of a category, in the order of their columns.
    """

    name: str
    kind: Kind
    fill: float = 0.0
    indicator: bool = False
    levels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Feature columns that it gives."""
        return (len(self.levels) if self.kind == "category" else 1) + self.indicator


def plan_columns(frame: Frame) -> tuple[Column, ...]:
    """Decide what becomes of each column, and say so.

    A column without any value is left out. One that never varies stays: the feature transform drops
    it, and a table written from a graph comes back as that graph.

    Raises:
        DataError: GFM110 for free text, naming the columns.
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
    if prose:
        _refuse_text(frame, prose, [column.name for column in plan])
    _report(frame, plan, empty, constant, gaps)
    return tuple(plan)


def encode(frame: Frame, plan: Sequence[Column]) -> torch.Tensor | sparse.csr_array | None:
    """The features: (N, F), F = the widths of the plan together, in its order.

    Levels that the plan does not know are no level, and a line says how many there were.

    Raises:
        DataError: GFM130 for a column that holds something else than when the plan was made.
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
    """The plan as plain values; :func:`plan_from_json` reads them."""
    return [asdict(column) for column in plan]


def plan_from_json(values: Sequence[dict[str, Any]]) -> tuple[Column, ...]:
    """The plan that gave these values."""
    return tuple(Column(**{**value, "levels": tuple(value["levels"])}) for value in values)


def _summary(numbers: Numbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each column: values that are known, their mean, whether they vary."""
    n, width = numbers.shape
    known, mean = np.zeros(width, dtype=np.int64), np.zeros(width)
    varies = np.zeros(width, dtype=bool)
    if isinstance(numbers, np.ndarray):
        for i in range(width):  # a column at a time: no second copy of the matrix
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
    """Numbers without gaps, and a matrix of ones where there were gaps: (N, K) each."""
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
    import pyarrow as pa
    from pyarrow import compute as pc

    values = frame.text[column.name]
    codes = pc.index_in(values, value_set=pa.array(column.levels, type=pa.string()))
    new = int(codes.null_count - values.null_count)
    if new:
        log.warning("%s: %s of %s values of %r are new to the model: none of its levels",
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
            f"{len(gone)} of {len(plan)} columns that the model was fitted to are not there",
            where=f"{frame.table.path}: {', '.join(gone[:NAMED])}",
            fix="give the same columns; empty cells are allowed",
        )
    for column in plan:
        kind = frame.kinds[column.name]
        if (kind == "category") != (column.kind == "category"):
            raise DataError(
                "GFM130",
                f"column {column.name!r} was {_words(column.kind)} at the fit, here it is "
                f"{_words(kind)}",
                where=str(frame.table.path),
            )


def _words(kind: str) -> str:
    return "text" if kind == "category" else f"a {kind}"


def _refuse_text(frame: Frame, prose: dict[str, int], others: list[str]) -> None:
    listed = ", ".join(f"{name!r} ({count:,} values)" for name, count in prose.items())
    raise DataError(
        "GFM110",
        f"free text cannot be a feature: {listed}",
        where=str(frame.table.path),
        why=f"a category has at most {MAX_LEVELS} values, and fewer than half as many as rows",
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
        log.info("%s: %d feature columns (%s) give %d features", name, len(plan), counts,
                 sum(column.width for column in plan))  # fmt: skip
    if gaps:
        log.warning("%s: %d columns have missing values, filled with the mean (a category: with no "
                    "level) and marked by a column of their own: %s", name, len(gaps),
                    _some(gaps))  # fmt: skip
    if empty:
        log.warning("%s: %d columns have no value at all and are left out: %s", name, len(empty),
                    _some(empty))  # fmt: skip
    if constant:
        log.warning("%s: %d columns hold one value only and say nothing: %s", name, len(constant),
                    _some(constant))  # fmt: skip


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (
        f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    )
