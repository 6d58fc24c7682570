"""Perceiver: K learned latents read all tokens of a graph once, then each other L times.

Shapes:
    N  tokens in the batch   B  graphs   K  latents per graph   D  width

Cost: K N + L K^2 attention scores (the paper, section 3), instead of N^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from graphfm.nn.attention import packed_attention
from graphfm.nn.block import Block, Blocks, linear_flops, score_flops
from graphfm.parts import PartConfig


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

    def build(self, *, dim: int) -> Encoder:
        """The module at this width."""
        return Encoder(dim, self.num_latents, self.depth, self.num_heads, self.ffn_mult)


class Encoder(nn.Module):
    """See the module."""

    def __init__(self, dim: int, num_latents: int, depth: int, num_heads: int, ffn_mult: int):
        super().__init__()
        self.dim, self.ffn_mult = dim, ffn_mult
        self.latents = nn.Parameter(torch.randn(num_latents, dim) * 0.5)
        self.cross = Block(dim, num_heads, ffn_mult, reads_itself=False)
        self.layers = Blocks(depth, dim, num_heads, ffn_mult)

    @property
    def num_latents(self) -> int:
        """K."""
        return len(self.latents)

    def forward(self, tokens: Tensor, ptr: Sequence[int]) -> Tensor:
        """Packed tokens (N, D) of the graphs ``ptr[b]:ptr[b + 1]`` -> latents (B, K, D)."""
        num_graphs = len(ptr) - 1
        cu_q = range(0, (num_graphs + 1) * self.num_latents, self.num_latents)
        latents = self.latents.repeat(num_graphs, 1)  # (B*K, D)
        q = self.cross.queries(self.latents).repeat(num_graphs, 1, 1)  # (B*K, H, E)
        k, v = self.cross.keys_values(tokens)
        latents = self.cross.finish(latents, packed_attention(q, k, v, cu_q, ptr))
        latents = latents.unflatten(0, (num_graphs, self.num_latents))  # (B, K, D)
        for layer in self.layers:
            latents = layer.attend(latents, *layer.keys_values(latents))
        return latents

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
