"""What the columns of an edge list and of a node table are, by their names.

Headers of Neo4j's export say it themselves: ``:START_ID(Person)``, ``:END_ID``, ``:ID``,
``:LABEL``, ``:TYPE``, ``:IGNORE``, and a type after a name: ``age:int``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphfm.errors import DataError
from graphfm.graphs.readers.targets import no_column

# Pairs of names that are used for the two ends of an edge, the usual ones first.
ENDS = (
    *(("source", "target"), ("source", "destination"), ("src", "dst"), ("from", "to"), ("u", "v")),
    *(("start", "end"), ("head", "tail"), ("node1", "node2"), ("node_1", "node_2"), ("id1", "id2")),
    *(("id_1", "id_2"), ("source_id", "target_id"), ("from_id", "to_id"), ("src_id", "dst_id")),
    *(("sourceid", "targetid"), ("fromnodeid", "tonodeid"), ("source_node", "target_node")),
)
IDS = ("id", "node_id", "nodeid", "node", "_id", "vertex")
WEIGHTS = ("weight", "weights", "w")
NEO4J = re.compile(
    r"(?P<name>[^:]*):(?P<type>[A-Za-z_]+)(?P<list>\[\])?(\((?P<space>[^)]*)\))?(\{.*\})?"
)
ROLES = ("ID", "START_ID", "END_ID", "LABEL", "TYPE", "IGNORE")
TEXT_TYPES = ("string", "char")


@dataclass(frozen=True, kw_only=True)
class Field:
    """One column of a header.

    Args:
        raw: As it stands there.
        name: Without its type: ``age`` of ``age:int``.
        role: One of :data:`ROLES`, or nothing.
        is_text: Whether its type says so.
        is_list: Whether it holds lists.
        space: Of an id, the kind of node it belongs to.
    """

    raw: str
    name: str
    role: str = ""
    is_text: bool = False
    is_list: bool = False
    space: str = ""


def read_header(names: Sequence[str]) -> list[Field]:
    """The columns of a table; types are read only where Neo4j's marks are among them."""
    found = [NEO4J.fullmatch(name) for name in names]
    if not any(match and match["type"] in ROLES[:3] for match in found):
        return [Field(raw=name, name=name) for name in names]
    fields = []
    for raw, match in zip(names, found, strict=True):
        if match is None:
            fields.append(Field(raw=raw, name=raw))
            continue
        role = match["type"] if match["type"] in ROLES else ""
        fields.append(
            Field(
                raw=raw,
                name=match["name"] or match["type"],
                role=role,
                is_text=match["type"].lower() in TEXT_TYPES,
                is_list=bool(match["list"]),
                space=match["space"] or "",
            )
        )
    return fields


def edge_ends(
    fields: Sequence[Field], source: str | None, destination: str | None, where: str
) -> tuple[str, str, bool]:
    """Columns of the two ends, and whether they were told rather than taken by position.

    Raises:
        DataError: GFM102 for ends of two kinds, GFM106 for fewer than two columns, GFM127 for a
            column that is not there.
    """
    names = [field.raw for field in fields]
    for asked in (source, destination):
        if asked is not None and asked not in names:
            raise no_column("GFM127", asked, names, where)
    starts = [field for field in fields if field.role == "START_ID"]
    ends = [field for field in fields if field.role == "END_ID"]
    if starts and ends and not (source or destination):
        if starts[0].space != ends[0].space:
            raise DataError(
                "GFM102",
                f"expected one kind of node, got edges from {starts[0].space or 'nodes'!r} to "
                f"{ends[0].space or 'nodes'!r}",
                where=where,
                fix="graphfm reads graphs of one kind of node: choose one, or project on it",
            )
        return starts[0].raw, ends[0].raw, True
    folded = {name.casefold(): name for name in reversed(names)}
    for one, other in ENDS:
        if one in folded and other in folded:
            return source or folded[one], destination or folded[other], True
    free = [name for name in names if name not in (source, destination)]
    missing = [asked is None for asked in (source, destination)].count(True)
    if len(free) < missing:
        raise DataError(
            "GFM106",
            f"an edge list needs two columns, got {len(names)}: {', '.join(names)[:80]!r}",
            where=where,
            why="cells may be separated by , ; | a tab or one space",
        )
    first = source if source is not None else free.pop(0)
    second = destination if destination is not None else free.pop(0)
    return first, second, missing == 0


def id_column(fields: Sequence[Field], asked: str | None, where: str) -> tuple[str, bool]:
    """Column of the node ids, and whether it was told rather than taken by position.

    Raises:
        DataError: GFM127 for a column that is not there.
    """
    names = [field.raw for field in fields]
    if asked is not None:
        if asked not in names:
            raise no_column("GFM127", asked, names, where)
        return asked, True
    marked = [field.raw for field in fields if field.role == "ID"]
    if marked:
        return marked[0], True
    folded = {name.casefold(): name for name in reversed(names)}
    for name in IDS:
        if name in folded:
            return folded[name], True
    return names[0], False
