"""The decoder of the paper: target, neighbors and latents attend to each other, per target.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   B  graphs   K  latents   D  width

Cost per target: M (K + T + 1)^2 attention scores, and the feed-forward layers over K latents, which
are most of it. The last layer computes the target's row only: no other row is read after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.model.nn.attention import attention, owners
from graphfm.model.nn.block import linear_flops, one_query_flops, score_flops
from graphfm.model.nn.tiled_decoder import BlockDecoder, DecoderConfig


class Config(DecoderConfig):
    """Shape of the decoder; same fields and weights as ``prefix``."""

    kind: Literal["joint"] = "joint"

    def build(self, *, dim: int) -> Decoder:
        """Build the module at width D."""
        return Decoder(dim, self)


class Decoder(BlockDecoder):
    """Joint attention over target, neighbors and latents.

    Attributes:
        latents_read_nodes: False masks the attention as ``prefix`` does, as its reference in tests.
    """

    latents_read_nodes = True

    def widest(self, num_local: int, num_latents: int) -> int:
        """Count the numbers in the feed-forward layer over all tokens."""
        return (num_local + num_latents) * 2 * self.ffn_mult * self.dim

    def shared(self, latents: Tensor) -> Sequence[Tensor]:
        """Return the latents of each graph, B times (K, D)."""
        return latents.unbind()

    def tile(
        self, local: Tensor, mask: Tensor, shared: Sequence[Tensor], cu_q: Sequence[int]
    ) -> Tensor:
        """Pass target, neighbors and latents through all layers."""
        num_local, num_latents = local.shape[1], len(shared[0])
        counts = zip(*owners(cu_q), strict=True)
        latents = torch.cat([shared[b].expand(count, -1, -1) for b, count in counts])  # (Q, K, D)
        x = torch.cat([local, latents], dim=1)  # (Q, S+K, D)
        mask = F.pad(mask, (0, num_latents), value=True)  # (Q, S+K)
        may_read = mask[:, None, None, :]  # (Q, 1, 1, S+K)
        if not self.latents_read_nodes:
            prefix = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
            prefix[num_local:, :num_local] = False
            may_read = may_read & prefix
        *full, last = self.layers
        for layer in full:
            k, v = layer.keys_values(x)
            x = layer.update(x, attention(layer.queries(x), k, v, may_read))
        return last.update_first(x, mask)

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Return the FLOPs of a forward pass; graphs have no cost of their own here."""
        del num_graphs
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        size = 1 + num_neighbors + num_latents
        full = size * (per_query + per_key) + score_flops(size, size, self.dim)
        last = per_query + one_query_flops(size, self.dim, self.num_heads)
        return num_targets * ((len(self.layers) - 1) * full + last)
