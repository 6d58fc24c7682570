"""Solve the experts on a task; what remains is all that the network reads.

Shapes:
    N  nodes   E  experts   C  classes
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphfm.experts.pool import fit_experts
from graphfm.graphs.features.multihop import multihop
from graphfm.training.tasks.draw import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class SolvedTask:
    """A task with the predictions of its experts.

    Args:
        kind: ``columns``, ``synthetic`` or ``labels``.
        source: Id of the corpus graph, or ``drawn``.
        rowptr: CSR row pointers, (N + 1,) int64.
        col: Neighbors, (edges,) int64.
        y: Class of each node, (N,) int64, -1 = not in the loss.
        shown: Mask of shown nodes, (N,).
        names: Names of the experts, (E,).
        log_probs: Their log-probabilities, held out for shown nodes, (N, E, C).
        held_out: Their held-out loss over log C, (E,).
    """

    kind: str
    source: str
    rowptr: Tensor
    col: Tensor
    y: Tensor
    shown: Tensor
    names: tuple[str, ...]
    log_probs: Tensor
    held_out: Tensor


def solve(task: Task) -> SolvedTask | None:
    """Fit the experts to the shown labels, without trees; None if they cannot be fitted."""
    graph = task.graph
    assert graph.y is not None
    nodes = task.shown.nonzero().flatten()
    found = fit_experts(
        graph,
        multihop(graph),
        nodes,
        num_classes=graph.task.num_classes,
        seed=task.number,
        with_trees=False,
    )
    if found is None:
        return None
    experts, log_probs = found
    log_probs = log_probs.unflatten(1, (len(experts.names), -1))
    if not bool(torch.isfinite(log_probs).all()):
        return None
    return SolvedTask(
        kind=task.kind,
        source=task.source,
        rowptr=graph.rowptr,
        col=graph.col,
        y=graph.y,
        shown=task.shown,
        names=experts.names,
        log_probs=log_probs,
        held_out=experts.held_out,
    )
