"""Attention over keys that come in parts, merged exactly: as if one softmax had seen them all.

A part keeps the log of its softmax's denominator; the parts are averaged with these as weights.
The backward pass of a part needs no other part: with P = exp(scores - log of the *whole*
denominator) and delta = gradient . *whole* output, its gradients are those of the one softmax. So
no scores are kept, and a part may be recomputed on its own (FlashAttention, Dao et al. 2022, arXiv
2205.14135; merging over parts as ring attention, Liu et al. 2023, arXiv 2310.01889).

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
    """The parts of one attention, in the order they are read.

    Example:
        >>> q, k, v = torch.randn(3, 1, 4, 2, 8)  # (B, N, H, E) and 4 keys
        >>> merge = Merge()
        >>> parts = [merge.part(q, k[:, :1], v[:, :1]), merge.part(q, k[:, 1:], v[:, 1:])]
        >>> merge.whole(parts).shape
        torch.Size([1, 4, 2, 8])
    """

    def __init__(self) -> None:
        # Output and log denominators of the whole, from its backward pass to those of the parts.
        self.out = torch.empty(0)
        self.lse = torch.empty(0)

    def part(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Any:
        """Read some of the keys.

        Every part has the same queries in the same order, but may cut them into rows in its own
        way: (Q, S, H, E) beside (1, Q * S, H, E).

        Args:
            q: (B, N, H, E).
            k: (B, M, H, E); at least one key.
            v: (B, M, H, E).
            mask: (B, M) bool, True = may be read; each row at least one.

        Returns:
            What the part read (B, N, H, E) and its log denominators (B, N, H), for ``whole``
            only: the gradient that flows back into them is that of the whole.
        """
        bias = None
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device)
            bias = bias.masked_fill_(~mask, float("-inf"))[:, None, None]  # (B, 1, 1, M)
        return _Part.apply(q, k, v, bias, self)

    def whole(self, parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """What all parts read together, in the shape of the first."""
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
        # Detached: an output that knows its node, kept by what the node keeps, is never freed, and
        # a step of local-small left 2.6 MB behind.
        ctx.merge.out, ctx.merge.lse = (saved.detach() for saved in ctx.saved_tensors)
        grad = grad.contiguous()
        return None, None, *(grad.view(shape) for shape in ctx.shapes)


def _has_flash(q: Tensor) -> bool:
    """Asks what ``torch.nn.attention.sdpa_kernel`` allows, so that FLOPs can be counted without."""
    allowed = torch.backends.cuda.flash_sdp_enabled()  # of a CPU too, whatever its name says
    return allowed and q.device.type == "cpu" and q.dtype in FLASH_TYPES


def _read(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Output (B, N, H, E) and log denominators (B, N, H); heads lie behind tokens throughout."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if _has_flash(q):  # no scores in memory; on a CPU half the time of scores and softmax
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
    """Of q, k and v, from output and log denominators of the whole."""
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
    """(B, H, N, M), in at least float32."""
    scores = (q @ k.mT) * q.shape[-1] ** -0.5
    scores = scores if scores.dtype == torch.float64 else scores.float()
    return scores if bias is None else scores + bias
