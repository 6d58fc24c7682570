"""One number: a score in units of the training targets' spread, squared error.

Shapes:
    Q  targets
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from graphfm.config.parts import PartConfig
from graphfm.model.nn.readout import LinearHead


class Config(PartConfig):
    """Nothing to choose."""

    kind: Literal["regress"] = "regress"

    def build(self, *, dim: int, num_classes: int = 1) -> Head:
        """The module for one dataset; ``dim`` counts the raw columns too."""
        del num_classes  # a number is one
        return Head(dim)


class Head(LinearHead):
    """See the module.

    Attributes:
        center: Mean of the training targets, in their own unit; float64, as these are.
        spread: Their standard deviation.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, dim: int):
        super().__init__(dim, 1)
        self.register_buffer("center", torch.zeros((), dtype=torch.float64))
        self.register_buffer("spread", torch.ones((), dtype=torch.float64))

    def fit_scale(self, y: Tensor) -> None:
        """Take center and spread from the training targets (Q,); NaN are not counted."""
        known = y[~y.isnan()].double()
        spread = known.std(correction=0)
        self.center.copy_(known.mean())
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Squared error over the variance, 1 = always the mean: (Q, 1), (Q,) -> (Q,).

        An unlabelled target (NaN) has loss 0.
        """
        wanted = self.targets(y)[:, 0]
        known = ~wanted.isnan()
        error = torch.where(known, wanted, 0.0).to(logits.dtype) - logits[:, 0]
        return error.square() * known

    def values(self, logits: Tensor) -> Tensor:
        """Predictions in the unit of the targets: (Q, 1) -> (Q,) float64."""
        return self.center + self.spread * logits[:, 0].double()

    def targets(self, y: Tensor, num_classes: int = 1) -> Tensor:
        """What a closed-form fit regresses on: (Q,) -> (Q, 1), mean 0 and variance 1."""
        del num_classes
        return ((y.double() - self.center) / self.spread)[:, None]
