"""Node attributes of a graph file as table columns, so that both get features by one plan.

Shapes:
    N  nodes
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.errors import FEW
from graphfm.graphs.readers.frames import Frame, Kind, check_finite, with_numbers
from graphfm.graphs.readers.tables import MISSING, TableFile
from graphfm.graphs.readers.textfiles import is_number

log = logging.getLogger(__name__)


def attribute_frame(path: Path, records: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Frame:
    """Return node attributes in the form of :func:`graphfm.graphs.readers.frames.read_frame`.

    Text that differs for every node is a name, not a feature. Lists and the like are not read
    either. A log line names these attributes.

    Args:
        path: Path of the file, for messages.
        records: Attributes of each node, (N,); an attribute that a node lacks is missing.
        keys: Names of the attributes to read.

    Raises:
        DataError: GFM117 for a number that is infinite.
    """
    import pyarrow as pa

    kinds: dict[str, Kind] = {}
    numbers: list[np.ndarray] = []
    text: dict[str, Any] = {}
    unique, nested = [], []
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
        numeric = sum(w is not None and is_number(w.replace(",", ".")) for w in found)
        if len(found) == len(words) > 1 and None not in found and 2 * numeric < len(found):
            unique.append(key)
            continue
        kinds[key] = "category"
        text[key] = pa.array(words, pa.string())
    for what, left_out in (("differ for every node", unique), ("hold several values", nested)):
        if left_out:
            log.warning("%s: %d attributes %s and do not become features: %s", path.name,
                        len(left_out), what, ", ".join(left_out[:FEW]))  # fmt: skip
    matrix = np.stack(numbers, axis=1) if numbers else np.empty((len(records), 0), np.float32)
    table = TableFile(path=path, names=tuple(keys))
    frame = with_numbers(
        Frame(table=table, num_rows=len(records), kinds=kinds, numbers=matrix, text=text)
    )
    check_finite(frame)
    return frame


def attribute_text(records: Sequence[Mapping[str, Any]], key: str) -> list[str | None]:
    """Return one attribute as text, (N,); None where it is missing."""
    values = (record.get(key) for record in records)
    words = (None if v is None or v != v else str(v).strip() for v in values)
    return [None if word in MISSING else word for word in words]
