"""What is passed to ``fit`` and ``predict``: a graph in any form, or rows of features alone.

Shapes:
    N  nodes   n  rows   F  feature columns
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.columns import Column, plan_from_json, plan_to_json
from graphfm.graphs.convert import as_graph, features, is_networkx
from graphfm.graphs.files import ReadOptions, is_graph_file, read_file
from graphfm.graphs.graph import Graph
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
        thing: What :func:`graphfm.graphs.convert.as_graph` takes.
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
        thing: What :func:`graphfm.graphs.convert.as_graph` takes.
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
