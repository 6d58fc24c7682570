"""Control decoder: GraphSAGE (Hamilton et al. 2017, arXiv 1706.02216) on target and neighbors.

It aggregates by the mean and reads no latents.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   D  width
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from graphfm.model.nn.star import StarDecoder, StarLayer, sum_over_neighbors
from graphfm.model.nn.tiled_decoder import LocalConfig


class Config(LocalConfig):
    """Shape of the decoder. The model builds no encoder for it."""

    kind: Literal["sage"] = "sage"

    def build(self, *, dim: int) -> StarDecoder:
        """Build the module at width D."""
        return StarDecoder(dim, self, Layer)


class Layer(StarLayer):
    """A linear map of the token plus a linear map of the mean of its neighbors (0 if none)."""

    def __init__(self, dim: int, ffn_mult: int):
        super().__init__(dim, ffn_mult)
        self.own = nn.Linear(dim, dim)
        self.near = nn.Linear(dim, dim, bias=False)

    def to_target(self, target: Tensor, neighbors: Tensor, mask: Tensor) -> Tensor:
        """Compute the message to the target: (Q, D), (Q, T, D), (Q, T) -> (Q, D)."""
        count = mask.sum(dim=1, keepdim=True).clamp(min=1)  # (Q, 1)
        return self.own(target) + self.near(sum_over_neighbors(neighbors, mask) / count)

    def to_neighbors(self, target: Tensor, neighbors: Tensor, mask: Tensor) -> Tensor:
        """Compute the message to each neighbor: (Q, D), (Q, T, D), (Q, T) -> (Q, T, D)."""
        del mask
        return self.own(neighbors) + self.near(target)[:, None]

    def num_maps(self, num_neighbors: int, *, last: bool) -> int:
        """Count the D x D maps per target: two of the target, one message, one per neighbor."""
        return 2 if last else 3 + num_neighbors
