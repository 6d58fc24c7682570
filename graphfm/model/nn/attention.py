"""Attention over packed graphs: no padding, and no token reads another graph.

Shapes:
    N  query tokens   M  key tokens   B  graphs   H  heads   E  width of a head   D  = H * E
    Q  targets   S  local tokens of a target   K  latents
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphfm.model.nn.merge import Merge
from graphfm.model.nn.varlen import varlen_packed


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_q: Sequence[int],
    cu_k: Sequence[int],
    *,
    backend: str | None = None,
) -> Tensor:
    """Let each graph's queries attend to the keys of the same graph.

    Args:
        q: (N, H, E), packed end to end.
        k: (M, H, E), packed in the same order of graphs.
        v: (M, H, E).
        cu_q: (B + 1,), graph b owns queries ``cu_q[b]:cu_q[b + 1]``.
        cu_k: (B + 1,), graph b owns keys ``cu_k[b]:cu_k[b + 1]``.
        backend: ``loop`` or ``varlen``. Default: :func:`backend_for` chooses.

    Returns:
        (N, H, E); zeros for the queries of a graph without keys.
    """
    return BACKENDS[backend or backend_for(q)](q, k, v, cu_q, cu_k)


def backend_for(q: Tensor) -> str:
    """Choose a backend: GRAPHFM_ATTENTION if it is set, else by device and dtype.

    On a CPU the loop is the fastest backend with gradients (24 graphs: 65 ms; padding 157, jagged
    tensors 1093, segment softmax 394). On CUDA, varlen is one kernel for all graphs, in half
    precision only; float32 uses the loop.
    """
    chosen = os.environ.get("GRAPHFM_ATTENTION")
    if chosen:
        return chosen
    half = q.dtype in (torch.bfloat16, torch.float16)
    return "varlen" if q.device.type == "cuda" and half else "loop"


def _loop(q: Tensor, k: Tensor, v: Tensor, cu_q: Sequence[int], cu_k: Sequence[int]) -> Tensor:
    """Attend graph by graph: the reference for the other backends."""
    sizes_q, sizes_k = sizes_of(cu_q), sizes_of(cu_k)
    parts = []
    # split, not slices: the gradient of a slice is as large as the whole tensor
    for queries, keys, values in zip(
        q.split(sizes_q), k.split(sizes_k), v.split(sizes_k), strict=True
    ):
        if not len(keys):  # a softmax over no key is NaN
            parts.append(torch.zeros_like(queries))
            continue
        parts.append(attention(queries[None], keys[None], values[None])[0])
    return torch.cat(parts)


BACKENDS: dict[str, Callable[..., Tensor]] = {"loop": _loop, "varlen": varlen_packed}


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention: (B, N, H, E), (B, M, H, E) -> (B, N, H, E).

    Args:
        q: (B, N, H, E); the heads come after the tokens.
        k: (B, M, H, E).
        v: (B, M, H, E).
        mask: bool, broadcasts to (B, H, N, M); True = may be read. Default: everything.
    """
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def prefix_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    latent_k: Sequence[Tensor],
    latent_v: Sequence[Tensor],
    cu_q: Sequence[int],
) -> Tensor:
    """Let local tokens attend to each other and to the latents of their graph, in one softmax.

    The softmax has two parts, which are merged exactly. In one, all queries of a graph read its
    latents as one large product. In the other, the few tokens of each target read each other. The
    keys and values of the latents are never copied per target.

    Args:
        q: (Q, R, H, E) queries; R = S, or R = 1 for the target alone.
        k: (Q, S, H, E) keys of the local tokens.
        v: (Q, S, H, E) values of the local tokens.
        mask: (Q, S) bool, True = a real token; at least one per target.
        latent_k: B times (K, H, E), keys of the latents.
        latent_v: B times (K, H, E), values of the latents.
        cu_q: (B + 1,), graph b owns targets ``cu_q[b]:cu_q[b + 1]``; at least one target.

    Returns:
        (Q, R, H, E).
    """
    outs = []
    graphs, sizes = owners(cu_q)
    local_parts = zip(*(x.split(sizes) for x in (q, k, v, mask)), strict=True)
    for b, (queries, keys, values, own_mask) in zip(graphs, local_parts, strict=True):
        merge = Merge()
        local = merge.part(queries, keys, values, own_mask)
        flat = queries.flatten(0, 1)[None]  # (1, Q_b * R, H, E)
        latent = merge.part(flat, latent_k[b][None], latent_v[b][None])
        outs.append(merge.whole([local, latent]))
    return _joined(outs, dim=0)


