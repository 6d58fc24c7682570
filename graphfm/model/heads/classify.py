"""One class of several: one score per class, cross-entropy.

Shapes:
    Q  targets   C  classes   E  experts
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.config.parts import PartConfig
from graphfm.model.nn.readout import LinearHead

TRUST = 5.0  # how fast it falls with held-out loss / log C; 3 and 10 were worse on 68 graphs


class Config(PartConfig):
    """Nothing to choose."""

    kind: Literal["classify"] = "classify"

    def build(self, *, dim: int, num_classes: int, num_experts: int = 1) -> Head:
        """The module for one dataset; ``dim`` counts the raw columns, not those of experts."""
        if num_experts == 1:
            return Head(dim, num_classes)
        return ExpertHead(dim, num_classes, num_experts)


class Head(LinearHead):
    """See the module."""

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Loss of each target over log C, 1 = the uniform guess: (Q, C), (Q,) -> (Q,).

        An unlabelled target (-1) has loss 0.
        """
        losses = F.cross_entropy(logits, y, reduction="none", ignore_index=-1)
        return losses / math.log(logits.shape[1])

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """(Q, C) -> (Q, C), rows sum to 1."""
        return logits.softmax(dim=1)

    @staticmethod
    def ensemble_logits(logits: Tensor) -> Tensor:
        """Logits of the mean probabilities of M members, up to a constant: (M, Q, C) -> (Q, C)."""
        return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))

    @staticmethod
    def targets(y: Tensor, num_classes: int) -> Tensor:
        """What a closed-form fit regresses on: (Q,) -> (Q, C), one-hot."""
        return F.one_hot(y, num_classes).to(torch.float64)


class ExpertHead(Head):
    """A head that is one closed-form expert among several: the mean of what all of them say.

    ``p = sum_e w_e p_e`` with ``w = softmax(offset - TRUST * held-out loss)``: a linear pool, in
    which an expert that is sure and wrong cannot rule a class out. It reads the columns of
    ``graphfm.fitting.experts.pool`` behind those of a linear head, which is the first expert.

    Args:
        dim: Width of what its own linear map reads.
        num_classes: C.
        num_experts: E, itself counted.
    """

    held_out: Tensor
    offset: Tensor
    sharpness: Tensor

    def __init__(self, dim: int, num_classes: int, num_experts: int):
        super().__init__(dim, num_classes)
        self.register_buffer("held_out", torch.full((num_experts,), torch.inf))  # loss / log C
        self.register_buffer("offset", torch.zeros(num_experts))
        self.register_buffer("sharpness", torch.zeros(()))

    def forward(self, states: Tensor) -> Tensor:
        """States, raw columns, columns of experts -> logits (Q, C)."""
        return self.pool_experts(self.expert_log_probs(states), self.offset, self.sharpness)

    def expert_log_probs(self, states: Tensor) -> Tensor:
        """Log-probabilities of all experts, itself the first: (Q, E, C); above 0 = says nothing."""
        linear, said = states.split(
            [self.score.in_features, states.shape[1] - self.score.in_features], dim=1
        )
        own = self.score(linear).log_softmax(dim=1)
        return torch.cat([own[:, None], said.unflatten(1, (-1, own.shape[1]))], dim=1)

    def pool_experts(self, said: Tensor, offset: Tensor, sharpness: Tensor) -> Tensor:
        """Logits of the pool: (Q, E, C), (E,), scalar -> (Q, C)."""
        trust = offset - TRUST * (self.held_out - self.held_out.min())
        silent = said[..., 0] > 0
        weight = trust.expand(len(said), -1).masked_fill(silent, -torch.inf).log_softmax(dim=1)
        return (weight[..., None] + said).logsumexp(dim=1) * sharpness.exp()
