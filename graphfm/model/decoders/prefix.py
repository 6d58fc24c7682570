"""The joint decoder with a prefix mask: latents never read node tokens.

So the keys and values of the latents are equal for all targets of a graph and are computed once.
The weights are those of ``joint``; only the attention mask differs.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   B  graphs   K  latents   D  width
    H  heads   E  width of a head

Cost: M (S (K + S)) attention scores per target, and M K^2 per graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from graphfm.model.nn.attention import prefix_attention
from graphfm.model.nn.block import linear_flops, one_query_flops, score_flops
from graphfm.model.nn.tiled_decoder import BlockDecoder, DecoderConfig, KeysValues


class Config(DecoderConfig):
    """Shape of the decoder; same fields and weights as ``joint``."""

    kind: Literal["prefix"] = "prefix"

    def build(self, *, dim: int) -> Decoder:
        """Build the module at width D."""
        return Decoder(dim, self)


class Decoder(BlockDecoder):
    """Attention of target and neighbors to each other and to the latents."""

    def widest(self, num_local: int, num_latents: int) -> int:
        """Count the numbers in the feed-forward layer over the local tokens."""
        del num_latents
        return num_local * 2 * self.ffn_mult * self.dim

    def shared(self, latents: Tensor) -> list[KeysValues]:
        """Return keys and values of the latents per layer; the latents attend to each other."""
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
        mask: Tensor,
        shared: list[KeysValues],
        cu_q: Sequence[int],
    ) -> Tensor:
        """Pass target and neighbors through all layers; the last updates the target alone."""
        *full, last = self.layers
        x = local
        for layer, (latent_k, latent_v) in zip(full, shared[:-1], strict=True):
            k, v = layer.keys_values(x)
            read = prefix_attention(layer.queries(x), k, v, mask, latent_k, latent_v, cu_q)
            x = layer.update(x, read)
        return last.update_first(x, mask, *shared[-1], cu_q)

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Return the FLOPs of a forward pass."""
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
