"""The cheapest decoder: the target alone reads; neighbors and latents stay what they were.

Exactly: joint attention in which only the target's row is updated. In layer i the target's state
s_i, the neighbor tokens n (with their role) and the latents z give keys and values under the
layer's norm, and s_{i+1} = layer(s_i reads {s_i, n, z}); n and z are the same in every layer. The
weights are those of ``joint`` and ``prefix``; with one layer all three are the same function.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   B  graphs   K  latents   D  width
    H  heads   E  width of a head

Cost: M (K + S) scores and one row of feed-forward a target, and M K D^2 a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from graphfm.model.nn.block import linear_flops, one_query_flops, score_flops
from graphfm.model.nn.readout import BlockDecoder, DecoderConfig, KeysValues


class Config(DecoderConfig):
    """Shape of the decoder; the same fields and weights as ``joint``."""

    kind: Literal["self_query"] = "self_query"

    def build(self, *, dim: int) -> Decoder:
        """The module at this width."""
        return Decoder(dim, self)


class Decoder(BlockDecoder):
    """See the module."""

    def widest(self, num_local: int, num_latents: int) -> int:
        """The scores, the local tokens and the feed-forward layer of one row: much alike."""
        scores = self.num_heads * (num_local + num_latents)
        return scores + (num_local + 2 * self.ffn_mult) * self.dim

    def shared(self, latents: Tensor) -> list[KeysValues]:
        """Keys and values of the same latents under every layer."""
        found = (layer.keys_values(latents) for layer in self.layers)
        return [(k.unbind(), v.unbind()) for k, v in found]

    def tile(
        self,
        local: Tensor,
        there: Tensor,
        shared: list[KeysValues],
        cu_q: Sequence[int],
    ) -> Tensor:
        """The target through all layers."""
        state, neighbors = local[:, 0], local[:, 1:]
        for layer, latent in zip(self.layers, shared, strict=True):
            x = torch.cat([state[:, None], neighbors], dim=1)  # (Q, S, D)
            state = layer.update_first(x, there, *latent, cu_q)
        return state

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Of the forward pass."""
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        target = per_query + one_query_flops(1 + num_neighbors, self.dim, self.num_heads)
        target += score_flops(1, num_latents, self.dim)
        return len(self.layers) * (num_targets * target + num_graphs * num_latents * per_key)
