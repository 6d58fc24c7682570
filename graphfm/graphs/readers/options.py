"""TODO: graphfm/graphs/readers/options.py, from graphfm/graphs/readers/containers.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.columns import Column
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


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadGraph:
    """A graph, and how its table became features: a model keeps the plan for the next table."""

    graph: Graph
    plan: tuple[Column, ...] | None = None
