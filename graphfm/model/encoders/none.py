"""No encoder: no latents of any graph. What a model has whose decoder reads none.

Shapes:
    N  tokens in the batch   B  graphs   D  width
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from graphfm.config.parts import PartConfig


class Config(PartConfig):
    """It has no shape."""

    kind: Literal["none"] = "none"
    num_latents: ClassVar[int] = 0

    def build(self, *, dim: int) -> Encoder:
        """The module at this width."""
        return Encoder(dim)


class Encoder(nn.Module):
    """See the module.

    Args:
        dim: Width D.
    """

    num_latents = 0

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, tokens: Tensor, ptr: Sequence[int]) -> Tensor:
        """Packed tokens (N, D) of the graphs ``ptr[b]:ptr[b + 1]`` -> no latents, (B, 0, D)."""
        return tokens.new_zeros(len(ptr) - 1, 0, self.dim)

    def flops(self, num_tokens: int, num_graphs: int) -> int:
        """None."""
        del num_tokens, num_graphs
        return 0
