"""Perceiver: K learned latents read all tokens of a graph once, then each other L times.

Shapes:
    N  tokens in the batch   B  graphs   K  latents per graph   D  width   H  heads
    E  width of a head

Cost: K N + L K^2 attention scores (the paper, section 3), instead of N^2.
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

SPLIT = 1 << 16  # tokens of one graph; keys and values of more are made and read in chunks


class Config(PartConfig):
    """Shape of the encoder."""

    kind: Literal["perceiver"] = "perceiver"
    num_latents: int = Field(default=64, ge=1)
    """K, learned, the same for every graph."""
    depth: int = Field(default=3, ge=0)
    """L, self-attention layers over the latents."""
    num_heads: int = Field(default=4, ge=1)
    ffn_mult: int = Field(default=2, ge=1)
    """Width of a feed-forward layer over D."""
    recompute: bool = False
    """Make activations again in the backward pass: a tenth of the memory, 1.6 times the time."""

    def build(self, *, dim: int) -> Encoder:
        """The module at this width."""
        return Encoder(dim, self)


class Encoder(nn.Module):
    """See the module.

    Args:
        dim: Width D.
        config: Latents K, depth L, heads and feed-forward width.
    """

    split_above = SPLIT

    def __init__(self, dim: int, config: Config):
        super().__init__()
        self.dim, self.ffn_mult, self.recompute = dim, config.ffn_mult, config.recompute
        self.latents = nn.Parameter(torch.randn(config.num_latents, dim) * 0.5)
        self.cross = Block(dim, config.num_heads, config.ffn_mult, reads_itself=False)
        self.layers = Blocks(config.depth, dim, config.num_heads, config.ffn_mult)

    @property
    def num_latents(self) -> int:
        """K."""
        return len(self.latents)

    def forward(self, tokens: Tensor, ptr: Sequence[int]) -> Tensor:
        """Packed tokens (N, D) of the graphs ``ptr[b]:ptr[b + 1]`` -> latents (B, K, D)."""
        latents = self._maybe_recomputed(self._read, tokens, ptr)
        for layer in self.layers:
            latents = self._maybe_recomputed(layer.self_attend, latents)
        return latents

    def _read(self, tokens: Tensor, ptr: Sequence[int]) -> Tensor:
        """Cross-attention: tokens (N, D) -> latents (B, K, D)."""
        num_graphs = len(ptr) - 1
        query = self.cross.queries(self.latents)  # (K, H, E), of every graph
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

    def _maybe_recomputed(self, function: Callable[..., Tensor], *inputs: object) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
        return function(*inputs)

    def flops(self, num_tokens: int, num_graphs: int) -> int:
        """Of the forward pass over so many tokens of so many graphs."""
        per_query, per_key = linear_flops(self.dim, self.ffn_mult)
        num_latents = num_graphs * self.num_latents
        to_q_once = 2 * self.dim**2 * (num_latents - self.num_latents)  # one query, all graphs
        cross = num_latents * per_query - to_q_once + num_tokens * per_key
        cross += score_flops(self.num_latents, num_tokens, self.dim)
        layer = num_latents * (per_query + per_key)
        layer += score_flops(num_latents, self.num_latents, self.dim)
        return cross + len(self.layers) * layer
