"""The joint decoder under a prefix mask: latents never read node tokens.

Then the latents' keys and values are the same for all targets of a graph and are computed once. The
weights are those of ``joint``; only who reads whom differs.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   B  graphs   K  latents   D  width
    H  heads   E  width of a head

Cost: M (S (K + S)) scores a target, and M K^2 a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from graphfm.model.nn.attention import prefix_attention
from graphfm.model.nn.block import linear_flops, one_query_flops, score_flops
from graphfm.model.nn.readout import BlockDecoder, DecoderConfig, KeysValues


class Config(DecoderConfig):
    """Shape of the decoder; the same fields and weights as ``joint``."""

    kind: Literal["prefix"] = "prefix"

    def build(self, *, dim: int) -> Decoder:
        """The module at this width."""
        return Decoder(dim, self)


class Decoder(BlockDecoder):
    """See the module."""

    def widest(self, num_local: int, num_latents: int) -> int:
        """The feed-forward layer over the local tokens."""
        del num_latents
        return num_local * 2 * self.ffn_mult * self.dim

    def shared(self, latents: Tensor) -> list[KeysValues]:
        """Keys and values of the latents for every layer; between layers they read each other."""
        found: list[KeysValues] = []
        for i, layer in enumerate(self.layers):
            k, v = layer.keys_values(latents)
            found.append((k.unbind(), v.unbind()))
            if i < len(self.layers) - 1:
                latents = layer.attend(latents, k, v)
        return found

    def tile(
        self,
        local: Tensor,
        there: Tensor,
        shared: list[KeysValues],
        cu_q: Sequence[int],
    ) -> Tensor:
        """Target and neighbors through all layers; after the last, no neighbor is read."""
        *full, last = self.layers
        x = local
        for layer, (latent_k, latent_v) in zip(full, shared[:-1], strict=True):
            k, v = layer.keys_values(x)
            read = prefix_attention(layer.queries(x), k, v, there, latent_k, latent_v, cu_q)
            x = layer.update(x, read)
        return last.update_first(x, there, *shared[-1], cu_q)

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Of the forward pass."""
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        size = 1 + num_neighbors
        full = size * (per_query + per_key) + score_flops(size, size + num_latents, self.dim)
        last = per_query + one_query_flops(size, self.dim, self.num_heads)
        last += score_flops(1, num_latents, self.dim)
        num_full = len(self.layers) - 1
        stack = num_latents * (per_query + per_key)
        stack += score_flops(num_latents, num_latents, self.dim)
        graphs = num_graphs * (num_full * stack + num_latents * per_key)
        return num_targets * (num_full * full + last) + graphs
