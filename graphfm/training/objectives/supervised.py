"""Learn from labels: the loss of each target's own head, balanced between graphs.

Shapes:
    Q  targets   B  graphs
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from graphfm.config.parts import PartConfig

BALANCE = {"graph": 0.0, "sqrt": 0.5, "target": 1.0}  # weight of a graph = targets ** this


class Config(PartConfig):
    """How graphs of one step are weighed against each other."""

    reads_raw: ClassVar[bool] = False
    """Whether batches must hold raw multi-hop features."""
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

    reads_taught = False  # what :meth:`judge` is given beside the nodes that it judges on

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
        return balanced(per_graph, batch, totals, self.power), per_graph.detach()

    def judge(self, model, batch, taught=None) -> list[tuple[Tensor, Tensor]]:
        """Loss and probabilities (Q_b, C_b) of each graph of a batch, B pairs.

        Args:
            model: A GraphFM, in evaluation mode.
            batch: A GraphBatch with labels.
            taught: Not read: the heads have learned already.
        """
        del taught
        found = []
        for name, logits, y in zip(batch.names, model(batch), batch.y, strict=True):
            head = model.head(name)
            found.append((head.loss(logits, y).mean(), head.probabilities(logits)))
        return found


def balanced(per_graph: Tensor, batch, totals: Mapping[str, int] | None, power: float) -> Tensor:
    """Loss of a step, or a batch's share of it, from the mean loss of each graph (B,).

    Args:
        per_graph: (B,).
        batch: A GraphBatch.
        totals: As of :meth:`Objective.__call__`.
        power: A graph with n targets weighs n to this power.
    """
    # On the host, and sent without waiting: reading sizes from the device would stop the step.
    sizes = torch.tensor(batch.query_ptr).diff().to(per_graph.dtype)
    weights = norm = sizes**power
    if totals is not None:
        whole = torch.tensor([float(totals[name]) for name in batch.names])
        weights = whole**power * (sizes / whole)
        norm = torch.tensor([float(n) for n in totals.values()]) ** power
    if per_graph.is_cuda:
        weights = weights.pin_memory().to(per_graph.device, non_blocking=True)
    return (per_graph * weights).sum() / float(norm.sum())
