"""The cheapest decoder: only the target is updated; neighbors and latents stay constant.

It is joint attention that updates the row of the target only. In layer i, the state of the target
s_i, the neighbor tokens n (with their role) and the latents z give keys and values after the norm
of the layer, and s_{i+1} = layer(s_i attends to {s_i, n, z}); n and z are equal in all layers. The
weights are those of ``joint`` and ``prefix``. With one layer, all three are the same function.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   B  graphs   K  latents   D  width
    H  heads   E  width of a head

Cost: M (K + S) attention scores and one feed-forward row per target, and M K D^2 per graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from graphfm.model.nn.block import linear_flops, one_query_flops, score_flops
from graphfm.model.nn.tiled_decoder import BlockDecoder, DecoderConfig, KeysValues


class Config(DecoderConfig):
    """Shape of the decoder; same fields and weights as ``joint``."""

    kind: Literal["self_query"] = "self_query"

    def build(self, *, dim: int) -> Decoder:
        """Build the module at width D."""
        return Decoder(dim, self)


class Decoder(BlockDecoder):
    """Attention of the target to itself, its neighbors and the latents."""

    def widest(self, num_local: int, num_latents: int) -> int:
        """Count the numbers in the scores, the local tokens and the feed-forward row together."""
        scores = self.num_heads * (num_local + num_latents)
        return scores + (num_local + 2 * self.ffn_mult) * self.dim

    def shared(self, latents: Tensor) -> list[KeysValues]:
        """Return keys and values of the same latents for every layer."""
        found = (layer.keys_values(latents) for layer in self.layers)
        return [(k.unbind(), v.unbind()) for k, v in found]

    def tile(
        self,
        local: Tensor,
        mask: Tensor,
        shared: list[KeysValues],
        cu_q: Sequence[int],
    ) -> Tensor:
        """Pass the target through all layers."""
        state, neighbors = local[:, 0], local[:, 1:]
        for layer, latent in zip(self.layers, shared, strict=True):
            x = torch.cat([state[:, None], neighbors], dim=1)  # (Q, S, D)
            state = layer.update_first(x, mask, *latent, cu_q)
        return state

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Return the FLOPs of a forward pass."""
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        target = per_query + one_query_flops(1 + num_neighbors, self.dim, self.num_heads)
        target += score_flops(1, num_latents, self.dim)
        return len(self.layers) * (num_targets * target + num_graphs * num_latents * per_key)
