"""A control: GCN (Kipf and Welling 2017, arXiv 1609.02907) over target and neighbors, no latents.

The star has self-loops, so a target with n neighbors has degree n + 1 and a neighbor degree 2, and
a message along an edge is divided by the root of the product of the degrees at its ends.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   D  width
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from graphfm.model.nn.readout import LocalConfig
from graphfm.model.nn.star import StarDecoder, StarLayer, sum_over_neighbors


class Config(LocalConfig):
    """Shape of the decoder; a change of ``kind`` alone also leaves out the encoder."""

    kind: Literal["gcn"] = "gcn"

    def build(self, *, dim: int) -> StarDecoder:
        """The module at this width."""
        return StarDecoder(dim, self, Layer)


class Layer(StarLayer):
    """The normalised sum over a token's neighbors and itself, through one map."""

    def __init__(self, dim: int, ffn_mult: int):
        super().__init__(dim, ffn_mult)
        self.map = nn.Linear(dim, dim)

    def to_target(self, target: Tensor, neighbors: Tensor, there: Tensor) -> Tensor:
        """See the class."""
        degree = 1 + there.sum(dim=1, keepdim=True)  # (Q, 1)
        heard = sum_over_neighbors(neighbors, there) * (2 * degree).rsqrt()
        return self.map(target / degree + heard)

    def to_neighbors(self, target: Tensor, neighbors: Tensor, there: Tensor) -> Tensor:
        """See the class."""
        degree = 1 + there.sum(dim=1, keepdim=True)  # (Q, 1)
        heard = target * (2 * degree).rsqrt()
        return self.map(neighbors / 2 + heard[:, None])

    def num_maps(self, num_neighbors: int, *, last: bool) -> int:
        """The map, once a token."""
        return 1 if last else 1 + num_neighbors
