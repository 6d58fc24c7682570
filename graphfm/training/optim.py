"""Optimizer and schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from graphfm.config import TrainConfig


def lr_at(step: int, c: TrainConfig) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to ``final_lr`` of the peak.

    >>> c = TrainConfig(steps=100, warmup_steps=10, lr=1.0, final_lr=0.1)
    >>> [round(lr_at(s, c), 3) for s in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    """
    if step < c.warmup_steps:
        return c.lr * (step + 1) / c.warmup_steps
    done = (step - c.warmup_steps) / max(1, c.steps - c.warmup_steps)
    low = c.final_lr
    return c.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def make_optimizer(modules: Iterable[nn.Module], c: TrainConfig) -> torch.optim.AdamW:
    """AdamW over some modules; weight decay on matrices only.

    A parameter without a gradient in a step is left alone: it neither moves nor decays, and its
    own step count stands still. So a dataset that was not visited does not change.
    """
    params = [p for module in modules for p in module.parameters() if p.requires_grad]
    matrices = [p for p in params if p.ndim >= 2]
    vectors = [p for p in params if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": c.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=c.lr, betas=(0.9, 0.98), fused=True)
