"""What is passed to ``fit`` and ``predict``: a graph in any form, or rows of features alone.

Shapes:
    N  nodes   n  rows   F  feature columns
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError, RecipeError
from graphfm.graphs.convert import features, from_adjacency, from_networkx, from_pyg, is_networkx
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.columns import Column, plan_from_json, plan_to_json
from graphfm.graphs.readers.files import is_graph_file, read_file
from graphfm.graphs.readers.options import ReadOptions
from graphfm.graphs.spec import Task

log = logging.getLogger(__name__)

ROWS = "rows"  # name of the graph that rows without edges become
KEPT = tuple(f.name for f in fields(ReadOptions) if f.name not in ("nodes", "need_target"))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the file of a fit was read, so that the next one is read alike.

    Args:
        options: What the file did not say.
        plan: How the columns of its table became features; None without a table.
    """

    options: ReadOptions
    plan: tuple[Column, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for a checkpoint; a node table is named anew with every graph."""
        columns = None if self.plan is None else plan_to_json(self.plan)
        return {**{name: getattr(self.options, name) for name in KEPT}, "columns": columns}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Reading:
        """What :meth:`to_json` gave."""
        given = dict(saved)
        columns = given.pop("columns")
        plan = None if columns is None else plan_from_json(columns)
        return cls(options=ReadOptions(**given), plan=plan)


def is_file(thing: Any) -> bool:
    """Whether this names a file or folder: a path, or text that is one and no catalog id."""
    return isinstance(thing, Path) or (isinstance(thing, str) and is_graph_file(thing))


def is_matrix(thing: Any) -> bool:
    """Whether this is rows of numbers and not a graph, a path or an id."""
    if isinstance(thing, Graph | str | Path) or is_networkx(thing):
        return False
    return not any(hasattr(thing, name) for name in ("edge_index", "adj_t", "edge_types"))


def read_known(
    thing: Any, *, target: str | None, nodes: Any, options: ReadOptions | None, task: Task
) -> tuple[Graph, Reading | None]:
    """A graph to learn from, and how it was read if it is a file.

    Args:
        thing: What :func:`graphfm.graphs.inputs.as_graph` takes.
        target: Column or node attribute to predict.
        nodes: The node table beside an edge list.
        options: Whatever else a file does not say.
        task: What labels are.

    Raises:
        DataError: As the reader; GFM105 for a node table or options without a file.
    """
    if not is_file(thing):
        _no_table(nodes, options)
        return as_graph(thing, target=target, task=task), None
    options = options or ReadOptions()
    asked = replace(
        options,
        target=target if target is not None else options.target,
        nodes=Path(nodes) if nodes is not None else options.nodes,
        task=task,
    )
    read = read_file(Path(thing), asked)
    return read.graph, Reading(options=asked, plan=read.plan)


def read_like(thing: Any, reading: Reading | None, *, nodes: Any, task: Task) -> Graph:
    """A further graph, read as that of the fit was; labels need not be there.

    Args:
        thing: What :func:`graphfm.graphs.inputs.as_graph` takes.
        reading: Of the fit; None if that was no file.
        nodes: The node table beside an edge list.
        task: What labels are.

    Raises:
        DataError: As the reader.
    """
    if not is_file(thing):
        _no_table(nodes, None)
        return as_graph(thing, task=task)
    like = reading or Reading(options=ReadOptions(task=task))
    table = Path(nodes) if nodes is not None else None
    asked = replace(like.options, nodes=table, need_target=False)
    return read_file(Path(thing), asked, plan=like.plan).graph


def rows_graph(x: Any, y: Tensor | None = None, class_names: Sequence[str] = ()) -> Graph:
    """Rows of features as a graph without edges.

    Args:
        x: (n, F), dense or sparse.
        y: Labels as :class:`Graph` takes them.
        class_names: Their names.
    """
    matrix = sparse.csr_array(x) if sparse.issparse(x) else torch.from_numpy(np.array(x))
    return Graph.from_edges(
        np.zeros((2, 0), dtype=np.int64),
        num_nodes=x.shape[0],
        name=ROWS,
        x=features(matrix),
        y=y,
        class_names=tuple(class_names),
    )


def _no_table(nodes: Any, options: ReadOptions | None) -> None:
    if nodes is not None or options is not None:
        raise DataError(
            "GFM105",
            "a node table and reading options belong to a file",
            fix="leave nodes= and options= out, or pass the path of an edge list",
        )


def as_graph(thing: Any, *, target: str | None = None, task: Task = "auto") -> Graph:
    """Read whatever a user has as a graph.

    Args:
        thing: A :class:`Graph`, a PyG ``Data``, a NetworkX graph, an adjacency matrix of SciPy or
            NumPy, a file or folder, or an id of the catalog.
        target: The node attribute to predict, for a NetworkX graph, or the column, for a file;
            ``graphs.files.read_file`` takes more of what a file does not say.
        task: ``regress`` = labels are numbers, ``classify`` = classes, ``auto`` = numbers where
            they have fractions.

    Raises:
        DataError: GFM102 for anything else, GFM118 for labels that are not what ``task`` says.
    """
    if isinstance(thing, Graph):
        return thing
    if isinstance(thing, str | Path):
        from graphfm.graphs.readers.files import is_graph_file, read_file
        from graphfm.graphs.readers.options import ReadOptions

        if isinstance(thing, Path) or is_graph_file(thing):
            options = ReadOptions(target=target, task=task, need_target=target is not None)
            return read_file(Path(thing), options).graph
        from graphfm.graphs.catalog.catalog import Catalog

        return Catalog.read().load(thing)
    if any(hasattr(thing, name) for name in ("edge_index", "adj_t", "edge_types")):
        return from_pyg(thing, task=task)
    if is_networkx(thing):
        return from_networkx(thing, target=target, task=task)
    if sparse.issparse(thing) or isinstance(thing, np.ndarray):
        return from_adjacency(thing)
    raise DataError(
        "GFM102",
        "expected a Graph, a PyG Data, a NetworkX graph, a file or a dataset id, got "
        f"{type(thing)}",
        fix="Graph.from_edges(edge_index, num_nodes=...) makes one from arrays",
    )


if TYPE_CHECKING:
    from graphfm.graphs.graph import Graph
    from graphfm.graphs.readers.columns import Column
    from graphfm.graphs.readers.options import ReadOptions


@dataclass(frozen=True, kw_only=True)
class GraphInput:
    """A graph as it was asked for; :meth:`to_json` is kept beside a fitted model.

    Args:
        graph: It.
        options: How it was read.
        plan: How the columns of its table became features; None without a table.
    """

    graph: Graph
    options: ReadOptions
    plan: tuple[Column, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """What reading a further graph in the same way needs."""
        from graphfm.graphs.readers.columns import plan_to_json

        kept = ("source", "destination", "id", "directed", "duplicate_weights", "strip_ids",
                "features", "obsp")  # fmt: skip
        return {
            **{name: getattr(self.options, name) for name in kept},
            "task": "regress" if self.graph.task.kind == "regress" else "classify",
            "columns": None if self.plan is None else plan_to_json(self.plan),
        }


def read_graph(text: str, *, target: str | None = None, need_target: bool = True) -> Graph:
    """Read a graph from a file, or from the catalog by its id.

    Args:
        text: The file, folder or id.
        target: Column to predict, for a file; the catalog knows its own labels.
        need_target: Whether a file without that column is an error.

    Raises:
        DataError: As :func:`read_input`.
    """
    return read_input(text, target=target, need_target=need_target).graph


def read_input(text: str, *, like: dict[str, Any] | None = None, **options: Any) -> GraphInput:
    """Read a graph as the command line asks for it.

    Args:
        text: A file, a folder, or an id of the catalog.
        like: What :meth:`GraphInput.to_json` gave for the graph that a model was fitted to: its
            options count where none are given, and its columns become the same features.
        **options: The fields of :class:`ReadOptions`; None = not given.

    Raises:
        DataError: For whatever is wrong with the file, GFM120 for an id that is not there.
        RecipeError: GFM210 for an option of files beside a catalog id.
    """
    from graphfm.graphs.readers.columns import plan_from_json
    from graphfm.graphs.readers.files import is_graph_file, read_file
    from graphfm.graphs.readers.options import ReadOptions

    like = dict(like or {})
    columns = like.pop("columns", None)
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if options.get("directed") is False:
        given["directed"] = False
    for choice in ("unknown_nodes", "duplicate_weights", "task"):
        if choice in given:
            given[choice] = str(given[choice])
    need_target = bool(options.get("need_target", True))
    if is_graph_file(text):
        asked = ReadOptions(**{**like, **given, "need_target": need_target})
        plan = None if columns is None else plan_from_json(columns)
        read = read_file(Path(text), asked, plan=plan)
        return GraphInput(graph=read.graph, options=asked, plan=read.plan)
    usual = {"unknown_nodes": "error", "duplicate_weights": "sum", "task": "auto"}
    for choice in usual:
        if given.get(choice) == usual[choice]:
            del given[choice]
    given.pop("need_target", None)
    if given:
        flags = {"source", "destination", "directed"} & given.keys() or given.keys()
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(flags))
        raise RecipeError(
            "GFM210",
            f"{named} is about a file, but {text!r} is not a file",
            fix=f"check the path, or leave {named} out for a graph of the catalog",
        )
    from graphfm.graphs.catalog.catalog import Catalog

    return GraphInput(graph=Catalog.read().load(text), options=ReadOptions())
