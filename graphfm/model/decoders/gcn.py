"""Control decoder: GCN (Kipf and Welling 2017, arXiv 1609.02907) on target and neighbors.

It reads no latents. The star has self-loops: a target with n neighbors has degree n + 1, a neighbor
has degree 2. A message is divided by the root of the product of the degrees at both ends.

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

    kind: Literal["gcn"] = "gcn"

    def build(self, *, dim: int) -> StarDecoder:
        """Build the module at width D."""
        return StarDecoder(dim, self, Layer)


class Layer(StarLayer):
    """Normalized sum over the neighbors of a token and itself, then a linear map."""

    def __init__(self, dim: int, ffn_mult: int):
        super().__init__(dim, ffn_mult)
        self.map = nn.Linear(dim, dim)

    def to_target(self, target: Tensor, neighbors: Tensor, mask: Tensor) -> Tensor:
        """Compute the message to the target: (Q, D), (Q, T, D), (Q, T) -> (Q, D)."""
        degree = 1 + mask.sum(dim=1, keepdim=True)  # (Q, 1)
        received = sum_over_neighbors(neighbors, mask) * (2 * degree).rsqrt()
        return self.map(target / degree + received)

    def to_neighbors(self, target: Tensor, neighbors: Tensor, mask: Tensor) -> Tensor:
        """Compute the message to each neighbor: (Q, D), (Q, T, D), (Q, T) -> (Q, T, D)."""
        degree = 1 + mask.sum(dim=1, keepdim=True)  # (Q, 1)
        received = target * (2 * degree).rsqrt()
        return self.map(neighbors / 2 + received[:, None])

    def num_maps(self, num_neighbors: int, *, last: bool) -> int:
        """Count the D x D maps per target: one per token."""
        return 1 if last else 1 + num_neighbors
