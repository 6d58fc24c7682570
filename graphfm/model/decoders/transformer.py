"""A control: target and neighbors attend to each other, as in ``prefix``, and there are no latents.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   D  width

Cost: M S^2 scores a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from graphfm.model.nn.attention import attention
from graphfm.model.nn.block import linear_flops, one_query_flops, score_flops
from graphfm.model.nn.readout import BlockDecoder, DecoderConfig


class Config(DecoderConfig):
    """Shape of the decoder; the same fields and weights as ``prefix``, and no encoder."""

    kind: Literal["transformer"] = "transformer"
    reads_latents: ClassVar[bool] = False

    def build(self, *, dim: int) -> Decoder:
        """The module at this width."""
        return Decoder(dim, self)


class Decoder(BlockDecoder):
    """See the module."""

    def widest(self, num_local: int, num_latents: int) -> int:
        """The feed-forward layer over the local tokens."""
        del num_latents
        return num_local * 2 * self.ffn_mult * self.dim

    def shared(self, latents: Tensor) -> None:
        """Nothing."""

    def tile(self, local: Tensor, there: Tensor, shared: None, cu_q: Sequence[int]) -> Tensor:
        """Target and neighbors through all layers; after the last, no neighbor is read."""
        *full, last = self.layers
        x, may_read = local, there[:, None, None, :]  # (Q, 1, 1, S)
        for layer in full:
            k, v = layer.keys_values(x)
            x = layer.update(x, attention(layer.queries(x), k, v, may_read))
        return last.update_first(x, there)

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Of the forward pass; graphs and latents cost nothing here."""
        del num_graphs, num_latents
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        size = 1 + num_neighbors
        full = size * (per_query + per_key) + score_flops(size, size, self.dim)
        last = per_query + one_query_flops(size, self.dim, self.num_heads)
        return num_targets * ((len(self.layers) - 1) * full + last)
