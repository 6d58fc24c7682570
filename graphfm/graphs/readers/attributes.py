"""Node attributes of a graph file as the columns of a table: the same rules, the same plan.

Shapes:
    N  nodes
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.graphs.readers.frames import Frame, Kind, check_finite
from graphfm.graphs.readers.tables import MISSING, TableFile

log = logging.getLogger(__name__)

FEW = 5  # attributes that a message names


def attribute_frame(path: Path, records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Frame:
    """Attributes as :func:`graphfm.graphs.readers.frames.read_frame` gives columns.

    Text that is another for every node is its name and no feature; lists and the like are not
    read. A line says so of each.

    Args:
        path: Where they come from.
        records: Attributes of each node, (N,); one that a node lacks is missing.
        keys: Which to read.

    Raises:
        DataError: GFM117 for a number that is infinite.
    """
    import pyarrow as pa

    kinds: dict[str, Kind] = {}
    numbers: list[np.ndarray] = []
    text: dict[str, Any] = {}
    names, nested = [], []
    for key in keys:
        values = [record.get(key) for record in records]
        known = [value for value in values if value is not None]
        if all(isinstance(value, bool | int | float | np.number | np.bool_) for value in known):
            flag = all(isinstance(value, bool | np.bool_) for value in known)
            kinds[key] = "flag" if known and flag else "number"
            numbers.append(
                np.array([np.nan if v is None else float(v) for v in values], dtype=np.float32)
            )
            continue
        if any(isinstance(value, dict | list | tuple | set) for value in known):
            nested.append(key)
            continue
        words = attribute_text(records, key)
        found = set(words)
        if len(found) == len(words) > 1 and None not in found:
            names.append(key)
            continue
        kinds[key] = "category"
        text[key] = pa.array(words, pa.string())
    for what, left_out in (("a name of each node", names), ("made of several values", nested)):
        if left_out:
            log.info("%s: %d attributes are %s and are no features: %s", path.name, len(left_out),
                     what, ", ".join(left_out[:FEW]))  # fmt: skip
    matrix = np.stack(numbers, axis=1) if numbers else np.empty((len(records), 0), np.float32)
    table = TableFile(path=path, names=tuple(keys))
    frame = Frame(table=table, num_rows=len(records), kinds=kinds, numbers=matrix, text=text)
    check_finite(frame)
    return frame


def attribute_text(records: Sequence[Mapping[str, Any]], key: str) -> list[str | None]:
    """One attribute as text, (N,); None where it is missing."""
    values = (record.get(key) for record in records)
    words = (None if v is None or v != v else str(v).strip() for v in values)
    return [None if word in MISSING else word for word in words]
