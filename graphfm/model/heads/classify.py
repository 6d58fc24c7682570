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

# Fall of log weight per unit of held-out loss / log C. 3 and 10 were worse on 68 graphs with many
# labels. The trust at few labels is fitted to corpus graphs (docs/notebook/incontext.md).
TRUST, LEAST_TRUST = 5.0, 1.0
FEW_LABELS = 7.0  # labels a class at which the trust is half way between both


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

    ``p = sum_e w_e p_e`` with ``w = softmax(offset - trust * held-out loss)``: a linear pool, in
    which a confident and wrong expert cannot exclude a class. The input has the columns of a linear
    head, followed by those of ``graphfm.experts.pool``: log-probabilities of the other
    experts, NaN if an expert does not answer.

    Args:
        dim: Width of the columns that the linear expert reads.
        num_classes: Number of classes C.
        num_experts: Number of experts E, the linear expert included.

    Attributes:
        held_out: (E,) held-out loss of each expert over log C.
        trust: Fall of log weight per unit of held-out loss, see :func:`trust_in_held_out`.
        offset: (E,) fitted log weights.
        sharpness: Log of the fitted factor of the pooled logits.
    """

    held_out: Tensor
    trust: Tensor
    offset: Tensor
    sharpness: Tensor

    def __init__(self, dim: int, num_classes: int, num_experts: int):
        super().__init__(dim, num_classes)
        self.register_buffer("held_out", torch.full((num_experts,), torch.inf))
        self.register_buffer("trust", torch.tensor(TRUST))
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
        weight = offset - self.trust * (self.held_out - self.held_out.min())
        weight = weight.expand(len(log_probs), -1).masked_fill(~answers, -torch.inf)
        return pool_log_probs(log_probs, weight) * sharpness.exp()

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Load a state; heads of an earlier version have no trust of their own."""
        state_dict.setdefault(prefix + "trust", torch.tensor(TRUST))
        super()._load_from_state_dict(state_dict, prefix, *args)


def pool_log_probs(log_probs: Tensor, log_weights: Tensor) -> Tensor:
    """Return the log of the weighted mean of predictions: (Q, E, C), (Q, E) -> (Q, C).

    Weights need not be normalised; an expert that does not answer has -inf.
    """
    return (log_weights.log_softmax(dim=1)[..., None] + log_probs).logsumexp(dim=1)


def trust_in_held_out(labels_per_class: float) -> float:
    """Return the fall of log weight per unit of held-out loss / log C, which grows with the labels.

    Few labels say little about which expert is best.

    Args:
        labels_per_class: Known labels over the number of classes.

    >>> [round(trust_in_held_out(k), 2) for k in (1, 3, 5, 10, 20, 100)]
    [1.08, 1.62, 2.35, 3.68, 4.56, 4.98]
    """
    share = labels_per_class**2 / (labels_per_class**2 + FEW_LABELS**2)
    return LEAST_TRUST + (TRUST - LEAST_TRUST) * share
