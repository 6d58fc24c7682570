"""What decoders of one family, and heads of one family, have in common.

Shapes:
    Q  targets   D  width   R  raw columns   C  classes
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from graphfm.nn.block import Blocks
from graphfm.parts import PartConfig


class DecoderConfig(PartConfig):
    """Shape of a decoder whose layers read target, neighbors and latents."""

    depth: int = Field(default=2, ge=1)
    """M, layers."""
    num_heads: int = Field(default=4, ge=1)
    ffn_mult: int = Field(default=2, ge=1)
    """Width of a feed-forward layer over D."""


class DecoderWeights(nn.Module):
    """The weights of such a decoder; they load into any other one of the same shape.

    Args:
        dim: Width D.
        config: Depth M, heads and feed-forward width.
    """

    def __init__(self, dim: int, config: DecoderConfig):
        super().__init__()
        self.dim, self.ffn_mult = dim, config.ffn_mult
        self.roles = nn.Parameter(torch.randn(2, dim) * 0.02)  # target, neighbor
        self.layers = Blocks(config.depth, dim, config.num_heads, config.ffn_mult)
        self.norm = nn.LayerNorm(dim)


class LinearHead(nn.Module):
    """One score per class, zero at first: it begins at the uniform guess, loss 1.

    Args:
        dim: Width of what it reads, raw columns counted.
        num_classes: C.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.score = nn.Linear(dim, num_classes)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, states: Tensor) -> Tensor:
        """States, with raw columns behind them if any, (Q, D + R) -> logits (Q, C)."""
        return self.score(states)
