"""The paper's decoder: target, neighbors and latents attend to each other, for every target anew.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   B  graphs   K  latents   D  width

Cost: M (K + T + 1)^2 scores a target, and the feed-forward layer over K latents for every target,
which is most of it. The last layer computes the target's row alone: nothing else is read after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.model.nn.attention import attention, owners
from graphfm.model.nn.block import linear_flops, one_query_flops, score_flops
from graphfm.model.nn.readout import BlockDecoder, DecoderConfig


class Config(DecoderConfig):
    """Shape of the decoder; the same fields and weights as ``prefix``."""

    kind: Literal["joint"] = "joint"

    def build(self, *, dim: int) -> Decoder:
        """The module at this width."""
        return Decoder(dim, self)


class Decoder(BlockDecoder):
    """See the module.

    Attributes:
        latents_read_nodes: False puts joint attention under the prefix mask, as a reference for
            ``prefix``.
    """

    latents_read_nodes = True

    def widest(self, num_local: int, num_latents: int) -> int:
        """The feed-forward layer over all tokens."""
        return (num_local + num_latents) * 2 * self.ffn_mult * self.dim

    def shared(self, latents: Tensor) -> Sequence[Tensor]:
        """Nothing but the latents themselves, B times (K, D)."""
        return latents.unbind()

    def tile(
        self, local: Tensor, there: Tensor, shared: Sequence[Tensor], cu_q: Sequence[int]
    ) -> Tensor:
        """Target, neighbors and latents through all layers."""
        num_local, num_latents = local.shape[1], len(shared[0])
        counts = zip(*owners(cu_q), strict=True)
        latents = torch.cat([shared[b].expand(count, -1, -1) for b, count in counts])  # (Q, K, D)
        x = torch.cat([local, latents], dim=1)  # (Q, S+K, D)
        there = F.pad(there, (0, num_latents), value=True)  # (Q, S+K)
        may_read = there[:, None, None, :]  # (Q, 1, 1, S+K)
        if not self.latents_read_nodes:
            blind = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
            blind[num_local:, :num_local] = False
            may_read = may_read & blind
        *full, last = self.layers
        for layer in full:
            k, v = layer.keys_values(x)
            x = layer.update(x, attention(layer.queries(x), k, v, may_read))
        return last.update_first(x, there)

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Of the forward pass; graphs cost nothing of their own here."""
        del num_graphs
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        size = 1 + num_neighbors + num_latents
        full = size * (per_query + per_key) + score_flops(size, size, self.dim)
        last = per_query + one_query_flops(size, self.dim, self.num_heads)
        return num_targets * ((len(self.layers) - 1) * full + last)
