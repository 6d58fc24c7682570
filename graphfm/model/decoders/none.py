"""Control decoder: feed-forward layers on the token of the target; no graph is read.

Only the token depends on the graph: by its position encoding, and by features that the transform of
a dataset takes from neighbors.

Shapes:
    Q  targets   T  neighbors   B  graphs   K  latents   D  width
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from graphfm.config.parts import PartConfig
from graphfm.model.nn.block import FeedForward


class Config(PartConfig):
    """Shape of the decoder. The model builds no encoder for it."""

    kind: Literal["none"] = "none"
    reads_latents: ClassVar[bool] = False
    depth: int = Field(default=2, ge=0)
    """Number of layers M; with 0, a linear head reads the normalized token."""
    ffn_mult: int = Field(default=2, ge=1)
    """Width of the feed-forward layers, as a multiple of D."""

    def build(self, *, dim: int) -> Decoder:
        """Build the module at width D."""
        return Decoder(dim, self)


class Decoder(nn.Module):
    """Residual feed-forward layers on the token of the target.

    Args:
        dim: Width D.
        config: Depth M and feed-forward width.
    """

    def __init__(self, dim: int, config: Config):
        super().__init__()
        self.dim, self.ffn_mult = dim, config.ffn_mult
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(config.depth))
        self.layers = nn.ModuleList(FeedForward(dim, config.ffn_mult) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        target: Tensor,
        neighbors: Tensor,
        neighbor_mask: Tensor,
        latents: Tensor,
        ptr: Sequence[int],
    ) -> Tensor:
        """Return the states of the targets (Q, D) from their tokens (Q, D); all else is ignored."""
        del neighbors, neighbor_mask, latents, ptr
        state = target
        for norm, layer in zip(self.norms, self.layers, strict=True):
            state = state + layer(norm(state))
        return self.norm(state)

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Return the FLOPs of a forward pass."""
        del num_neighbors, num_graphs, num_latents
        return num_targets * len(self.layers) * 2 * 3 * self.ffn_mult * self.dim**2
