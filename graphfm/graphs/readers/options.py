"""Options for reading a graph file, and the record of how one was read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.columns import Column, plan_from_json, plan_to_json
from graphfm.graphs.readers.edges import DuplicateWeights, UnknownNodes
from graphfm.graphs.readers.tables import TableFile
from graphfm.graphs.spec import Task

CONVERT = (
    "in a Python that trusts the file: torch.save(data.to_dict(), 'graph.pt'), "
    "scipy.sparse.save_npz('graph.npz', adjacency), or write edges.csv and nodes.csv"
)


def unsafe_file(path: Path, what: str) -> DataError:
    """Return the error for a file that can only be read by running code.

    Args:
        path: Path of the file.
        what: Content that was found in it.
    """
    return DataError(
        "GFM305",
        f"not opened: it holds {what}",
        where=str(path),
        why="reading it could run code",
        fix=CONVERT,
    )


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Facts about a graph file that the file itself does not hold.

    Args:
        nodes: Node table beside an edge list: its path, or a table in memory. Default: none.
        target: Column to predict; several separated by commas, or a pattern with ``*``. Default:
            no labels are read.
        need_target: If True, a table without the target is an error.
        source: Column of the edge list with one end of an edge. Default: found by its usual names,
            else the first.
        destination: Column with the other end. Default: found by its usual names, else the second.
        id: Column of the node table with the ids. Default: found by its usual names, else the
            first.
        directed: If True, edges are kept as listed; if False, each line means both directions.
            Default: undirected if every edge has its reverse.
        unknown_nodes: Rule for edges whose end is not in the node table: ``error``, ``drop`` the
            edge, or ``add`` the node.
        duplicate_weights: Rule for an edge that is listed with several weights: ``sum``, ``mean``,
            ``first`` or ``error``.
        strip_ids: If True, space around ids is removed.
        header: If True, the first line of the edge list names its columns; if False, it is an edge.
            Default: found by its content.
        features: Columns to use, in the form of ``target``, or ``none``; a name after ``!`` is left
            out. Default: all.
        obsp: Key of the graph to read from an .h5ad file. Default: the only one.
        split: Split to take where the masks of a .pt or .npz file hold several, counted from 0.
            Default: such masks are an error.
        task: Kind of the target: ``classify``, ``regress``, or ``auto`` = a number if it has
            fractions.
    """

    nodes: Path | TableFile | None = None
    target: str | None = None
    need_target: bool = True
    source: str | None = None
    destination: str | None = None
    id: str | None = None
    directed: bool | None = None
    unknown_nodes: UnknownNodes = "error"
    duplicate_weights: DuplicateWeights = "sum"
    strip_ids: bool = False
    header: bool | None = None
    features: str | None = None
    obsp: str | None = None
    split: int | None = None
    task: Task = "auto"


WHOLE = ("target", "need_target", "task", "directed", "nodes")  # options of every format
OWN = ("obsp", "split")  # options of one format
APPLY = {
    **dict.fromkeys((".graphml", ".gexf", ".gml", ".json", ".cyjs"), (*WHOLE, "features", "id")),
    **dict.fromkeys((".npz", ".npy", ".pt", ".pth", ".pkl"), (*WHOLE, "split")),
    ".h5ad": (*WHOLE, "obsp"),
    ".mtx": tuple(
        f.name
        for f in fields(ReadOptions)
        if f.name not in ("source", "destination", "header", *OWN)
    ),
}  # a table takes all options but these


def refuse_unused(what: str, suffix: str, options: ReadOptions, like: ReadOptions) -> None:
    """Raise an error for an option that does not apply to a graph of this kind.

    Args:
        what: Path of the file, or name of the kind of graph.
        suffix: Suffix of files with this content.
        options: Options that were given.
        like: Options that were not given for this file: the defaults, or those of a fit.

    Raises:
        DataError: GFM105 with the names of the options.
    """
    names = [f.name for f in fields(ReadOptions) if f.name not in OWN]
    unused = [
        f.name
        for f in fields(ReadOptions)
        if f.name not in APPLY.get(suffix, names)
        and getattr(options, f.name) != getattr(like, f.name)
    ]
    if unused:
        flags = ", ".join("--" + name.replace("_", "-") for name in unused)
        raise DataError(
            "GFM105",
            f"{flags} does not apply to a {suffix} file"
            if what.endswith((suffix, ".gz"))
            else f"{flags} does not apply to {what}",
            where=what,
            fix=f"leave {flags} out",
        )


KEPT = tuple(f.name for f in fields(ReadOptions) if f.name not in ("nodes", "need_target"))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The record of how a file was read, so that later files are read the same way.

    Args:
        options: Options that the file was read with.
        plan: Rules by which the columns of its table became features. Default: none, for a file
            without named columns.
    """

    options: ReadOptions
    plan: tuple[Column, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for a checkpoint, without the path of the node table."""
        columns = None if self.plan is None else plan_to_json(self.plan)
        return {**{name: getattr(self.options, name) for name in KEPT}, "columns": columns}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Reading:
        """Make a record from what :meth:`to_json` returned."""
        columns = saved.get("columns")
        options = ReadOptions(**{k: v for k, v in saved.items() if k != "columns"})
        return cls(options=options, plan=None if columns is None else plan_from_json(columns))


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadGraph:
    """A graph together with the record of how it was read.

    Args:
        graph: The graph that was read.
        reading: How its file was read. Default: none, for a graph that came from no file.
    """

    graph: Graph
    reading: Reading | None = None

    @property
    def plan(self) -> tuple[Column, ...] | None:
        """Rules by which the columns of the table became features; None without a table."""
        return None if self.reading is None else self.reading.plan
