"""Adapter of two layers: a linear map to the shared width, and a residual feed-forward layer.

Shapes:
    N  nodes   F  transformed feature columns   D  width
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphfm.config.parts import PartConfig
from graphfm.model.nn.block import FeedForward

ROTATION_SEED = 2407_11907  # all datasets share one rotation, so that their adapters start equal


class Config(PartConfig):
    """Shape of the adapter."""

    kind: Literal["mlp"] = "mlp"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of feature entries that are set to 0 in training."""
    ffn_mult: int = Field(default=1, ge=1)
    """Width of the feed-forward layer, as a multiple of D."""

    def build(self, *, num_features: int, dim: int) -> Adapter:
        """Build the module for one dataset."""
        return Adapter(num_features, dim, self.dropout, self.ffn_mult)


class Adapter(nn.Module):
    """Linear map and residual feed-forward layer.

    Features arrive as principal scores in falling order of variance. The initial map rotates the
    first D axes by a rotation that all datasets share, and the feed-forward layer is zero. So all
    datasets start equal, and the leading axes are kept without loss.

    Args:
        num_features: Number of feature columns F; may be 0.
        dim: Width D.
        dropout: Share of feature entries that are set to 0 in training.
        ffn_mult: Width of the feed-forward layer, as a multiple of D.
    """

    def __init__(self, num_features: int, dim: int, dropout: float, ffn_mult: int):
        super().__init__()
        self.num_features, self.ffn_mult = num_features, ffn_mult
        self.dropout = nn.Dropout(dropout)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim)
        # Before `project`, whose random numbers depend on F: so all datasets draw the same weights.
        self.ffn = FeedForward(dim, ffn_mult)
        self.project = nn.Linear(num_features, dim) if num_features else None
        nn.init.zeros_(self.ffn.down.weight)
        nn.init.zeros_(self.ffn.down.bias)
        if self.project is not None:
            rng = torch.Generator().manual_seed(ROTATION_SEED)
            rotation = torch.linalg.qr(torch.randn(dim, dim, generator=rng))[0]
            kept = min(num_features, dim)
            nn.init.zeros_(self.project.weight)  # axes beyond D start at zero
            self.project.weight.data[:, :kept] = rotation[:, :kept]
            nn.init.zeros_(self.project.bias)

    @torch.no_grad()
    def copy_from(self, other: Adapter) -> None:
        """Copy the weights of an adapter with at least as many features, for the axes in use."""
        theirs = other.state_dict()
        for name, weight in self.state_dict().items():
            per_axis = name == "project.weight"
            weight.copy_(theirs[name][:, : self.num_features] if per_axis else theirs[name])

    @torch.no_grad()
    def flip_signs(self, signs: Tensor) -> None:
        """Flip the signs of some axes; the sign of a principal score is arbitrary.

        Ensemble members differ in these signs.

        Args:
            signs: (F,), each -1 or 1.
        """
        if self.project is not None:
            self.project.weight.mul_(signs)

    def forward(self, x: Tensor) -> Tensor:
        """Transformed features (N, F) -> (N, D)."""
        tokens = self.bias.expand(len(x), -1)
        if self.project is not None:
            tokens = tokens + self.project(self.dropout(x))
        return tokens + self.ffn(self.norm(tokens))

    def flops(self, num_nodes: int) -> int:
        """Return the FLOPs of a forward pass."""
        dim = len(self.bias)
        return num_nodes * 2 * (self.num_features * dim + 3 * self.ffn_mult * dim * dim)
