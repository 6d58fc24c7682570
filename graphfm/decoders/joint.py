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

from graphfm.nn.attention import attention
from graphfm.nn.block import linear_flops, score_flops
from graphfm.nn.readout import DecoderConfig, DecoderWeights

TILE = 128  # targets at once: at D = 512, K = 512 and M = 4 a target keeps about 36 MB for backward


class Config(DecoderConfig):
    """Shape of the decoder; the same fields and weights as ``prefix``."""

    kind: Literal["joint"] = "joint"

    def build(self, *, dim: int) -> Decoder:
        """The module at this width."""
        return Decoder(dim, self)


class Decoder(DecoderWeights):
    """See the module.

    Attributes:
        latents_read_nodes: False puts joint attention under the prefix mask, as a reference for
            ``prefix``.
    """

    latents_read_nodes = True

    def forward(
        self,
        target: Tensor,
        neighbors: Tensor,
        neighbor_mask: Tensor,
        latents: Tensor,
        ptr: Sequence[int],
    ) -> Tensor:
        """States of the targets.

        Args:
            target: (Q, D) tokens of the targets, packed by graph.
            neighbors: (Q, T, D) tokens of their sampled neighbors.
            neighbor_mask: (Q, T) bool, True = a neighbor that is there.
            latents: (B, K, D).
            ptr: (B + 1,), graph b owns targets ``ptr[b]:ptr[b + 1]``.

        Returns:
            (Q, D).
        """
        owner = torch.arange(len(ptr) - 1, device=target.device).repeat_interleave(
            torch.tensor(ptr, device=target.device).diff()
        )  # (Q,)
        tiles = [
            self._tile(target[i], neighbors[i], neighbor_mask[i], latents[owner[i]])
            for i in (slice(at, at + TILE) for at in range(0, len(target), TILE))
        ]
        return self.norm(torch.cat(tiles))

    def _tile(self, target: Tensor, neighbors: Tensor, mask: Tensor, latents: Tensor) -> Tensor:
        num_local, num_latents = 1 + neighbors.shape[1], latents.shape[1]
        local = [(target + self.roles[0])[:, None], neighbors + self.roles[1]]
        x = torch.cat([*local, latents], dim=1)  # (Q, S+K, D)
        there = F.pad(F.pad(mask, (1, 0), value=True), (0, num_latents), value=True)  # (Q, S+K)
        may_read = there[:, None, None, :]  # (Q, 1, 1, S+K)
        if not self.latents_read_nodes:
            blind = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device)
            blind[num_local:, :num_local] = False
            may_read = may_read & blind
        for i, layer in enumerate(self.layers):
            k, v = layer.keys_values(x)
            if i == len(self.layers) - 1:
                x, may_read = x[:, :1], may_read[:, :, :1]
            x = layer.finish(x, attention(layer.queries(x), k, v, may_read))
        return x[:, 0]

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Of the forward pass; graphs cost nothing of their own here."""
        del num_graphs
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        size = 1 + num_neighbors + num_latents
        full = size * (per_query + per_key) + score_flops(size, size, self.dim)
        last = per_query + size * per_key + score_flops(1, size, self.dim)
        return num_targets * ((len(self.layers) - 1) * full + last)
