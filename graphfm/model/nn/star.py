"""Message passing over stars: a target and its sampled neighbors, an edge to each, no other.

What a graph network sees of a graph where every target comes with one hop: the target hears of its
neighbors, and a neighbor of the one edge of its own that was sampled, which leads to the target.
The layer is that of a tuned graph network (Luo et al. 2024, arXiv 2406.08993: residual, norm), with
the feed-forward layer of our blocks, so that trunks differ in who reads whom and how alone.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   D  width
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from graphfm.model.nn.block import FeedForward
from graphfm.model.nn.readout import LocalConfig, TiledDecoder


class StarLayer(nn.Module):
    """Pre-norm aggregation and feed-forward; a kind of network says what is aggregated.

    Args:
        dim: Width D.
        ffn_mult: Width of the feed-forward layer over D.
    """

    def __init__(self, dim: int, ffn_mult: int):
        super().__init__()
        self.dim, self.ffn_mult = dim, ffn_mult
        self.norm = nn.LayerNorm(dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_mult)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """All tokens: (Q, S, D) and (Q, T), 1.0 where a neighbor is there -> (Q, S, D)."""
        target, neighbors = self._split(x)
        read = self.to_target(target, neighbors, there)
        heard = self.to_neighbors(target, neighbors, there)
        x = x + torch.cat([read[:, None], heard], dim=1)
        return x + self.ffn(self.ffn_norm(x))

    def update_first(self, x: Tensor, there: Tensor) -> Tensor:
        """The target alone: (Q, S, D) and (Q, T) -> (Q, D)."""
        state = x[:, 0] + self.to_target(*self._split(x), there)
        return state + self.ffn(self.ffn_norm(state))

    def to_target(self, target: Tensor, neighbors: Tensor, there: Tensor) -> Tensor:
        """What the target hears: (Q, D), (Q, T, D), (Q, T) -> (Q, D)."""
        raise NotImplementedError

    def to_neighbors(self, target: Tensor, neighbors: Tensor, there: Tensor) -> Tensor:
        """What each neighbor hears: (Q, D), (Q, T, D), (Q, T) -> (Q, T, D)."""
        raise NotImplementedError

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        return x[:, 0], x[:, 1:]

    def num_maps(self, num_neighbors: int, *, last: bool) -> int:
        """Maps from D to D that one target costs; in the last layer its neighbors hear nothing."""
        raise NotImplementedError

    def flops(self, num_neighbors: int, *, last: bool) -> int:
        """Of one target."""
        rows = 1 if last else 1 + num_neighbors
        maps = self.num_maps(num_neighbors, last=last) + rows * 3 * self.ffn_mult
        return 2 * maps * self.dim**2 + 2 * num_neighbors * self.dim  # and the sum over neighbors


class StarLayers(nn.ModuleList):
    """Layers of one kind."""

    def __iter__(self) -> Iterator[StarLayer]:
        return super().__iter__()  # type: ignore[return-value]


class StarDecoder(TiledDecoder):
    """Layers over the star, the last for the target alone; reads no latents.

    Args:
        dim: Width D.
        config: Depth M and feed-forward width.
        layer: Which one.
    """

    layers: StarLayers

    def __init__(self, dim: int, config: LocalConfig, layer: type[StarLayer]):
        layers = (layer(dim, config.ffn_mult) for _ in range(config.depth))
        super().__init__(dim, config, lambda: StarLayers(layers))

    def widest(self, num_local: int, num_latents: int) -> int:
        """The feed-forward layer over the local tokens."""
        del num_latents
        return num_local * 2 * self.ffn_mult * self.dim

    def shared(self, latents: Tensor) -> None:
        """Nothing."""

    def tile(self, local: Tensor, there: Tensor, shared: None, cu_q: Sequence[int]) -> Tensor:
        """Target and neighbors through all layers; after the last, no neighbor is read."""
        *full, last = self.layers
        weights = there[:, 1:].to(local.dtype)
        for layer in full:
            local = layer(local, weights)
        return last.update_first(local, weights)

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Of the forward pass; graphs and latents cost nothing here."""
        del num_graphs, num_latents
        *full, last = self.layers
        full_flops = sum(layer.flops(num_neighbors, last=False) for layer in full)
        return num_targets * (full_flops + last.flops(num_neighbors, last=True))


def sum_over_neighbors(neighbors: Tensor, there: Tensor) -> Tensor:
    """Of those that are there: (Q, T, D), (Q, T) -> (Q, D)."""
    return torch.einsum("qt,qtd->qd", there, neighbors)
