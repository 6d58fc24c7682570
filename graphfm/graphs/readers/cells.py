"""Numbers among text: decimal commas, marks for a missing value, and single odd cells.

Shapes:
    N  rows
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from graphfm.errors import FEW, DataError
from graphfm.graphs.readers.tables import TableFile

log = logging.getLogger(__name__)

MARKS = (
    *("?", "??", "-", "--", ".", "..", "*", "n.a.", "N.A.", "na", "unknown", "Unknown", "missing"),
    *("#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?"),
)
NUMBER = r"^[+-]?(0|[1-9][0-9]*|[0-9]*\.[0-9]+|[0-9]+\.)([eE][+-]?[0-9]+)?$"
COMMA = r"^[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?$"
THOUSANDS = r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$"
ODD_SHARE = 0.02  # share of the cells of a column of numbers that may be text
ODD_DISTINCT = 5  # different numbers from which a column with one odd cell holds numbers


def numbers_in_text(table: TableFile, name: str, values: Any) -> Any | None:
    """Return text as numbers that pyarrow can cast, null where none is; None if it is no number.

    Args:
        table: The table, for messages.
        name: Name of the column.
        values: Text, (N,), null = missing.

    Raises:
        DataError: GFM109 for commas that may be decimal commas or thousands separators.
    """
    import pyarrow as pa
    from pyarrow import compute as pc

    count = len(values) - values.null_count
    point = pc.match_substring_regex(values, NUMBER).fill_null(False)
    comma = pc.match_substring_regex(values, COMMA).fill_null(False)
    mark = pc.is_in(values, value_set=pa.array(MARKS))
    numbers = pc.or_(point, comma)
    num_numbers = _count(numbers)
    if not num_numbers:
        return None
    odd = pc.and_(pc.is_valid(values), pc.invert(pc.or_(numbers, mark)))
    num_odd = _count(odd)
    if num_odd:
        distinct = pc.count_distinct(values.filter(numbers)).as_py()
        few = num_odd <= ODD_SHARE * count or num_odd == 1
        if not few or distinct < ODD_DISTINCT:
            return None
    if _count(comma):
        if pc.any(pc.match_substring(values.filter(point), ".")).as_py():
            return None  # both 1.5 and 1,5
        if pc.all(pc.match_substring_regex(values.filter(comma), THOUSANDS)).as_py():
            first = values.filter(comma)[0].as_py()
            plain, decimal = first.replace(",", ""), first.replace(",", ".")
            raise DataError(
                "GFM109",
                f"the comma in {first!r} may be a decimal comma or separate thousands",
                where=f"{_where(table, comma)}, column {name!r}",
                fix=f"write {plain} or {decimal}, or leave the column out: --drop {name}",
            )
        log.warning("%s: column %r is read with decimal commas", table.path.name, name)
        values = pc.replace_substring(values, ",", ".")
    gone = pc.or_(odd, mark)
    if _count(gone):
        shown = ", ".join(map(repr, pc.unique(values.filter(gone)).slice(0, FEW).to_pylist()))
        log.warning("%s: %s cells of the numbers in %r are read as missing: %s (%s)",
                    table.path.name, f"{_count(gone):,}", name, shown,
                    _where(table, gone))  # fmt: skip
    return pc.if_else(numbers, values, pa.scalar(None, pa.string()))


def _where(table: TableFile, flags: Any) -> str:
    rows = np.flatnonzero(flags.to_numpy(zero_copy_only=False))[:FEW]
    return table.where(rows.tolist())


def _count(flags: Any) -> int:
    from pyarrow import compute as pc

    return int(pc.sum(flags).as_py() or 0)
