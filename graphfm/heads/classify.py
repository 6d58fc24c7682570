"""One class of several: one score per class, cross-entropy.

Shapes:
    Q  targets   C  classes
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.nn.readout import LinearHead
from graphfm.parts import PartConfig


class Config(PartConfig):
    """Nothing to choose."""

    kind: Literal["classify"] = "classify"

    def build(self, *, dim: int, num_classes: int) -> Head:
        """The module for one dataset; ``dim`` counts the raw columns too."""
        return Head(dim, num_classes)


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
    def pooled(logits: Tensor) -> Tensor:
        """Logits of the mean probabilities of M members, up to a constant: (M, Q, C) -> (Q, C)."""
        return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))

    @staticmethod
    def targets(y: Tensor, num_classes: int) -> Tensor:
        """What a closed-form fit regresses on: (Q,) -> (Q, C), one-hot."""
        return F.one_hot(y, num_classes).to(torch.float64)
