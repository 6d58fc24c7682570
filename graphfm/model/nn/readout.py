"""What decoders of one family, and heads of one family, have in common.

Shapes:
    Q  targets   T  neighbors   S  = 1 + T local tokens   B  graphs   K  latents   D  width
    H  heads   E  width of a head   R  raw columns   C  classes
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

# What the widest activation of a tile may take. On a CPU it is to stay in the L2 and L3 caches;
# fresh memory costs more than the arithmetic on it. On CUDA it only bounds memory.
TILE_BYTES = {"cpu": 8 << 20, "cuda": 1 << 30}

KeysValues = tuple[Sequence[Tensor], Sequence[Tensor]]  # of the latents: B times (K, H, E) each


class LocalConfig(PartConfig):
    """Shape of a decoder whose layers read the target and its neighbors, and nothing else."""

    reads_latents: ClassVar[bool] = False
    """A model builds no encoder for a decoder that reads none."""
    depth: int = Field(default=2, ge=1)
    """M, layers."""
    ffn_mult: int = Field(default=2, ge=1)
    """Width of a feed-forward layer over D."""
    recompute: bool = False
    """Make activations again in the backward pass: a tenth of the memory, 1.6 times the time."""


class DecoderConfig(LocalConfig):
    """Shape of a decoder whose layers read target, neighbors and latents."""

    reads_latents: ClassVar[bool] = True
    num_heads: int = Field(default=4, ge=1)


class TiledDecoder(nn.Module):
    """What every decoder does around its layers: roles, tiles, and the last norm.

    Targets go through all layers in tiles, for no target reads another.

    Args:
        dim: Width D.
        config: Feed-forward width, and whether to recompute.
        make_layers: Gives the layers; called after the roles are drawn.
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
        num_targets, num_neighbors = neighbor_mask.shape
        if not num_targets:
            return self.norm(target)
        shared = self.shared(latents)
        size = self.tile_size(num_neighbors, latents.shape[1], target.device)
        there = F.pad(neighbor_mask, (1, 0), value=True)  # (Q, S)
        tiles = []
        # Split, not sliced: the gradient of a slice is as large as the whole.
        inputs = zip(target.split(size), neighbors.split(size), there.split(size), strict=True)
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
        """Targets at once."""
        room = TILE_BYTES["cuda" if device.type == "cuda" else "cpu"]
        return max(1, room // (4 * self.widest(1 + num_neighbors, num_latents)))

    def widest(self, num_local: int, num_latents: int) -> int:
        """Numbers in the widest activation of one target."""
        raise NotImplementedError

    def shared(self, latents: Tensor) -> Any:
        """What all targets of a graph have in common, made once: of latents (B, K, D).

        By graph, so that a tile's gradient is of the graphs it reads and not of all.
        """
        raise NotImplementedError

    def tile(self, local: Tensor, there: Tensor, shared: Any, cu_q: Sequence[int]) -> Tensor:
        """States of some targets before the last norm.

        Args:
            local: (Q, S, D) the targets and their neighbors; zeros where nothing is there.
            there: (Q, S) bool.
            shared: What ``shared`` gave.
            cu_q: (B + 1,), as ``ptr``, of these targets.

        Returns:
            (Q, D).
        """
        raise NotImplementedError

    def _tile(
        self, target: Tensor, neighbors: Tensor, there: Tensor, shared: Any, cu_q: Sequence[int]
    ) -> Tensor:
        local = torch.cat([(target + self.roles[0])[:, None], neighbors + self.roles[1]], dim=1)
        # A weight of 0 times NaN is NaN: what is not there must be a number.
        local.masked_fill_(~there[..., None], 0.0)
        return self.tile(local, there, shared, cu_q)


class BlockDecoder(TiledDecoder):
    """The weights of transformer blocks; they load into any other decoder of the same shape.

    Args:
        dim: Width D.
        config: Depth M, heads and feed-forward width.
    """

    layers: Blocks

    def __init__(self, dim: int, config: DecoderConfig):
        blocks = partial(Blocks, config.depth, dim, config.num_heads, config.ffn_mult)
        super().__init__(dim, config, blocks)
        self.num_heads = config.num_heads


class LinearHead(nn.Module):
    """One score per class, zero at first: it begins at the uniform guess, loss 1.

    Args:
        dim: Width of what it reads, raw columns counted.
        num_classes: C.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.score = nn.Linear(dim, num_classes)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, states: Tensor) -> Tensor:
        """States, with raw columns behind them if any, (Q, D + R) -> logits (Q, C)."""
        return self.score(states)

    def fit_scale(self, y: Tensor) -> None:
        """Take from the training labels the unit of logits; classes have none."""

    @staticmethod
    def ensemble_logits(logits: Tensor) -> Tensor:
        """What the members of an ensemble say together: their mean, (M, Q, C) -> (Q, C).

        A head whose logits stand for probabilities gives the logits of the mean probabilities.
        """
        return logits.mean(dim=0)
