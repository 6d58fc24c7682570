"""Roles of the columns of an edge list and of a node table, found by their names.

Headers of Neo4j's export name the roles: ``:START_ID(Person)``, ``:END_ID``, ``:ID``, ``:LABEL``,
``:TYPE``, ``:IGNORE``, and a type after a name: ``age:int``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphfm.errors import DataError
from graphfm.graphs.readers.targets import no_column

# Pairs of names for the two ends of an edge, the most usual first.
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
        raw: Name as in the file.
        name: Name without its type: ``age`` for ``age:int``.
        role: One of :data:`ROLES`. Default: none.
        is_text: True if its type is text.
        is_list: True if it holds lists.
        space: Kind of node that a column of ids refers to. Default: not given.
    """

    raw: str
    name: str
    role: str = ""
    is_text: bool = False
    is_list: bool = False
    space: str = ""


def read_header(names: Sequence[str]) -> list[Field]:
    """Return the columns of a table; types are read only from headers with Neo4j's marks."""
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
    """Return the columns of the two ends, and False if they were chosen by position.

    Args:
        fields: Columns of the table.
        source: Column of one end. Default: found by its name, else by position.
        destination: Column of the other end. Default: found by its name, else by position.
        where: Path of the file, for messages.

    Raises:
        DataError: GFM102 for ends of two kinds, GFM106 for fewer than two columns, GFM127 for a
            column that the table does not have.
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
                fix="keep one kind of node, or project the edges on it",
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
    """Return the column of the node ids, and False if it was chosen by position.

    Args:
        fields: Columns of the table.
        asked: Name of the column. Default: found by its usual names, else the first.
        where: Path of the file, for messages.

    Raises:
        DataError: GFM127 for a column that the table does not have.
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
