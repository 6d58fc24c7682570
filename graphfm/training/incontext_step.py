"""Loss of a step of in-context pretraining.

Shapes:
    N  nodes   E  experts   C  classes   B  graphs
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.model.incontext import InContext
from graphfm.model.nn.class_tokens import Pack
from graphfm.training.tasks.solve import SolvedTask

PACKED = 4  # graphs of a pack


def pack_of(task: SolvedTask, dropped: np.ndarray | None = None) -> Pack:
    """Return a task as the network reads it: no hidden label is in it.

    Args:
        task: A solved task.
        dropped: Mask of experts to leave out, of the pool too. Default: none.
    """
    kept = np.arange(len(task.names)) if dropped is None else np.flatnonzero(~dropped)
    rows = torch.from_numpy(kept)
    return Pack.of(
        task.rowptr,
        task.col,
        torch.where(task.shown, task.y, -1),
        [task.names[i] for i in kept],
        task.log_probs[:, rows],
        task.held_out[rows],
    )


def choose_dropped(task: SolvedTask, share: float, seed: Sequence[int]) -> np.ndarray | None:
    """Return the mask of experts that a step leaves out; at least one stays."""
    rng = np.random.default_rng(seed)
    if rng.random() >= share:
        return None
    dropped = rng.random(len(task.names)) < rng.uniform(0, 0.6)
    dropped[rng.integers(len(dropped))] = False
    return dropped


def group_packs(
    tasks: Sequence[SolvedTask], packs: Sequence[Pack], max_tokens: int
) -> list[list[int]]:
    """Group tasks with the same number of classes, in order, into packs of limited size."""
    sizes = [pack.pool.shape for pack in packs]
    groups: list[list[int]] = []
    for i in sorted(range(len(tasks)), key=lambda i: (sizes[i][1], i)):
        last = groups[-1] if groups else []
        same = bool(last) and sizes[last[0]][1] == sizes[i][1]
        tokens = sum(sizes[j][0] for j in (*last, i)) * sizes[i][1]
        if same and len(last) < PACKED and tokens <= max_tokens:
            last.append(i)
        else:
            groups.append([i])
    return groups


def task_losses(logits: Tensor, pack: Pack, tasks: Sequence[SolvedTask]) -> Tensor:
    """Return the cross-entropy of the hidden nodes of each task over log C, (B,)."""
    parts = zip(logits.split(pack.ptr.diff().tolist()), tasks, strict=True)
    losses = []
    for own, task in parts:
        hidden = (task.y >= 0) & ~task.shown
        losses.append(F.cross_entropy(own[hidden], task.y[hidden]) / math.log(own.shape[1]))
    return torch.stack(losses)


def step_loss(
    model: InContext,
    tasks: Sequence[SolvedTask],
    dropped: Sequence[np.ndarray | None],
    *,
    max_tokens: int,
    backward: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the loss of each task with the network and of its pool, (B,); add up the gradient."""
    device = next(model.parameters()).device
    packs = [pack_of(task, drop) for task, drop in zip(tasks, dropped, strict=True)]
    found, before = torch.zeros(len(tasks)), torch.zeros(len(tasks))
    for group in group_packs(tasks, packs, max_tokens):
        pack, own = Pack.join([packs[i] for i in group]).to(device), [tasks[i] for i in group]
        losses = task_losses(model(pack).cpu(), pack, own)
        if backward:
            (losses.sum() / len(tasks)).backward()
        found[group] = losses.detach().float()
        before[group] = task_losses(pack.pool.cpu(), pack, own).float()
    return found, before
