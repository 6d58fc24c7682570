"""Regression: one number, in units of the standard deviation of the training targets.

Shapes:
    Q  targets
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from graphfm.config.parts import PartConfig
from graphfm.model.nn.linear_head import LinearHead


class Config(PartConfig):
    """Empty: there is nothing to set."""

    kind: Literal["regress"] = "regress"

    def build(self, *, dim: int, num_classes: int = 1) -> Head:
        """Build the module for one dataset; ``dim`` includes the raw columns."""
        del num_classes  # always 1
        return Head(dim)


class Head(LinearHead):
    """Linear regression on the node states; squared error.

    Args:
        dim: Width of the input.

    Attributes:
        center: Mean of the training targets, in their unit; float64, as the targets.
        spread: Standard deviation of the training targets.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, dim: int):
        super().__init__(dim, 1)
        self.register_buffer("center", torch.zeros((), dtype=torch.float64))
        self.register_buffer("spread", torch.ones((), dtype=torch.float64))

    def fit_scale(self, y: Tensor) -> None:
        """Compute center and spread of the training targets (Q,); NaN are left out."""
        known = y[~y.isnan()].double()
        spread = known.std(correction=0)
        self.center.copy_(known.mean())
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the squared error over the variance: (Q, 1), (Q,) -> (Q,).

        Predicting the mean has loss 1. An unlabelled target (NaN) has loss 0.
        """
        targets = self.targets(y)[:, 0]
        known = ~targets.isnan()
        error = torch.where(known, targets, 0.0).to(logits.dtype) - logits[:, 0]
        return error.square() * known

    def values(self, logits: Tensor) -> Tensor:
        """Return the predictions in the unit of the targets: (Q, 1) -> (Q,) float64."""
        return self.center + self.spread * logits[:, 0].double()

    def targets(self, y: Tensor, num_classes: int = 1) -> Tensor:
        """Return the targets of a closed-form fit: (Q,) -> (Q, 1), mean 0 and variance 1."""
        del num_classes
        return ((y.double() - self.center) / self.spread)[:, None]
