"""Base classes of the decoders: tiles of targets, role embeddings, and the last norm.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   B  graphs   K  latents   D  width
    H  heads   E  width of a head
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphfm.config.parts import PartConfig
from graphfm.model.nn.block import Blocks

# Largest size of one activation of a tile. On a CPU it must fit the L2 and L3 caches: fresh memory
# costs more than the arithmetic on it. On CUDA it only bounds the memory.
TILE_BYTES = {"cpu": 8 << 20, "cuda": 1 << 30}

KeysValues = tuple[Sequence[Tensor], Sequence[Tensor]]  # of the latents: B times (K, H, E) each


class LocalConfig(PartConfig):
    """Shape of a decoder that reads the target and its neighbors only."""

    reads_latents: ClassVar[bool] = False
    """False: the model builds no encoder."""
    depth: int = Field(default=2, ge=1)
    """Number of layers M."""
    ffn_mult: int = Field(default=2, ge=1)
    """Width of the feed-forward layers, as a multiple of D."""
    recompute: bool = False
    """Compute activations again in the backward pass: a tenth of the memory, 1.6 times the time."""


class DecoderConfig(LocalConfig):
    """Shape of a decoder that reads the target, its neighbors and the latents."""

    reads_latents: ClassVar[bool] = True
    num_heads: int = Field(default=4, ge=1)


class TiledDecoder(nn.Module):
    """A decoder that passes its targets through all layers in tiles.

    Tiles are exact, because no target reads another target. Subclasses define the layers.

    Args:
        dim: Width D.
        config: Feed-forward width and recomputation.
        make_layers: Returns the layers; called after the role embeddings are drawn.
    """

    def __init__(self, dim: int, config: LocalConfig, make_layers: Callable[[], nn.ModuleList]):
        super().__init__()
        self.dim, self.ffn_mult, self.recompute = dim, config.ffn_mult, config.recompute
        self.roles = nn.Parameter(torch.randn(2, dim) * 0.02)  # target, neighbor
        self.layers = make_layers()
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        target: Tensor,
        neighbors: Tensor,
        neighbor_mask: Tensor,
        latents: Tensor,
        ptr: Sequence[int],
    ) -> Tensor:
        """Return the node states of the targets.

        Args:
            target: (Q, D) tokens of the targets, packed by graph.
            neighbors: (Q, T, D) tokens of their sampled neighbors.
            neighbor_mask: (Q, T) bool, True = a real neighbor.
            latents: (B, K, D) latents of the graphs.
            ptr: (B + 1,), graph b owns targets ``ptr[b]:ptr[b + 1]``.

        Returns:
            (Q, D).
        """
        num_targets, num_neighbors = neighbor_mask.shape
        if not num_targets:
            return self.norm(target)
        shared = self.shared(latents)
        size = self.tile_size(num_neighbors, latents.shape[1], target.device)
        mask = F.pad(neighbor_mask, (1, 0), value=True)  # (Q, S)
        tiles = []
        # split, not slices: the gradient of a slice is as large as the whole tensor
        inputs = zip(target.split(size), neighbors.split(size), mask.split(size), strict=True)
        for i, local in enumerate(inputs):
            begin, end = i * size, min((i + 1) * size, num_targets)
            cu_q = [min(max(p, begin), end) - begin for p in ptr]
            if self.recompute and torch.is_grad_enabled():
                tile = checkpoint(
                    self._tile, *local, shared, cu_q, use_reentrant=False, preserve_rng_state=False
                )
            else:
                tile = self._tile(*local, shared, cu_q)
            tiles.append(tile)
        return self.norm(tiles[0] if len(tiles) == 1 else torch.cat(tiles))

    def tile_size(self, num_neighbors: int, num_latents: int, device: torch.device) -> int:
        """Return the number of targets in a tile."""
        room = TILE_BYTES["cuda" if device.type == "cuda" else "cpu"]
        return max(1, room // (4 * self.widest(1 + num_neighbors, num_latents)))

    def widest(self, num_local: int, num_latents: int) -> int:
        """Count the numbers in the widest activation of one target."""
        raise NotImplementedError

    def shared(self, latents: Tensor) -> Any:
        """Compute once what all targets of a graph read, from the latents (B, K, D).

        The result is a list by graph, so that a tile has gradients of the graphs that it reads
        only.
        """
        raise NotImplementedError

    def tile(self, local: Tensor, mask: Tensor, shared: Any, cu_q: Sequence[int]) -> Tensor:
        """Return the states of some targets, before the last norm.

        Args:
            local: (Q, S, D) targets and their neighbors; zeros at padding.
            mask: (Q, S) bool, True = a real token.
            shared: Result of :meth:`shared`.
            cu_q: (B + 1,), graph b owns targets ``cu_q[b]:cu_q[b + 1]`` of this tile.

        Returns:
            (Q, D).
        """
        raise NotImplementedError

    def _tile(
        self, target: Tensor, neighbors: Tensor, mask: Tensor, shared: Any, cu_q: Sequence[int]
    ) -> Tensor:
        local = torch.cat([(target + self.roles[0])[:, None], neighbors + self.roles[1]], dim=1)
        # Padding must be finite: an attention weight of 0 times NaN is NaN.
        local.masked_fill_(~mask[..., None], 0.0)
        return self.tile(local, mask, shared, cu_q)


class BlockDecoder(TiledDecoder):
    """A decoder of transformer blocks; its weights load into any other of the same shape.

    Args:
        dim: Width D.
        config: Depth M, heads and feed-forward width.
    """

    layers: Blocks

    def __init__(self, dim: int, config: DecoderConfig):
        blocks = partial(Blocks, config.depth, dim, config.num_heads, config.ffn_mult)
        super().__init__(dim, config, blocks)
        self.num_heads = config.num_heads
