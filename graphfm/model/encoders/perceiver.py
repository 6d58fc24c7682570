"""Perceiver: K learned latents attend to all tokens of a graph once, then to each other L times.

Shapes:
    N  tokens in the batch   B  graphs   K  latents per graph   D  width   H  heads
    E  width of a head

Cost: K N + L K^2 attention scores (section 3 of the paper), instead of N^2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphfm.config.parts import PartConfig
from graphfm.model.nn.attention import packed_attention, sizes_of, split_attention
from graphfm.model.nn.block import Block, Blocks, linear_flops, score_flops

SPLIT = 1 << 16  # tokens; graphs with more are read in chunks of this size


class Config(PartConfig):
    """Shape of the encoder."""

    kind: Literal["perceiver"] = "perceiver"
    num_latents: int = Field(default=64, ge=1)
    """Number of learned latents K, equal for all graphs."""
    depth: int = Field(default=3, ge=0)
    """Number of self-attention layers L over the latents."""
    num_heads: int = Field(default=4, ge=1)
    ffn_mult: int = Field(default=2, ge=1)
    """Width of the feed-forward layers, as a multiple of D."""
    recompute: bool = False
    """Compute activations again in the backward pass: a tenth of the memory, 1.6 times the time."""

    def build(self, *, dim: int) -> Encoder:
        """Build the module at width D."""
        return Encoder(dim, self)


class Encoder(nn.Module):
    """Cross-attention from latents to tokens, then self-attention of the latents.

    Args:
        dim: Width D.
        config: Number of latents K, depth L, heads and feed-forward width.
    """

    split_above = SPLIT

    def __init__(self, dim: int, config: Config):
        super().__init__()
        self.dim, self.ffn_mult, self.recompute = dim, config.ffn_mult, config.recompute
        self.latents = nn.Parameter(torch.randn(config.num_latents, dim) * 0.5)
        self.cross = Block(dim, config.num_heads, config.ffn_mult, is_cross=True)
        self.layers = Blocks(config.depth, dim, config.num_heads, config.ffn_mult)

    @property
    def num_latents(self) -> int:
        """Number of latents K."""
        return len(self.latents)

    def forward(self, tokens: Tensor, ptr: Sequence[int]) -> Tensor:
        """Tokens (N, D) -> latents (B, K, D); graph b owns tokens ``ptr[b]:ptr[b + 1]``."""
        latents = self._run(self._read, tokens, ptr)
        for layer in self.layers:
            latents = self._run(layer.self_attend, latents)
        return latents

    def _read(self, tokens: Tensor, ptr: Sequence[int]) -> Tensor:
        """Attend from the learned latents to the tokens (N, D) -> latents (B, K, D)."""
        num_graphs = len(ptr) - 1
        query = self.cross.queries(self.latents)  # (K, H, E), equal for all graphs
        sizes = sizes_of(ptr)
        if max(sizes, default=0) > self.split_above:
            reads = [
                split_attention(query, own, self.cross.keys_values, self.split_above)
                for own in tokens.split(sizes)
            ]
            read = torch.stack(reads)  # (B, K, H, E)
        else:
            cu_q = range(0, (num_graphs + 1) * self.num_latents, self.num_latents)
            k, v = self.cross.keys_values(tokens)
            read = packed_attention(query.repeat(num_graphs, 1, 1), k, v, cu_q, ptr)
            read = read.unflatten(0, (num_graphs, self.num_latents))
        return self.cross.update(self.latents.expand(num_graphs, -1, -1), read)

    def _run(self, function: Callable[..., Tensor], *inputs: object) -> Tensor:
        """Call a function; with ``recompute``, without keeping its activations."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
        return function(*inputs)

    def flops(self, num_tokens: int, num_graphs: int) -> int:
        """Return the FLOPs of a forward pass."""
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        num_latents = num_graphs * self.num_latents
        # The queries are equal for all graphs, so they are projected once.
        saved = 2 * self.dim**2 * (num_latents - self.num_latents)
        cross = num_latents * per_query - saved + num_tokens * per_key
        cross += score_flops(self.num_latents, num_tokens, self.dim)
        layer = num_latents * (per_query + per_key)
        layer += score_flops(num_latents, self.num_latents, self.dim)
        return cross + len(self.layers) * layer
