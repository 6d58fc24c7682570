"""No encoder: used with decoders that read no latents.

Shapes:
    N  tokens in the batch   B  graphs   D  width
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from graphfm.config.parts import PartConfig


class Config(PartConfig):
    """Empty: there is nothing to set."""

    kind: Literal["none"] = "none"
    num_latents: ClassVar[int] = 0

    def build(self, *, dim: int) -> Encoder:
        """Build the module at width D."""
        return Encoder(dim)


class Encoder(nn.Module):
    """An encoder that returns no latents.

    Args:
        dim: Width D.
    """

    num_latents = 0

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, tokens: Tensor, ptr: Sequence[int]) -> Tensor:
        """Return no latents, (B, 0, D); graph b owns tokens ``ptr[b]:ptr[b + 1]``."""
        return tokens.new_zeros(len(ptr) - 1, 0, self.dim)

    def flops(self, num_tokens: int, num_graphs: int) -> int:
        """Return 0."""
        del num_tokens, num_graphs
        return 0
