"""The CUDA kernel behind ``packed_attention``: one launch for all graphs of a batch.

Shapes:
    N  query tokens   M  key tokens   B  graphs   H  heads   E  width of a head
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def varlen_packed(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Sequence[int], cu_k: Sequence[int]
) -> Tensor:
    """Attend by ``varlen_attn``: FlashAttention over packed graphs, half precision, CUDA only."""
    from torch.nn.attention.varlen import varlen_attn

    if not (len(q) and len(k)):
        return torch.zeros_like(q)
    out = varlen_attn(
        q,
        k,
        v,
        _on_device(cu_q, q.device, torch.int32),
        _on_device(cu_k, q.device, torch.int32),
        _longest(cu_q),
        _longest(cu_k),
    )
    return _zero_without_keys(out, cu_q, cu_k)  # type: ignore[arg-type]


def graph_of(cu: Sequence[int], device: torch.device | str) -> Tensor:
    """Return the graph of every token: boundaries (B + 1,) -> (N,)."""
    sizes = [end - begin for begin, end in zip(cu[:-1], cu[1:], strict=True)]
    graphs = torch.arange(len(sizes), device=device)
    return graphs.repeat_interleave(
        _on_device(sizes, device, torch.int64), output_size=cu[-1] - cu[0]
    )


def _on_device(values: Sequence[int], device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """Copy integers from the host without waiting for the device."""
    sent = torch.tensor(values, dtype=dtype)
    if torch.device(device).type != "cuda":
        return sent.to(device)
    return sent.pin_memory().to(device, non_blocking=True)


def _longest(cu: Sequence[int]) -> int:
    return max(end - begin for begin, end in zip(cu[:-1], cu[1:], strict=True))


def _zero_without_keys(out: Tensor, cu_q: Sequence[int], cu_k: Sequence[int]) -> Tensor:
    """Set the output of queries without keys to 0: kernels may return NaN there."""
    empty = [b for b in range(len(cu_k) - 1) if cu_k[b] == cu_k[b + 1] and cu_q[b] < cu_q[b + 1]]
    if not empty:
        return out
    has_keys = [float(cu_k[b] < cu_k[b + 1]) for b in range(len(cu_k) - 1)]
    keep = torch.tensor(has_keys, device=out.device)[graph_of(cu_q, out.device)] > 0
    return torch.where(keep[:, None, None], out, 0.0)
