"""A control: GraphSAGE (Hamilton et al. 2017, arXiv 1706.02216) over target and neighbors.

With the mean as aggregator; no latents.

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

    kind: Literal["sage"] = "sage"

    def build(self, *, dim: int) -> StarDecoder:
        """The module at this width."""
        return StarDecoder(dim, self, Layer)


class Layer(StarLayer):
    """One map of a token itself, another of the mean over its neighbors; 0 where it has none."""

    def __init__(self, dim: int, ffn_mult: int):
        super().__init__(dim, ffn_mult)
        self.own = nn.Linear(dim, dim)
        self.near = nn.Linear(dim, dim, bias=False)

    def to_target(self, target: Tensor, neighbors: Tensor, there: Tensor) -> Tensor:
        """See the class."""
        count = there.sum(dim=1, keepdim=True).clamp(min=1)  # (Q, 1)
        return self.own(target) + self.near(sum_over_neighbors(neighbors, there) / count)

    def to_neighbors(self, target: Tensor, neighbors: Tensor, there: Tensor) -> Tensor:
        """See the class."""
        del there
        return self.own(neighbors) + self.near(target)[:, None]

    def num_maps(self, num_neighbors: int, *, last: bool) -> int:
        """Both of the target; of what all neighbors hear one, and one of each neighbor."""
        return 2 if last else 3 + num_neighbors
