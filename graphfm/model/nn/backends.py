"""CUDA kernels behind ``packed_attention``: one launch for all graphs of a batch.

Neither has ever run on a GPU in this project's tests so far: they are marked ``gpu``.

Shapes:
    N  query tokens   M  key tokens   B  graphs   H  heads   E  width of a head
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BLOCK = 128  # queries and keys of one block of FlexAttention: its default


def varlen_packed(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Sequence[int], cu_k: Sequence[int]
) -> Tensor:
    """By ``varlen_attn``: FlashAttention with a list of boundaries; half precision, CUDA only."""
    from torch.nn.attention.varlen import varlen_attn

    if not (len(q) and len(k)):
        return torch.zeros_like(q)
    out = varlen_attn(
        q,
        k,
        v,
        on_device(cu_q, q.device, torch.int32),
        on_device(cu_k, q.device, torch.int32),
        _longest(cu_q),
        _longest(cu_k),
    )
    return _zero_without_keys(out, cu_q, cu_k)  # type: ignore[arg-type]


def flex_packed(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Sequence[int], cu_k: Sequence[int]
) -> Tensor:
    """By FlexAttention with a block mask of documents; any float type. No backward on a CPU."""
    if not (len(q) and len(k)):
        return torch.zeros_like(q)
    heads_first = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H, N, E)
    mask = document_mask(cu_q, cu_k, q.device)
    out = _flex(q.device.type)(*heads_first, block_mask=mask)
    return _zero_without_keys(out[0].transpose(0, 1), cu_q, cu_k)


def document_mask(cu_q: Sequence[int], cu_k: Sequence[int], device: torch.device | str) -> Any:
    """A BlockMask under which a query reads the keys of its own graph.

    Made from the boundaries alone: a block of queries spans consecutive graphs, so it reads
    consecutive blocks of keys. torch's ``create_block_mask`` would look at every pair of tokens.
    """
    from torch.nn.attention.flex_attention import BlockMask

    num_q, num_k = cu_q[-1], cu_k[-1]
    starts, counts = [], []
    for at in range(0, num_q, BLOCK):
        first = bisect_right(cu_q, at) - 1
        last = bisect_left(cu_q, min(at + BLOCK, num_q))  # graphs first:last own these queries
        begin, end = cu_k[first] // BLOCK, -(-cu_k[last] // BLOCK)
        starts.append(begin)
        counts.append(end - begin if cu_k[first] < cu_k[last] else 0)
    num_blocks = -(-num_k // BLOCK)
    start = on_device(starts, device, torch.int32)
    order = torch.arange(num_blocks, dtype=torch.int32, device=device)
    indices = (start[:, None] + order).clamp_(max=max(num_blocks - 1, 0))
    graph_of_q, graph_of_k = graph_of(cu_q, device), graph_of(cu_k, device)

    def same_graph(b: Tensor, h: Tensor, at_q: Tensor, at_k: Tensor) -> Tensor:
        return graph_of_q[at_q] == graph_of_k[at_k]

    return BlockMask.from_kv_blocks(
        on_device(counts, device, torch.int32)[None, None],
        indices[None, None].contiguous(),
        BLOCK_SIZE=BLOCK,
        mask_mod=same_graph,
        seq_lengths=(num_q, num_k),
    )


def graph_of(cu: Sequence[int], device: torch.device | str) -> Tensor:
    """The graph of every token: boundaries (B + 1,) -> (N,)."""
    sizes = [end - begin for begin, end in zip(cu[:-1], cu[1:], strict=True)]
    graphs = torch.arange(len(sizes), device=device)
    return graphs.repeat_interleave(
        on_device(sizes, device, torch.int64), output_size=cu[-1] - cu[0]
    )


def on_device(values: Sequence[int], device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Integers of the host, sent without waiting for what the device is doing."""
    sent = torch.tensor(values, dtype=dtype)
    if torch.device(device).type != "cuda":
        return sent.to(device)
    return sent.pin_memory().to(device, non_blocking=True)


@functools.cache
def _flex(device: str) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    # dynamic: one program for all batch sizes. Uncompiled it makes every score: for tests only.
    compiled: Any = torch.compile(flex_attention, dynamic=True)
    return compiled if device == "cuda" else flex_attention


def _longest(cu: Sequence[int]) -> int:
    return max(end - begin for begin, end in zip(cu[:-1], cu[1:], strict=True))


def _zero_without_keys(out: Tensor, cu_q: Sequence[int], cu_k: Sequence[int]) -> Tensor:
    """Kernels differ in what they give a query without keys; the loop gives 0."""
    empty = [b for b in range(len(cu_k) - 1) if cu_k[b] == cu_k[b + 1] and cu_q[b] < cu_q[b + 1]]
    if not empty:
        return out
    has_keys = [float(cu_k[b] < cu_k[b + 1]) for b in range(len(cu_k) - 1)]
    keep = torch.tensor(has_keys, device=out.device)[graph_of(cu_q, out.device)] > 0
    return torch.where(keep[:, None, None], out, 0.0)
