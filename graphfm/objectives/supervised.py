"""Learn from labels: the loss of each target's own head, balanced between graphs.

Shapes:
    Q  targets   B  graphs
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from graphfm.parts import PartConfig

BALANCE = {"graph": 0.0, "sqrt": 0.5, "target": 1.0}  # weight of a graph = targets ** this


class Config(PartConfig):
    """How graphs of one step are weighed against each other."""

    kind: Literal["supervised"] = "supervised"
    balance: Literal["graph", "target", "sqrt"] = "graph"
    """graph = every graph alike, target = every target alike, sqrt = between."""

    def build(self) -> Objective:
        """The objective."""
        return Objective(BALANCE[self.balance])


class Objective:
    """See the module.

    Args:
        power: A graph with n targets weighs n to this power.
    """

    def __init__(self, power: float):
        self.power = power

    def __call__(
        self, model, batch, totals: Mapping[str, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Loss of a step, or a batch's share of it.

        Args:
            model: A GraphFM.
            batch: A GraphBatch with labels.
            totals: Targets of each graph in the whole step, by name; None = the batch is the step.
                Shares of all batches of a step add up to what one batch of all would give.

        Returns:
            The loss, a scalar, over log C: 1 = the uniform guess; and the mean loss of each graph,
            (B,), without gradient.
        """
        losses = []
        for name, logits, y in zip(batch.names, model(batch), batch.y, strict=True):
            losses.append(model.head(name).loss(logits.float(), y).mean())
        per_graph = torch.stack(losses)
        # On the host, and sent without waiting: reading sizes from the device would stop the step.
        sizes = torch.tensor(batch.query_ptr).diff().to(per_graph.dtype)
        weights = norm = sizes**self.power
        if totals is not None:
            whole = torch.tensor([float(totals[name]) for name in batch.names])
            weights = whole**self.power * (sizes / whole)
            norm = torch.tensor([float(n) for n in totals.values()]) ** self.power
        if per_graph.is_cuda:
            weights = weights.pin_memory().to(per_graph.device, non_blocking=True)
        return (per_graph * weights).sum() / float(norm.sum()), per_graph.detach()
