"""Classification: one score per class, cross-entropy; a pool of closed-form experts.

Shapes:
    Q  targets   C  classes   E  experts   M  ensemble members
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.config.parts import PartConfig
from graphfm.model.nn.linear_head import LinearHead

TRUST = 5.0  # fall of log weight per unit of held-out loss / log C; 3 and 10: worse on 68 graphs


class Config(PartConfig):
    """Empty: there is nothing to set."""

    kind: Literal["classify"] = "classify"

    def build(self, *, dim: int, num_classes: int, num_experts: int = 1) -> Head:
        """Build the module for one dataset.

        Args:
            dim: Width of the input: node state and raw columns, without the columns of experts.
            num_classes: Number of classes C.
            num_experts: Number of experts E, the linear head included. Default: no pool.
        """
        if num_experts == 1:
            return Head(dim, num_classes)
        return ExpertHead(dim, num_classes, num_experts)


class Head(LinearHead):
    """A linear classifier of the node states."""

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy of each target over log C: (Q, C), (Q,) -> (Q,).

        The uniform prediction has loss 1. An unlabelled target (-1) has loss 0.
        """
        losses = F.cross_entropy(logits, y, reduction="none", ignore_index=-1)
        return losses / math.log(logits.shape[1])

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """Logits (Q, C) -> probabilities (Q, C); each row sums to 1."""
        return logits.softmax(dim=1)

    @staticmethod
    def ensemble_logits(logits: Tensor) -> Tensor:
        """Return the logits of the mean probability: (M, Q, C) -> (Q, C)."""
        return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))

    @staticmethod
    def targets(y: Tensor, num_classes: int) -> Tensor:
        """Return the targets of a closed-form fit, one-hot: (Q,) -> (Q, C)."""
        return F.one_hot(y, num_classes).to(torch.float64)


class ExpertHead(Head):
    """A weighted mean of the predictions of several experts; the first expert is linear.

    ``p = sum_e w_e p_e`` with ``w = softmax(offset - TRUST * held-out loss)``: a linear pool, in
    which a confident and wrong expert cannot exclude a class. The input has the columns of a linear
    head, followed by those of ``graphfm.experts.pool``: log-probabilities of the other
    experts, NaN if an expert does not answer.

    Args:
        dim: Width of the columns that the linear expert reads.
        num_classes: Number of classes C.
        num_experts: Number of experts E, the linear expert included.

    Attributes:
        held_out: (E,) held-out loss of each expert over log C.
        offset: (E,) fitted log weights.
        sharpness: Log of the fitted factor of the pooled logits.
    """

    held_out: Tensor
    offset: Tensor
    sharpness: Tensor

    def __init__(self, dim: int, num_classes: int, num_experts: int):
        super().__init__(dim, num_classes)
        self.register_buffer("held_out", torch.full((num_experts,), torch.inf))
        self.register_buffer("offset", torch.zeros(num_experts))
        self.register_buffer("sharpness", torch.zeros(()))

    def forward(self, states: Tensor) -> Tensor:
        """Node states, raw columns and columns of the experts -> logits (Q, C)."""
        return self.pool_experts(*self.expert_log_probs(states), self.offset, self.sharpness)

    def expert_log_probs(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of all experts (Q, E, C), and a mask of answers (Q, E)."""
        num_linear = self.score.in_features
        linear, others = states.split([num_linear, states.shape[1] - num_linear], dim=1)
        own = self.score(linear).log_softmax(dim=1)
        log_probs = torch.cat([own[:, None], others.unflatten(1, (-1, own.shape[1]))], dim=1)
        return log_probs.nan_to_num(), ~log_probs[..., 0].isnan()

    def pool_experts(
        self, log_probs: Tensor, answers: Tensor, offset: Tensor, sharpness: Tensor
    ) -> Tensor:
        """Return the pooled logits: (Q, E, C), (Q, E) bool, (E,), scalar -> (Q, C)."""
        trust = offset - TRUST * (self.held_out - self.held_out.min())
        weight = trust.expand(len(log_probs), -1)
        weight = weight.masked_fill(~answers, -torch.inf).log_softmax(dim=1)
        return (weight[..., None] + log_probs).logsumexp(dim=1) * sharpness.exp()
