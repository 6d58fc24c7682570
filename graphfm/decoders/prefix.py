"""The joint decoder under a prefix mask: latents never read node tokens.

Then the latents' keys and values are the same for all targets of a graph and are computed once. The
weights are those of ``joint``; only who reads whom differs.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   B  graphs   K  latents   D  width

Cost: M (S (K + S)) scores a target, and M K^2 a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.nn.attention import prefix_attention
from graphfm.nn.block import linear_flops, score_flops
from graphfm.nn.readout import DecoderConfig, DecoderWeights


class Config(DecoderConfig):
    """Shape of the decoder; the same fields and weights as ``joint``."""

    kind: Literal["prefix"] = "prefix"

    def build(self, *, dim: int) -> Decoder:
        """The module at this width."""
        return Decoder(dim, self)


class Decoder(DecoderWeights):
    """See the module."""

    def forward(
        self,
        target: Tensor,
        neighbors: Tensor,
        neighbor_mask: Tensor,
        latents: Tensor,
        ptr: Sequence[int],
    ) -> Tensor:
        """States of the targets; arguments and result as in ``joint``."""
        local = [(target + self.roles[0])[:, None], neighbors + self.roles[1]]
        x = torch.cat(local, dim=1)  # (Q, S, D)
        there = F.pad(neighbor_mask, (1, 0), value=True)  # (Q, S)
        for i, layer in enumerate(self.layers):
            last = i == len(self.layers) - 1
            k, v = layer.keys_values(x)
            latent_k, latent_v = layer.keys_values(latents)
            x = x[:, :1] if last else x  # nothing reads a neighbor after this
            read = prefix_attention(layer.queries(x), k, v, there, latent_k, latent_v, ptr)
            x = layer.finish(x, read)
            latents = latents if last else layer.attend(latents, latent_k, latent_v)
        return self.norm(x[:, 0])

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Of the forward pass."""
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        size = 1 + num_neighbors
        keys = size + num_latents
        full = size * (per_query + per_key) + score_flops(size, keys, self.dim)
        last = per_query + size * per_key + score_flops(1, keys, self.dim)
        num_full = len(self.layers) - 1
        stack = num_latents * (per_query + per_key)
        stack += score_flops(num_latents, num_latents, self.dim)
        graphs = num_graphs * (num_full * stack + num_latents * per_key)
        return num_targets * (num_full * full + last) + graphs