def split_attention(
    q: Tensor, tokens: Tensor, keys_values: Callable[[Tensor], tuple[Tensor, Tensor]], size: int
) -> Tensor:
    """Attend to tokens in chunks, when keys and values of all of them do not fit in memory.

    The chunks are merged exactly. Keys and values of a chunk are computed, read and dropped; the
    backward pass computes them again.

    Args:
        q: (N, H, E) queries.
        tokens: (M, D) tokens to read.
        keys_values: Function (M, D) -> keys and values, two of (M, H, E).
        size: Tokens of a chunk.

    Returns:
        (N, H, E), differentiable once; zeros if there are no tokens.
    """
    merge = Merge()

    def read(queries: Tensor, chunk: Tensor) -> tuple[Tensor, Tensor]:
        k, v = keys_values(chunk)
        part: tuple[Tensor, Tensor] = merge.part(queries[None], k[None], v[None])
        return part

    if not len(tokens):
        return torch.zeros_like(q)
    parts = [
        checkpoint(read, q, chunk, use_reentrant=False, preserve_rng_state=False)
        for chunk in tokens.split(size)
    ]
    return merge.whole(parts)[0]


def sizes_of(cu: Sequence[int]) -> list[int]:
    """Return the sizes of B graphs from their boundaries (B + 1,)."""
    return [end - begin for begin, end in zip(cu[:-1], cu[1:], strict=True)]


def owners(cu_q: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the graphs that own targets, and their numbers of targets."""
    sizes = sizes_of(cu_q)
    graphs = [b for b, size in enumerate(sizes) if size]
    return graphs, [sizes[b] for b in graphs]


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)  # cat copies a single part too


class Projections(nn.Module):
    """Projections of multi-head attention: queries, keys, values and output.

    Args:
        dim: Width D of the tokens.
        num_heads: Number of heads H; must divide ``dim``.
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

    def attend_one(
        self,
        q: Tensor,
        tokens: Tensor,
        mask: Tensor,
        latent_k: Sequence[Tensor] = (),
        latent_v: Sequence[Tensor] = (),
        cu_q: Sequence[int] = (),
    ) -> Tensor:
        """Attend with one query per target, to its own tokens and the latents of its graph.

        Only one query reads the tokens, so their keys and values are never computed. The query
        passes the key map and the weighted sum passes the value map. This costs
        4 D^2 + 4 H D S per target instead of 4 D^2 S.

        Args:
            q: (Q, H, E) queries.
            tokens: (Q, S, D) normalized tokens.
            mask: (Q, S) bool, True = a real token; at least one per target.
            latent_k: B times (K, H, E), keys of the latents. Default: no latents are read.
            latent_v: B times (K, H, E), values of the latents.
            cu_q: (B + 1,), graph b owns targets ``cu_q[b]:cu_q[b + 1]``.

        Returns:
            (Q, H, E).
        """
        to_k, to_v = self.to_kv.weight.unflatten(0, (2 * self.num_heads, -1)).chunk(2)  # (H, E, D)
        num_local = tokens.shape[1]
        q = q.transpose(0, 1) * q.shape[-1] ** -0.5  # (H, Q, E)
        scores = (q @ to_k).transpose(0, 1) @ tokens.mT  # (Q, H, S)
        scores = scores.masked_fill(~mask[:, None], float("-inf")).transpose(0, 1)  # (H, Q, S)
        graphs, sizes = owners(cu_q) if len(latent_k) else ([], [])
        if graphs:
            queries = zip(graphs, q.split(sizes, dim=1), strict=True)
            latent = [mine @ latent_k[b].permute(1, 2, 0) for b, mine in queries]
            scores = torch.cat([scores, _joined(latent, dim=1)], dim=-1)  # (H, Q, S + K)
        weights = scores.softmax(-1)
        read = weights[..., :num_local].transpose(0, 1) @ tokens  # (Q, H, D)
        out = read.transpose(0, 1) @ to_v.mT  # (H, Q, E)
        if graphs:
            shares = zip(graphs, weights[..., num_local:].split(sizes, dim=1), strict=True)
            values = [mine @ latent_v[b].transpose(0, 1) for b, mine in shares]
            out = out + _joined(values, dim=1)
        return out.transpose(0, 1)

    def out(self, x: Tensor) -> Tensor:
        """(..., H, E) -> (..., D)."""
        return self.to_out(x.flatten(-2))
