"""Attention over keys in parts, merged exactly: the result of one softmax over all keys.

A part keeps the log of its softmax denominator; the parts are averaged with these as weights. The
backward pass of a part needs no other part: with P = exp(scores - log of the *whole* denominator)
and delta = gradient . *whole* output, its gradients are those of the one softmax. So no scores are
kept, and a part can be recomputed on its own (FlashAttention, Dao et al. 2022, arXiv 2205.14135;
merging over parts as in ring attention, Liu et al. 2023, arXiv 2310.01889).

Shapes:
    B  rows that share no key   N  queries   M  keys   H  heads   E  width of a head
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FLASH_TYPES = (torch.float32, torch.float64, torch.bfloat16)


class Merge:
    """Parts of one attention, in the order in which they are read.

    Example:
        >>> q, k, v = torch.randn(3, 1, 4, 2, 8)  # (B, N, H, E) and 4 keys
        >>> merge = Merge()
        >>> parts = [merge.part(q, k[:, :1], v[:, :1]), merge.part(q, k[:, 1:], v[:, 1:])]
        >>> merge.whole(parts).shape
        torch.Size([1, 4, 2, 8])
    """

    def __init__(self) -> None:
        # Output and log denominators of the whole, for the backward passes of the parts.
        self.out = torch.empty(0)
        self.lse = torch.empty(0)

    def part(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
        """Attend to some of the keys.

        All parts have the same queries in the same order. They may arrange them in different rows:
        (Q, S, H, E) in one part, (1, Q * S, H, E) in another.

        Args:
            q: (B, N, H, E).
            k: (B, M, H, E); at least one key.
            v: (B, M, H, E).
            mask: (B, M) bool, True = may be read; at least one per row. Default: all keys.

        Returns:
            Output of the part (B, N, H, E) and its log denominators (B, N, H). Pass both to
            ``whole`` and use them nowhere else: their gradient is that of the whole.
        """
        bias = None
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device)
            bias = bias.masked_fill_(~mask, float("-inf"))[:, None, None]  # (B, 1, 1, M)
        return _Part.apply(q, k, v, bias, self)

    def whole(self, parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Merge the outputs of all parts, in the shape of the first part."""
        outs = [out for out, _ in parts]
        return _Whole.apply(self, [lse for _, lse in parts], *outs)


class _Part(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, merge: Merge
    ) -> tuple[Tensor, Tensor]:
        out, lse = _read(q, k, v, bias)
        ctx.save_for_backward(q, k, v, bias)
        ctx.merge = merge
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias = ctx.saved_tensors
        out, lse = ctx.merge.out.view(q.shape), ctx.merge.lse.view(q.shape[:-1])
        return *_gradients(grad, q, k, v, bias, out, lse), None, None


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, merge: Merge, lses: list[Tensor], *outs: Tensor) -> Tensor:
        ctx.merge, ctx.shapes = merge, [out.shape for out in outs]
        shape = outs[0].shape
        every = torch.stack([lse.reshape(shape[:-1]) for lse in lses])
        lse = every.logsumexp(0)
        shares = (every - lse).exp_().to(outs[0].dtype)[..., None]  # (parts, B, N, H, 1)
        whole = outs[0] * shares[0]
        for out, share in zip(outs[1:], shares[1:], strict=True):
            whole.addcmul_(out.view(shape), share)
        ctx.save_for_backward(whole, lse)
        return whole

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # Detached: an output that refers to its own autograd node is never freed. A step of
        # local-small leaked 2.6 MB.
        ctx.merge.out, ctx.merge.lse = (saved.detach() for saved in ctx.saved_tensors)
        grad = grad.contiguous()
        return None, None, *(grad.view(shape) for shape in ctx.shapes)


def _has_flash(q: Tensor) -> bool:
    """True if torch's flash kernel for CPUs can be used and ``sdpa_kernel`` allows it.

    FLOPs are counted without it: torch's counter cannot see inside the kernel.
    """
    allowed = torch.backends.cuda.flash_sdp_enabled()  # also governs CPUs, despite its name
    return allowed and q.device.type == "cpu" and q.dtype in FLASH_TYPES


def _read(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the output (B, N, H, E) and the log denominators (B, N, H)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if _has_flash(q):  # keeps no scores in memory; half the time of scores and softmax
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = flash(q, k, v, attn_mask=bias)
        return out.transpose(1, 2), lse.transpose(1, 2)
    scores = _scores(q, k, bias)
    lse = scores.logsumexp(-1)
    out = (scores - lse[..., None]).exp().to(v.dtype) @ v
    return out.transpose(1, 2).contiguous(), lse.transpose(1, 2).contiguous()


def _gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, from output and log denominators of the whole."""
    grad, q, k, v, out = (x.transpose(1, 2) for x in (grad, q, k, v, out))
    lse = lse.transpose(1, 2)  # (B, H, N)
    if _has_flash(q):
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        grads = flash(grad, q, k, v, out, lse, 0.0, False, attn_mask=bias)
    else:
        weights = (_scores(q, k, bias) - lse[..., None]).exp()
        delta = (grad * out).sum(-1, keepdim=True, dtype=weights.dtype)
        towards = weights * ((grad @ v.mT).to(weights.dtype) - delta)
        towards = (towards * q.shape[-1] ** -0.5).to(q.dtype)
        grads = towards @ k, towards.mT @ q, weights.to(v.dtype).mT @ grad
    return tuple(x.transpose(1, 2) for x in grads)


def _scores(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """Return the scores (B, H, N, M), in at least float32."""
    scores = (q @ k.mT) * q.shape[-1] ** -0.5
    scores = scores if scores.dtype == torch.float64 else scores.float()
    return scores if bias is None else scores + bias
