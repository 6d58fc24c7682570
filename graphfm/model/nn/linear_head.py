"""The linear layer of every head.

Shapes:
    Q  targets   D  width   R  raw columns   C  classes   M  ensemble members
"""

from __future__ import annotations

from torch import Tensor, nn


class LinearHead(nn.Module):
    """One score per class. It starts at zero, so the first prediction is uniform, with loss 1.

    Args:
        dim: Width of the input, D plus the raw columns.
        num_classes: Number of classes C.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.score = nn.Linear(dim, num_classes)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Node states, with raw columns appended if there are any, (Q, D + R) -> logits (Q, C)."""
        return self.score(states)

    def fit_scale(self, y: Tensor) -> None:
        """Set the unit of the logits from the training labels; classes have no unit."""

    @staticmethod
    def ensemble_logits(logits: Tensor) -> Tensor:
        """Combine the members of an ensemble by their mean: (M, Q, C) -> (Q, C).

        A head whose logits stand for probabilities returns the logits of the mean probability.
        """
        return logits.mean(dim=0)
