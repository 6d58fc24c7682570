"""LAMB (You et al. 2020, arXiv 1904.00962, algorithm 2), with a step count for every parameter.

Our own, because no library gives it: torch has none; timm's needs torchvision, which does not
import beside a CPU build of torch, and counts steps by group, though a dataset's adapter takes one
step in many; pytorch-optimizer's first step is ten times too long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """Adam's direction in every tensor, as long as the tensor itself is.

        r = m' / (sqrt(v') + eps) + weight_decay x        m', v' corrected for their start
        x = x - lr (|x| / |r|) r                          |x| / |r| = 1 where one of them is 0

    Args:
        params: Parameters or groups of them.
        lr: Step size, as a share of the length of a tensor.
        betas: Of the running means of gradients and of their squares.
        eps: Against division by 0.
        weight_decay: Added to the direction before its length is measured.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        given = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, given)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore
        """One step of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step(params, **{k: v for k, v in group.items() if k != "params"})
        return loss

    def _step(
        self,
        params: list[Tensor],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        for param in params:
            state = self.state[param]
            if not state:
                state.update(step=0, mean=torch.zeros_like(param), square=torch.zeros_like(param))
            state["step"] += 1
        states = [self.state[p] for p in params]
        grads = [p.grad for p in params if p.grad is not None]
        means, squares = [s["mean"] for s in states], [s["square"] for s in states]
        begun = [[1 - beta ** s["step"] for s in states] for beta in betas]
        torch._foreach_lerp_(means, grads, 1 - betas[0])
        torch._foreach_mul_(squares, betas[1])
        torch._foreach_addcmul_(squares, grads, grads, 1 - betas[1])
        spread = torch._foreach_sqrt(torch._foreach_div(squares, begun[1]))
        torch._foreach_add_(spread, eps)
        way = torch._foreach_div(torch._foreach_div(means, begun[0]), spread)
        if weight_decay:
            torch._foreach_add_(way, params, alpha=weight_decay)
        # All lengths at once, and compared on the device: nothing waits for them.
        size, length = (torch.stack(torch._foreach_norm(x)) for x in (params, way))
        trust = torch.where((size > 0) & (length > 0), size / length, 1.0)
        torch._foreach_mul_(way, trust.unbind())
        torch._foreach_add_(params, way, alpha=-lr)
