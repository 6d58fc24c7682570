"""Control decoder: target and neighbors attend to each other, as in ``prefix``, without latents.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   D  width

Cost: M S^2 attention scores per target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from graphfm.model.nn.attention import attention
from graphfm.model.nn.block import linear_flops, one_query_flops, score_flops
from graphfm.model.nn.tiled_decoder import BlockDecoder, DecoderConfig


class Config(DecoderConfig):
    """Shape of the decoder; same fields and weights as ``prefix``. The model builds no encoder."""

    kind: Literal["transformer"] = "transformer"
    reads_latents: ClassVar[bool] = False

    def build(self, *, dim: int) -> Decoder:
        """Build the module at width D."""
        return Decoder(dim, self)


class Decoder(BlockDecoder):
    """Attention of target and neighbors to each other."""

    def widest(self, num_local: int, num_latents: int) -> int:
        """Count the numbers in the feed-forward layer over the local tokens."""
        del num_latents
        return num_local * 2 * self.ffn_mult * self.dim

    def shared(self, latents: Tensor) -> None:
        """Return nothing: no latents are read."""

    def tile(self, local: Tensor, mask: Tensor, shared: None, cu_q: Sequence[int]) -> Tensor:
        """Pass target and neighbors through all layers; the last updates the target alone."""
        *full, last = self.layers
        x, may_read = local, mask[:, None, None, :]  # (Q, 1, 1, S)
        for layer in full:
            k, v = layer.keys_values(x)
            x = layer.update(x, attention(layer.queries(x), k, v, may_read))
        return last.update_first(x, mask)

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Return the FLOPs of a forward pass; graphs and latents cost nothing here."""
        del num_graphs, num_latents
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        size = 1 + num_neighbors
        full = size * (per_query + per_key) + score_flops(size, size, self.dim)
        last = per_query + one_query_flops(size, self.dim, self.num_heads)
        return num_targets * ((len(self.layers) - 1) * full + last)
