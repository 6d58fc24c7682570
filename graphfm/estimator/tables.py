"""Predictions as a table: one row per node, with its id and its part of the split of the fit.

Shapes:
    Q  nodes asked for   C  classes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from graphfm.fitting.answers import Answers
    from graphfm.fitting.intervals import Values


def class_table(
    ids: Sequence[str],
    found: Answers,
    classes: np.ndarray,
    *,
    several: bool,
    proba: bool,
    parts: Sequence[str | None] | None,
) -> pa.Table:
    """Return ``id, label, probability``, then ``set, abstain, novelty``, ``p_CLASS`` and ``split``.

    Args:
        ids: Ids of the nodes, (Q,).
        found: Predictions for them; with prediction sets, the table has the columns of sets.
        classes: Classes in the type of the labels, (C,).
        several: If true, nodes have several labels; ``label`` joins them by ``;``.
        proba: If true, add a column per class.
        parts: Part of the split of each node, (Q,). None leaves the column out.
    """
    import pyarrow as pa

    names = [str(c) for c in classes.tolist()]
    if several:
        above = found.proba >= 0.5
        labels = pa.array(_joined(above, names), pa.string())
        probability = np.where(above, found.proba, 1 - found.proba).prod(axis=1)
    else:
        labels = pa.array(classes[found.proba.argmax(axis=1)])
        probability = found.proba.max(axis=1)
    columns: dict[str, Any] = {
        "id": text_array(ids),
        "label": labels,
        "probability": probability.astype(np.float32),
    }
    if found.sets is not None:
        alone = (found.sets == above).all(axis=1) if several else found.sets.sum(axis=1) == 1
        columns["set"] = pa.array(_joined(found.sets, names), pa.string())
        columns["abstain"] = ~alone
        columns["novelty"] = _numbers(found.novelty)
    if proba:
        columns |= {
            f"p_{name}": found.proba[:, i].astype(np.float32) for i, name in enumerate(names)
        }
    return _table(columns, parts)


def value_table(
    ids: Sequence[str], found: Values, *, parts: Sequence[str | None] | None
) -> pa.Table:
    """Return ``id, prediction``, ``low, high`` if they are known, ``novelty`` and ``split``.

    Args:
        ids: Ids of the nodes, (Q,).
        found: Predictions for them.
        parts: Part of the split of each node, (Q,). None leaves the column out.
    """
    columns: dict[str, Any] = {"id": text_array(ids), "prediction": _numbers(found.values)}
    if found.low is not None and found.high is not None:
        columns |= {"low": _numbers(found.low), "high": _numbers(found.high)}
    columns["novelty"] = _numbers(found.novelty)
    return _table(columns, parts)


def text_array(words: Sequence[str]) -> pa.Array:
    """Return texts as an Arrow array; letters that UTF-8 cannot hold are escaped."""
    import pyarrow as pa

    try:
        return pa.array(words, pa.string())
    except UnicodeEncodeError:
        valid = [word.encode("utf-8", "backslashreplace").decode() for word in words]
        return pa.array(valid, pa.string())


def _table(columns: dict[str, Any], parts: Sequence[str | None] | None) -> pa.Table:
    """Return a table of columns, with the part of the split as its last column."""
    import pyarrow as pa

    arrays = [c if isinstance(c, pa.Array) else pa.array(c) for c in columns.values()]
    names = list(columns)
    if parts is not None:
        arrays, names = [*arrays, pa.array(parts, pa.string())], [*names, "split"]
    return pa.table(arrays, names=names)


def _numbers(values: np.ndarray) -> pa.Array:
    """Return numbers as an Arrow array; a number that is not finite is null."""
    import pyarrow as pa

    return pa.array(values, mask=~np.isfinite(values))


def _joined(chosen: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return the names of the chosen classes of each node, joined by ``;``."""
    return [";".join(name for name, yes in zip(names, row, strict=True) if yes) for row in chosen]
