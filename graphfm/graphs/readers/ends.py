"""Choice of the two columns of an edge list that hold the ends, confirmed by their content.

Shapes:
    N  nodes   E  lines of the edge list   K  columns
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.errors import FEW, DataError
from graphfm.graphs.readers.headers import WEIGHTS, Field, edge_ends
from graphfm.graphs.readers.open_table import open_table
from graphfm.graphs.readers.tables import TableFile

log = logging.getLogger(__name__)

INDEX_NAMES = ("", "unnamed: 0")  # the index of a table that pandas or R wrote as CSV
INDEX_LEVEL = "__index_level_"  # how pyarrow begins the name of an index that has none
NUMBER_NAMES = ("edge_id", "edgeid", "id", "edge", "index", "key", "rel_id", "relationship_id")
PAIRS = (("1", "2"), ("a", "b"), ("from", "to"), ("source", "target"), ("src", "dst"), ("i", "j"))


def index_columns(table: TableFile, names: Sequence[str]) -> list[str]:
    """Return the columns that are the index of a table of pandas or R, not its content.

    Args:
        table: The table.
        names: Columns to look at.
    """
    unnamed = [name for name in names if name.casefold() in INDEX_NAMES]
    index = [name for name in names if name.startswith(INDEX_LEVEL)]
    return [*index, *(n for n in unnamed if _counts_rows(table.text([n])[n]))]


def is_default_index(table: TableFile, name: str) -> bool:
    """Return True for the index that pandas gives to every table: 0, 1, 2, ..."""
    return name.startswith(INDEX_LEVEL) and _counts_rows(table.text([name])[name])


def choose_ends(
    table: TableFile,
    fields: Sequence[Field],
    source: str | None,
    destination: str | None,
    ids: Any | None,
) -> tuple[str, str, bool]:
    """Return the columns of the two ends, and True if names or options decide.

    Args:
        table: The edge list.
        fields: Its columns.
        source: Column of one end. Default: found.
        destination: Column of the other end. Default: found.
        ids: Ids of the nodes, (N,) text. Default: not known.

    Raises:
        DataError: GFM106 if it is not clear which columns hold the ends, and the errors of
            :func:`edge_ends`.
    """
    where = str(table.path)
    asked = [name for name in (source, destination) if name is not None]
    first, second, is_named = edge_ends(fields, source, destination, where)
    if is_named or asked:
        return first, second, is_named
    names = [field.raw for field in fields]
    index = index_columns(table, names)
    if index and len(names) > 2:
        log.warning("%s: column %r is the index of the rows and is left out", table.path.name,
                    index[0])  # fmt: skip
        names = [name for name in names if name not in index]
    pair = paired_names(names)
    if pair and _are_ids(table, pair, ids):
        return (*pair, True)
    plain = [
        name
        for name in names
        if name.casefold() not in (*WEIGHTS, *NUMBER_NAMES) or len(names) == 2
    ]
    if len(names) == 2:
        return names[0], names[1], False
    text = table.text(names)
    if ids is not None:
        from pyarrow import compute as pc

        shares = {name: _mean(pc.is_in(text[name], value_set=ids)) for name in plain}
        found = [name for name, share in shares.items() if share == 1.0]
        if len(found) < 2:
            found = [name for name, share in shares.items() if share >= 0.5]
        if len(found) > 2 and not _counts_rows(text[found[0]]):
            found = found[:2] if found[:2] == names[:2] else found
    else:
        found = plain[:2]
        if len(found) == 2 and (
            found != names[:2] or not _share_ids(text[found[0]], text[found[1]])
            or _counts_rows(text[found[0]])
        ):  # fmt: skip
            found = [] if len(plain) > 2 else found
    if len(found) == 2:
        return found[0], found[1], False
    raise DataError(
        "GFM106",
        f"it is not clear which of {len(names)} columns hold the two ends of an edge: "
        + ", ".join(map(repr, names[:FEW])) + (", ..." if len(names) > FEW else ""),
        where=where,
        why="neither their names nor their values tell",
        fix=f"--source {names[0]!r} --destination {names[1]!r}, with the names of the two columns",
    )  # fmt: skip


def confirmed_id(
    table: TableFile, names: Sequence[str], index: Sequence[str], edges: Path | TableFile | None
) -> str:
    """Return the column of node ids in a table that names none: the one that the edges refer to.

    Args:
        table: The node table.
        names: Its columns.
        index: Columns that only count the rows; they are ids only if the edges refer to them.
        edges: The edge list. Default: the first column is chosen.
    """
    from pyarrow import compute as pc

    plain = [name for name in names if name not in index] or list(names)
    if edges is None or (
        isinstance(edges, Path) and edges.name.removesuffix(".gz").endswith(".mtx")
    ):
        return plain[0]
    listed = open_table(edges)
    ends = listed.text(list(listed.names))
    columns = table.text(list(names))
    ids = {name: pc.unique(columns[name]) for name in names}
    best, chosen = 0.0, plain[0]
    for name in (*plain, *index):
        if len(ids[name]) < len(columns[name]):
            continue  # ids are unique
        shares = sorted(_mean(pc.is_in(ends[end], value_set=ids[name])) for end in listed.names)
        share = sum(shares[-2:])  # two columns hold ends
        if share > best:
            best, chosen = share, name
    if chosen != names[0]:
        what = "the index" if chosen.startswith(INDEX_LEVEL) else f"column {chosen!r}"
        log.warning("%s: %s is read as the node ids, because the edges refer to it; if it is "
                    "another column: --id", table.path.name, what)  # fmt: skip
    return chosen


def paired_names(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the only two names that differ by 1 and 2, a and b or the like: person_1, person_2."""
    found = []
    folded = {name.casefold(): name for name in reversed(names)}
    for one, other in PAIRS:
        for name in folded:
            for pattern in (rf"^(.+?){one}$", rf"^{one}[_ ](.+)$"):
                match = re.fullmatch(pattern, name)
                if match is None or (one.isalpha() and not re.search(r"[_ .-]", name)):
                    continue
                at = match.start(1)
                twin = match[1] + other if at == 0 else other + name[len(one) :]
                if twin in folded:
                    found.append((folded[name], folded[twin]))
    found = list(dict.fromkeys(found))
    return found[0] if len(found) == 1 else None


