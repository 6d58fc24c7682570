"""Supervised objective: the loss of each graph's own head, averaged over the graphs of a step.

    l_g   = mean over targets q of g of  loss(head_g(s_q), y_q) / log C_g
    loss  = sum_g n_g^p l_g / sum_g n_g^p          n_g targets of g in the step

p = 0 weighs graphs equally, p = 1 targets, p = 1/2 is between. The division by log C makes 1 the
loss of a uniform guess for every number of classes.

Shapes:
    B  graphs of a batch   Q_b  targets of graph b   C_b  its classes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from graphfm.config.parts import PartConfig

POWERS = {"graph": 0.0, "sqrt": 0.5, "target": 1.0}  # weight of a graph = targets ** power


class Config(PartConfig):
    """Weighting of the graphs of a step."""

    reads_raw: ClassVar[bool] = False
    """True if batches must hold raw multi-hop features."""
    kind: Literal["supervised"] = "supervised"
    balance: Literal["graph", "target", "sqrt"] = "graph"
    """graph = graphs weigh the same, target = targets weigh the same, sqrt = between."""

    def build(self) -> Objective:
        """Build the objective."""
        return Objective(POWERS[self.balance])


class Objective:
    """Loss of the graphs' own heads.

    Args:
        power: A graph with n targets has the weight n ** power.
    """

    needs_training_nodes = False
    """True if :meth:`evaluate` needs a batch of training nodes."""

    def __init__(self, power: float):
        self.power = power

    def __call__(
        self, model, batch, totals: Mapping[str, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of a step, or the term of one of its batches.

        Args:
            model: GraphFM.
            batch: GraphBatch with labels.
            totals: Number of targets of each graph in the whole step, by name. The terms of all
                batches of a step add up to the loss of one batch of all targets. Default: this
                batch is the whole step.

        Returns:
            The loss over log C, a scalar; and the mean loss of each graph, (B,), without gradient.
        """
        losses = []
        for name, logits, y in zip(batch.names, model(batch), batch.y, strict=True):
            losses.append(model.head(name).loss(logits.float(), y).mean())
        per_graph = torch.stack(losses)
        return weighted_loss(per_graph, batch, totals, self.power), per_graph.detach()

    def evaluate(self, model, batch, training=None) -> list[tuple[Tensor, Tensor]]:
        """Return loss, a scalar, and probabilities, (Q_b, C_b), of each graph of a batch.

        Args:
            model: GraphFM in evaluation mode.
            batch: GraphBatch with labels.
            training: Not used: the heads are trained.
        """
        del training
        results = []
        for name, logits, y in zip(batch.names, model(batch), batch.y, strict=True):
            head = model.head(name)
            results.append((head.loss(logits, y).mean(), head.probabilities(logits)))
        return results


def weighted_loss(
    per_graph: Tensor, batch, totals: Mapping[str, int] | None, power: float
) -> Tensor:
    """Return the weighted mean of the losses of graphs, or the term of one batch of a step.

    Args:
        per_graph: Mean loss of each graph of the batch, (B,).
        batch: GraphBatch.
        totals: See :meth:`Objective.__call__`.
        power: A graph with n targets has the weight n ** power.

    Returns:
        A scalar.
    """
    # Made on the CPU and copied without waiting: reading sizes from the device would stall it.
    sizes = torch.tensor(batch.query_ptr).diff().to(per_graph.dtype)
    weights = norm = sizes**power
    if totals is not None:
        whole = torch.tensor([float(totals[name]) for name in batch.names])
        weights = whole**power * (sizes / whole)
        norm = torch.tensor([float(n) for n in totals.values()]) ** power
    if per_graph.is_cuda:
        weights = weights.pin_memory().to(per_graph.device, non_blocking=True)
    return (per_graph * weights).sum() / float(norm.sum())
