"""Multi-label classification: one score per label, binary cross-entropy.

Shapes:
    Q  targets   C  labels   M  ensemble members
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.config.parts import PartConfig
from graphfm.model.nn.linear_head import LinearHead


class Config(PartConfig):
    """Empty: there is nothing to set."""

    kind: Literal["multilabel"] = "multilabel"

    def build(self, *, dim: int, num_classes: int) -> Head:
        """Build the module for one dataset; ``dim`` includes the raw columns."""
        return Head(dim, num_classes)


class Head(LinearHead):
    """A linear classifier per label."""

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of the known labels of each target, over log 2.

        Args:
            logits: (Q, C).
            y: (Q, C), -1 = unknown.

        Returns:
            (Q,); the uniform prediction has loss 1.
        """
        known = (y >= 0).to(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(
            logits, y.clamp(min=0).to(logits.dtype), weight=known, reduction="none"
        )
        return losses.sum(dim=1) / known.sum(dim=1).clamp(min=1) / math.log(2)

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """Logits (Q, C) -> probability of each label (Q, C)."""
        return logits.sigmoid()

    @staticmethod
    def ensemble_logits(logits: Tensor) -> Tensor:
        """Return the logits of the mean probability: (M, Q, C) -> (Q, C).

        ``log sum p - log sum (1 - p)`` is exact even if a probability rounds to 1.
        """
        return F.logsigmoid(logits).logsumexp(dim=0) - F.logsigmoid(-logits).logsumexp(dim=0)

    @staticmethod
    def targets(y: Tensor, num_classes: int) -> Tensor:
        """Return the targets of a closed-form fit: (Q, C) -> (Q, C); unknown labels are 1/2."""
        del num_classes
        return torch.where(y >= 0, y.to(torch.float64), 0.5)