def is_matrix(table: TableFile) -> bool:
    """Return True if a table is an adjacency matrix: its columns are named as its rows are."""
    names = list(table.names)
    if len(names) < 3:
        return False
    if not table.has_header:
        return False
    first = table.text([names[0]])[names[0]].to_pylist() if len(names) < 20_000 else []
    return len(first) == len(names) - 1 and [str(v).strip() for v in first] == names[1:]


def first_line_is_edge(
    table: TableFile, names: tuple[str, str], ends: tuple[Any, Any], ids: Any | None
) -> bool:
    """Return True if the first line is an edge rather than a header, and log what was decided.

    Args:
        table: The edge list, read with a header.
        names: Names of the two columns of the ends.
        ends: Values of these columns, (E,) text each.
        ids: Ids of the nodes, (N,) text. Default: not known.
    """
    import pyarrow as pa
    from pyarrow import compute as pc

    cells = pa.array(names)
    if ids is not None:
        known = pc.is_in(cells, value_set=ids).to_pylist()
    else:
        seen = [pc.is_in(cells, value_set=pc.unique(end)).to_pylist() for end in ends]
        known = [one or other for one, other in zip(*seen, strict=True)]
    file, line = table.path.name, ",".join(names)
    if paired_names(names):
        if any(known):
            log.warning("%s: the first line, %r, is read as a header, although ids are written "
                        "like it; if it is an edge: --no-header", file, line)  # fmt: skip
        return False
    if any(known):
        log.warning("%s: the first line, %r, is read as an edge, because it holds ids; if it names "
                    "the columns: --header", file, line)  # fmt: skip
        return True
    if ids is None:
        log.warning("%s: the first line, %r, is read as a header; if it is an edge: --no-header",
                    file, line)  # fmt: skip
    return False


def _are_ids(table: TableFile, names: Sequence[str], ids: Any | None) -> bool:
    """Return True if most values of each column are node ids, or the ids are not known."""
    from pyarrow import compute as pc

    if ids is None:
        return True
    text = table.text(list(names))
    return all(_mean(pc.is_in(text[name], value_set=ids)) >= 0.5 for name in names)


def _share_ids(one: Any, other: Any) -> bool:
    """Return True if some value is in both columns."""
    from pyarrow import compute as pc

    return bool(pc.any(pc.is_in(pc.unique(one), value_set=pc.unique(other))).as_py())


def _counts_rows(values: Any) -> bool:
    """Return True if values are consecutive whole numbers from 0 or 1."""
    import pyarrow as pa

    n = len(values)
    if n == 0 or values[0].as_py() not in ("0", "1"):
        return False
    start = int(values[0].as_py())
    return bool(
        values.combine_chunks().equals(pa.array(np.arange(start, start + n)).cast(pa.string()))
        if isinstance(values, pa.ChunkedArray)
        else values.equals(pa.array(np.arange(start, start + n)).cast(pa.string()))
    )


def _mean(flags: Any) -> float:
    from pyarrow import compute as pc

    return float(pc.mean(flags.cast("int8")).as_py() or 0.0)
