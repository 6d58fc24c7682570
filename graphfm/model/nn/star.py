"""Message passing over stars: a target, its sampled neighbors, and an edge to each of them.

This is the view of a graph network if every target comes with one hop: the target receives messages
of its neighbors, and a neighbor receives one message, of the target. The layer is that of a tuned
graph network (Luo et al. 2024, arXiv 2406.08993: residual, norm), with the feed-forward layer of
our blocks. So the control decoders differ from the others in their messages only.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   D  width
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from graphfm.model.nn.block import FeedForward
from graphfm.model.nn.tiled_decoder import LocalConfig, TiledDecoder


class StarLayer(nn.Module):
    """Pre-norm aggregation and feed-forward layer; subclasses define the messages.

    Args:
        dim: Width D.
        ffn_mult: Width of the feed-forward layer, as a multiple of D.
    """

    def __init__(self, dim: int, ffn_mult: int):
        super().__init__()
        self.dim, self.ffn_mult = dim, ffn_mult
        self.norm = nn.LayerNorm(dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_mult)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Update all tokens.

        Args:
            x: (Q, S, D) targets and neighbors.
            mask: (Q, T) float, 1 = a real neighbor, 0 = padding.

        Returns:
            (Q, S, D).
        """
        target, neighbors = self._split(x)
        to_target = self.to_target(target, neighbors, mask)
        to_neighbors = self.to_neighbors(target, neighbors, mask)
        x = x + torch.cat([to_target[:, None], to_neighbors], dim=1)
        return x + self.ffn(self.ffn_norm(x))

    def update_first(self, x: Tensor, mask: Tensor) -> Tensor:
        """Update the target alone: (Q, S, D) and (Q, T) -> (Q, D)."""
        state = x[:, 0] + self.to_target(*self._split(x), mask)
        return state + self.ffn(self.ffn_norm(state))

    def to_target(self, target: Tensor, neighbors: Tensor, mask: Tensor) -> Tensor:
        """Compute the message to the target: (Q, D), (Q, T, D), (Q, T) -> (Q, D)."""
        raise NotImplementedError

    def to_neighbors(self, target: Tensor, neighbors: Tensor, mask: Tensor) -> Tensor:
        """Compute the message to each neighbor: (Q, D), (Q, T, D), (Q, T) -> (Q, T, D)."""
        raise NotImplementedError

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        return x[:, 0], x[:, 1:]

    def num_maps(self, num_neighbors: int, *, last: bool) -> int:
        """Count the D x D maps per target; the last layer sends no messages to neighbors."""
        raise NotImplementedError

    def flops(self, num_neighbors: int, *, last: bool) -> int:
        """Return the FLOPs of the layer per target."""
        rows = 1 if last else 1 + num_neighbors
        maps = self.num_maps(num_neighbors, last=last) + rows * 3 * self.ffn_mult
        return 2 * maps * self.dim**2 + 2 * num_neighbors * self.dim  # and the sum over neighbors


class StarLayers(nn.ModuleList):
    """Star layers of equal shape, one after another."""

    def __iter__(self) -> Iterator[StarLayer]:
        return super().__iter__()  # type: ignore[return-value]


class StarDecoder(TiledDecoder):
    """A decoder of star layers; the last updates the target alone. It reads no latents.

    Args:
        dim: Width D.
        config: Depth M and feed-forward width.
        layer: Class of the layers.
    """

    layers: StarLayers

    def __init__(self, dim: int, config: LocalConfig, layer: type[StarLayer]):
        layers = (layer(dim, config.ffn_mult) for _ in range(config.depth))
        super().__init__(dim, config, lambda: StarLayers(layers))

    def widest(self, num_local: int, num_latents: int) -> int:
        """Count the numbers in the feed-forward layer over the local tokens."""
        del num_latents
        return num_local * 2 * self.ffn_mult * self.dim

    def shared(self, latents: Tensor) -> None:
        """Return nothing: no latents are read."""

    def tile(self, local: Tensor, mask: Tensor, shared: None, cu_q: Sequence[int]) -> Tensor:
        """Pass target and neighbors through all layers; the last updates the target alone."""
        *full, last = self.layers
        weights = mask[:, 1:].to(local.dtype)
        for layer in full:
            local = layer(local, weights)
        return last.update_first(local, weights)

    def flops(self, num_targets: int, num_neighbors: int, num_graphs: int, num_latents: int) -> int:
        """Return the FLOPs of a forward pass; graphs and latents cost nothing here."""
        del num_graphs, num_latents
        *full, last = self.layers
        full_flops = sum(layer.flops(num_neighbors, last=False) for layer in full)
        return num_targets * (full_flops + last.flops(num_neighbors, last=True))


def sum_over_neighbors(neighbors: Tensor, mask: Tensor) -> Tensor:
    """Sum the real neighbors: (Q, T, D), (Q, T) -> (Q, D)."""
    return torch.einsum("qt,qtd->qd", mask, neighbors)
