"""Any number of labels: one score per label, binary cross-entropy.

Shapes:
    Q  targets   C  labels
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.config.parts import PartConfig
from graphfm.model.nn.readout import LinearHead


class Config(PartConfig):
    """Nothing to choose."""

    kind: Literal["multilabel"] = "multilabel"

    def build(self, *, dim: int, num_classes: int) -> Head:
        """The module for one dataset; ``dim`` counts the raw columns too."""
        return Head(dim, num_classes)


class Head(LinearHead):
    """See the module."""

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean loss of each target over its known labels, over log 2: (Q, C), (Q, C) -> (Q,)."""
        known = (y >= 0).to(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(
            logits, y.clamp(min=0).to(logits.dtype), weight=known, reduction="none"
        )
        return losses.sum(dim=1) / known.sum(dim=1).clamp(min=1) / math.log(2)

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """(Q, C) -> (Q, C), each label on its own."""
        return logits.sigmoid()

    @staticmethod
    def ensemble_logits(logits: Tensor) -> Tensor:
        """Logits of the mean probabilities of M members: (M, Q, C) -> (Q, C).

        ``log sum p - log sum (1 - p)``: exact where a probability rounds to 1.
        """
        return F.logsigmoid(logits).logsumexp(dim=0) - F.logsigmoid(-logits).logsumexp(dim=0)

    @staticmethod
    def targets(y: Tensor, num_classes: int) -> Tensor:
        """What a closed-form fit regresses on: (Q, C) -> (Q, C); an unknown label counts as 1/2."""
        del num_classes
        return torch.where(y >= 0, y.to(torch.float64), 0.5)
