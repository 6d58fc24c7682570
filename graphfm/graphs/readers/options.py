"""Options for reading a graph file, and the record of how one was read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.columns import Column, plan_from_json, plan_to_json
from graphfm.graphs.readers.edges import DuplicateWeights, UnknownNodes
from graphfm.graphs.spec import Task

CONVERT = (
    "in a Python that trusts the file: torch.save(data.to_dict(), 'graph.pt'), "
    "scipy.sparse.save_npz('graph.npz', adjacency), or write edges.csv and nodes.csv"
)


def _unsafe(path: Path, what: str) -> DataError:
    return DataError(
        "GFM305",
        f"not opened: it holds {what}",
        where=str(path),
        why="reading it could run code",
        fix=CONVERT,
    )


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a file does not say of itself.

    Args:
        nodes: The node table, beside an edge list.
        target: Column to predict; several with commas between, or a pattern with ``*``.
        need_target: Whether a table without the target is an error.
        source: Column of the edge list; default: by its usual names, else the first.
        destination: As ``source``; else the second.
        id: Column of the node table; default: by its usual names, else the first.
        directed: None = look; False = every line stands for both directions.
        unknown_nodes: What becomes of an edge whose end the node table does not have.
        duplicate_weights: What becomes of the weights of an edge that is listed more than once.
        strip_ids: Cut space around ids.
        features: Columns to use, as ``target``, or ``none``; None = all.
        obsp: Which graph of the cells of an .h5ad.
        task: Whether the target is a class or a number; ``auto`` = a number with fractions is one.
    """

    nodes: Path | None = None
    target: str | None = None
    need_target: bool = True
    source: str | None = None
    destination: str | None = None
    id: str | None = None
    directed: bool | None = None
    unknown_nodes: UnknownNodes = "error"
    duplicate_weights: DuplicateWeights = "sum"
    strip_ids: bool = False
    features: str | None = None
    obsp: str | None = None
    task: Task = "auto"


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
