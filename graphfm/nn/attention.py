"""Attention over packed graphs: no padding, and no token sees another graph.

Shapes:
    N  query tokens   M  key tokens   B  graphs   H  heads   E  width of a head
    Q  targets   S  local tokens of a target   K  latents
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def packed_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Sequence[int], cu_k: Sequence[int]
) -> Tensor:
    """Each graph's queries attend to the same graph's keys.

    The loop over graphs is the reference and the CPU path: on CPU it is faster than padding, jagged
    tensors and segment softmax (65 ms against 157, 1093 and 394 for 24 graphs).

    Args:
        q: (N, H, E), packed end to end.
        k: (M, H, E), packed in the same order of graphs.
        v: (M, H, E).
        cu_q: (B + 1,), graph b owns queries ``cu_q[b]:cu_q[b + 1]``.
        cu_k: (B + 1,), graph b owns keys ``cu_k[b]:cu_k[b + 1]``.

    Returns:
        (N, H, E); zeros for the queries of a graph without keys.
    """
    parts = []
    for b in range(len(cu_q) - 1):
        queries = q[cu_q[b] : cu_q[b + 1]]
        keys = slice(cu_k[b], cu_k[b + 1])
        if cu_k[b] == cu_k[b + 1]:  # a softmax over nothing would be NaN
            parts.append(torch.zeros_like(queries))
            continue
        parts.append(attention(queries[None], k[keys][None], v[keys][None])[0])
    return torch.cat(parts)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot products with heads behind tokens: (B, N, H, E), (B, M, H, E) -> (B, N, H, E).

    ``mask`` is bool and broadcasts to (B, H, N, M), True = may read.
    """
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def prefix_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    latent_k: Tensor,
    latent_v: Tensor,
    cu_q: Sequence[int],
) -> Tensor:
    """Local tokens attend to each other and to the latents of their graph, in one softmax.

    The latents' keys and values are read where they lie, once per graph: never copied per target.

    Args:
        q: (Q, R, H, E) queries, R = S, or 1 for the target alone.
        k: (Q, S, H, E) keys of the local tokens.
        v: (Q, S, H, E) their values.
        mask: (Q, S) bool, True = a token that is there.
        latent_k: (B, K, H, E) keys of the latents.
        latent_v: (B, K, H, E) their values.
        cu_q: (B + 1,), graph b owns targets ``cu_q[b]:cu_q[b + 1]``.

    Returns:
        (Q, R, H, E).
    """
    scale = q.shape[-1] ** -0.5
    parts = []
    for b in range(len(cu_q) - 1):
        own = slice(cu_q[b], cu_q[b + 1])
        queries = q[own] * scale
        local = torch.einsum("qrhe,qshe->qhrs", queries, k[own])
        local = local.masked_fill(~mask[own][:, None, None, :], float("-inf"))
        latent = torch.einsum("qrhe,khe->qhrk", queries, latent_k[b])
        weights = torch.cat([local, latent], dim=-1).softmax(dim=-1)  # (Q, H, R, S + K)
        to_local, to_latent = weights.split([local.shape[-1], latent.shape[-1]], dim=-1)
        out = torch.einsum("qhrs,qshe->qrhe", to_local, v[own])
        parts.append(out + torch.einsum("qhrk,khe->qrhe", to_latent, latent_v[b]))
    return torch.cat(parts)


class Projections(nn.Module):
    """Queries, keys, values and output of multi-head attention.

    Args:
        dim: Width D of the tokens.
        num_heads: H; must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def queries(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., H, E)."""
        return self.to_q(x).unflatten(-1, (self.num_heads, -1))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(..., D) -> two of (..., H, E)."""
        k, v = self.to_kv(x).unflatten(-1, (2 * self.num_heads, -1)).chunk(2, dim=-2)
        return k, v

    def out(self, x: Tensor) -> Tensor:
        """(..., H, E) -> (..., D)."""
        return self.to_out(x.flatten(-2))
