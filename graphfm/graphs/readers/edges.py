"""Reader of edge lists: ends as text, matched to node ids without a Python loop over lines.

Shapes:
    N  nodes   E  lines of the edge list
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphfm.errors import FEW, DataError
from graphfm.graphs.readers.ends import choose_ends, first_line_is_edge, paired_names
from graphfm.graphs.readers.frames import read_frame
from graphfm.graphs.readers.headers import WEIGHTS, read_header
from graphfm.graphs.readers.tables import MistypedError, TableFile

log = logging.getLogger(__name__)

UnknownNodes = Literal["error", "drop", "add"]
DuplicateWeights = Literal["sum", "mean", "first", "error"]
RULES = {"sum": "summed", "mean": "their mean is taken", "first": "the first one counts"}
MAX_COMPARED = 1_000_000  # ids up to which similar ones are searched for, which takes 1 s


APOC = ("_id", "_start", "_end")  # columns of apoc.export.csv.all


@dataclass(kw_only=True, eq=False)
class EdgeList:
    """Edge list as text.

    Args:
        table: The table, for messages.
        ends: Ids of both ends of each line, two ``pyarrow.ChunkedArray`` of (E,).
        weight: Edge weights, (E,) float32. Default: none.
        all_ids: Ids of all nodes, (N,) text, where the file names them. Default: those of the ends.
        directed: Direction of all edges, where a column says it. Default: unknown.
    """

    table: TableFile
    ends: tuple[Any, Any]
    weight: np.ndarray | None = None
    all_ids: Any | None = None
    directed: bool | None = None

    def own_ids(self) -> Any:
        """Return the ids in the list, (N,), sorted as numbers if all are numbers, else as text."""
        import pyarrow as pa
        from pyarrow import compute as pc

        if self.all_ids is not None:
            return self.all_ids
        both = pa.chunked_array([*self.ends[0].chunks, *self.ends[1].chunks], type=pa.string())
        ids = pc.unique(both)
        keys = pa.table({"length": pc.binary_length(ids), "id": ids})
        numbers = bool(pc.all(pc.match_substring_regex(ids, "^[0-9]+$")).as_py())
        by = [("length", "ascending")] * numbers + [("id", "ascending")]
        return ids.take(pc.sort_indices(keys, sort_keys=by))

    def match(
        self, ids: Any, nodes: TableFile | None, unknown: UnknownNodes
    ) -> tuple[np.ndarray, Any]:
        """Return the positions of both ends among the ids, (2, E') int64, and the ids.

        Args:
            ids: Ids of the nodes, (N,) text, unique.
            nodes: Node table of the ids, for messages. Default: none.
            unknown: Rule for an end that is not among the ids: ``error``, ``drop`` its edge, or
                ``add`` it to the ids.

        Raises:
            DataError: GFM112 for an end that is not among the ids.
        """
        import pyarrow as pa
        from pyarrow import compute as pc

        self._respell_floats(ids)
        codes = [pc.index_in(end, value_set=ids) for end in self.ends]
        if any(code.null_count for code in codes):
            if unknown == "error":
                raise self._unknown(codes, ids, nodes)
            if unknown == "drop":
                keep = pc.and_(*[pc.is_valid(code) for code in codes])
                dropped = len(keep) - pc.sum(keep).as_py()
                log.warning("%s: %s of %s edges are dropped, because an end is not in %s",
                            self.table.path.name, f"{dropped:,}", f"{len(keep):,}",
                            nodes.path.name if nodes else "the table")  # fmt: skip
                codes = [code.filter(keep) for code in codes]
                if self.weight is not None:
                    self.weight = self.weight[np.asarray(keep)]
            else:
                missing = [
                    end.filter(pc.is_null(code)) for end, code in zip(self.ends, codes, strict=True)
                ]
                new = pc.unique(pa.chunked_array([c for end in missing for c in end.chunks]))
                ids = pa.concat_arrays([ids, new])
                log.warning("%s: %s nodes are added that are not in the node table; they have no "
                            "features and no label", self.table.path.name,
                            f"{len(new):,}")  # fmt: skip
                codes = [pc.index_in(end, value_set=ids) for end in self.ends]
        pairs = np.empty((2, len(codes[0])), dtype=np.int64)
        for row, code in zip(pairs, codes, strict=True):
            row[:] = code.to_numpy()
        return pairs, ids

    def _respell_floats(self, ids: Any) -> None:
        """Write ends such as ``0.0`` as ``0`` (or the reverse) if no end is an id otherwise."""
        from pyarrow import compute as pc

        if not len(ids) or any(pc.any(pc.is_in(end, value_set=ids)).as_py() for end in self.ends):
            return
        floats = "^-?[0-9]+[.]0$"
        if all(pc.all(pc.match_substring_regex(end, floats)).as_py() for end in self.ends):
            ends = [pc.replace_substring_regex(end, "[.]0$", "") for end in self.ends]
        elif pc.all(pc.match_substring_regex(ids, floats)).as_py():
            ends = [pc.binary_join_element_wise(end, ".0", "") for end in self.ends]
        else:
            return
        if any(pc.any(pc.is_in(end, value_set=ids)).as_py() for end in ends):
            self.ends = (ends[0], ends[1])
            log.warning("%s: all its ids differ from those of the node table by '.0' only; they "
                        "are read as the same nodes", self.table.path.name)  # fmt: skip

    def merge_weights(self, pairs: np.ndarray, ids: Any, rule: DuplicateWeights) -> None:
        """Merge the weights of edges that are listed more than once, and log what was found.

        The model does not use weights. They are checked and counted nevertheless, so that the user
        learns of weights that look wrong.

        Args:
            pairs: Positions of both ends, (2, E), from :meth:`match`.
            ids: Ids of the nodes, (N,) text.
            rule: ``sum``, ``mean``, ``first``, or ``error`` if two weights differ.

        Raises:
            DataError: GFM128 for weights that differ under ``error``.
        """
        if self.weight is None:
            return
        key = pairs[0] * len(ids) + pairs[1]
        order = np.argsort(key, kind="stable")
        key, weight = key[order], self.weight[order].astype(np.float64)
        starts = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])
        first = weight[starts]
        counts = np.diff(np.append(starts, len(key)))
        other = weight != np.repeat(first, counts)
        conflicts = int(np.logical_or.reduceat(other, starts).sum()) if len(key) else 0
        if conflicts and rule == "error":
            raise self._conflict(order[other], pairs, ids, conflicts)
        if rule != "first" and len(key):
            first = np.add.reduceat(weight, starts)
            first = first / counts if rule == "mean" else first
        self.weight = first.astype(np.float32)
        parts = [f"{count:,} {what}" for count, what in (
            (int((first < 0).sum()), "are negative"),
            (int((first == 0).sum()), "are zero (the edge is kept)"),
            (conflicts, f"edges were listed with several weights ({RULES.get(rule, rule)}; "
                        "--duplicate-weights)"),
        ) if count]  # fmt: skip
        log.warning("%s: edge weights are read but not used by the model%s", self.table.path.name,
                    f"; {', '.join(parts)}" if parts else "")  # fmt: skip

    def _conflict(
        self, lines: np.ndarray, pairs: np.ndarray, ids: Any, conflicts: int
    ) -> DataError:
        """Return the error for weights that differ, with lines that differ from an earlier one.

        After edges were dropped, positions no longer count lines, so no line is named.
        """
        lines = np.sort(lines)
        whole = pairs.shape[1] == len(self.ends[0])
        where = self.table.where(lines[:FEW].tolist()) if whole else str(self.table.path)
        one, other = (ids[int(place)].as_py() for place in pairs[:, lines[0]])
        return DataError(
            "GFM128",
            f"{conflicts:,} edges are listed more than once, with weights that differ",
            where=f"{where}: {one!r} to {other!r}",
            fix="--duplicate-weights sum, mean or first",
        )

    def _unknown(self, codes: list[Any], ids: Any, nodes: TableFile | None) -> DataError:
        """Return the error for ends that are not among the ids."""
        import pyarrow as pa
        from pyarrow import compute as pc

        gone = [np.asarray(code.is_null()) for code in codes]
        rows = np.flatnonzero(gone[0] | gone[1])
        missing = [end.filter(pc.is_null(code)) for end, code in zip(self.ends, codes, strict=True)]
        names = pc.unique(pa.chunked_array([c for end in missing for c in end.chunks]))
        shown = names.slice(0, FEW).to_pylist()
        spaced = pc.is_in(pc.utf8_trim_whitespace(names), value_set=pc.utf8_trim_whitespace(ids))
        why = "ids are compared as exact text"
        close = names.filter(spaced)
        if len(close):
            why += f"; {close[0].as_py()!r} differs by a space only"
        return DataError(
            "GFM112",
            f"the edge list names {len(names):,} nodes that are not in {_name(nodes)}",
            where=f"{self.table.where(rows[:FEW].tolist())}: {', '.join(map(repr, shown))}"
            + (", ..." if len(names) > FEW else ""),
            why=why,
            fix="add the nodes, or --unknown-nodes drop|add"
            + (", or --strip-ids" if len(close) else ""),
        )


def read_edges(
    table: TableFile,
    source: str | None,
    destination: str | None,
    *,
    strip: bool = False,
    header: bool | None = None,
    ids: Any | None = None,
) -> EdgeList:
    """Read an edge list.

    Args:
        table: The table.
        source: Column of one end. Default: found by its name, else the first.
        destination: Column of the other end. Default: found by its name, else the second.
        strip: If True, space around ids is removed.
        header: If True, the first line names the columns; if False, it is an edge. Default: found
            by its content.
        ids: Ids of the nodes, (N,) text. Default: not known.

    Raises:
        DataError: GFM109 for a weight that is not a finite number, GFM111 for an empty id, and the
            errors of :func:`choose_ends`.
    """
    if set(APOC) <= set(table.names):
        raise DataError(
            "GFM106",
            f"nodes and edges are in one table, with the columns {', '.join(APOC)}",
            where=str(table.path),
            why="apoc.export.csv.all of Neo4j writes such a table",
            fix="export them apart (apoc.export.csv.query), or split the file: rows with a _start "
            "are edges (--source _start --destination _end), the others nodes (--id _id)",
        )
    fields = read_header(table.names)
    first, second, is_named = choose_ends(table, fields, source, destination, ids)
    both = table.text(list(dict.fromkeys((first, second))))
    ends = (both[first], both[second])
    may_be_edge = table.has_header and bool(table.delimiter) and table.skip > 0
    if may_be_edge and header is None and (not is_named or paired_names((first, second))):
        if source is None and destination is None:
            if first_line_is_edge(table, (first, second), ends, ids):
                return read_edges(table.headless(), None, None, strip=strip, ids=ids)
    if not is_named:
        log.warning("%s: columns %s and %s are read as the two ends of an edge%s", table.path.name,
                 repr(first), repr(second),
                 "" if table.has_header else " (the file has no header)")  # fmt: skip
    ends = (clean_ids(table, ends[0], strip), clean_ids(table, ends[1], strip))
    weight = next((f.raw for f in fields if f.name.casefold() in WEIGHTS), None)
    if weight in (first, second):
        weight = None
    kind = next((f.raw for f in fields if f.name.casefold() == "type"), None)
    directed = None if kind in (None, first, second) else _stated_direction(table, kind)
    used = (first, second, weight, *(() if directed is None else (kind,)))
    others = [f.raw for f in fields if f.raw not in used]
    if others:
        log.warning("%s: %d columns of the edge list are not read: %s", table.path.name,
                    len(others), ", ".join(map(repr, others[:FEW])))  # fmt: skip
    values = None if weight is None else _weights(table, weight)
    return EdgeList(table=table, ends=ends, weight=values, directed=directed)


def _stated_direction(table: TableFile, column: str) -> bool | None:
    """Return true or false if all edges are "Directed" or all "Undirected", as Gephi writes."""
    from pyarrow import compute as pc

    words = pc.unique(pc.utf8_lower(table.text([column])[column])).to_pylist()
    return {"directed": True, "undirected": False}.get(words[0] or "") if len(words) == 1 else None


def clean_ids(table: TableFile, ids: Any, strip: bool) -> Any:
    """Return ids in the form in which they are compared: exact text, none of them empty.

    Args:
        table: The table, for messages.
        ids: Ids, (N,) text.
        strip: If True, space around them is removed.

    Raises:
        DataError: GFM111 for an empty id, with its line.
    """
    from pyarrow import compute as pc

    ids = ids.fill_null("")
    trimmed = pc.utf8_trim_whitespace(ids)
    empty = pc.equal(trimmed, "")
    if pc.any(empty).as_py():
        rows = np.flatnonzero(np.asarray(empty))
        raise DataError(
            "GFM111",
            f"{len(rows):,} ids are empty",
            where=table.where(rows[:FEW].tolist()),
            fix="give every node an id, or delete the lines",
        )
    return trimmed if strip else ids


def warn_similar_ids(ids: Any, where: str) -> None:
    """Log ids that differ only by space, case or leading zeros; they are different nodes."""
    from pyarrow import compute as pc

    if len(ids) > MAX_COMPARED:
        return
    plain = pc.utf8_trim_whitespace(ids)
    for what, folded in (
        ("space around them or upper case (--strip-ids cuts the space)", pc.utf8_lower(plain)),
        ("leading zeros", pc.utf8_ltrim(plain, characters="0")),
    ):
        codes = folded.dictionary_encode().indices.to_numpy()
        counts = np.bincount(codes)
        alike = np.flatnonzero(counts[codes] > 1)
        if len(alike):
            shown = ids.take(alike[np.argsort(codes[alike], kind="stable")][:6]).to_pylist()
            log.warning("%s: %s ids differ from others only by %s: %s; they are different nodes",
                        where, f"{len(alike):,}", what,
                        ", ".join(map(repr, shown)))  # fmt: skip


def _weights(table: TableFile, column: str) -> np.ndarray:
    """Return the edge weights, (E,) float32, all finite."""
    try:
        frame = read_frame(table, [column], finite=False)
    except MistypedError as error:
        raise DataError("GFM109", f"not readable: {error}", where=str(table.path)) from None
    if frame.kinds[column] == "category":
        raise DataError(
            "GFM109",
            f"edge weights must be numbers, but {column!r} holds text",
            where=str(table.path),
            fix="rename the column if it does not hold weights",
        )
    values = np.asarray(frame.numbers)[:, 0]
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(
            "GFM109",
            f"edge weights must be finite numbers, but {len(bad):,} of {len(values):,} are not",
            where=table.where(bad[:FEW].tolist()) + f", column {column!r}",
            fix="give a weight to every edge, or to none",
        )
    return values


def _name(table: TableFile | None) -> str:
    return table.path.name if table else "the node table"
