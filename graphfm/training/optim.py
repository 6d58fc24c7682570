"""Optimizers and learning-rate schedules.

No optimizer changes a parameter that has no gradient in a step: it keeps its value, its moments and
its step count. So a step does not change the adapters and heads of graphs that it does not visit.
"""

from __future__ import annotations

import math
import re
from collections import ChainMap
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphfm.config.recipe import TrainConfig
from graphfm.model.graphfm import PREFIX

BETAS = (0.9, 0.98)  # a graph is visited once in many steps: 0.999 remembers longer than a run
GRAPH_PARAM = re.compile(rf"(.*\b|^){PREFIX}[^.]+\.")


def lr_at(step: int, c: TrainConfig) -> float:
    """Learning rate of a step.

    The rate rises linearly over ``warmup_steps``. Then ``cosine`` falls to ``final_lr`` times the
    peak. ``wsd`` stays at the peak and falls by 1 - sqrt in the last ``decay_share`` of all steps
    (Hägele et al. 2024, arXiv 2405.18392, section 3). Before the decay a ``wsd`` run does not
    depend on its length. So a run resumed from there with another number of ``steps`` equals the
    uninterrupted run of that length, bit for bit.

    Args:
        step: Number of steps done before.
        c: Schedule.

    >>> c = TrainConfig(steps=100, warmup_steps=10, lr=1.0, final_lr=0.1)
    >>> [round(lr_at(s, c), 3) for s in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    >>> c = TrainConfig(steps=100, warmup_steps=10, lr=1.0, final_lr=0.0, schedule="wsd")
    >>> [round(lr_at(s, c), 3) for s in (0, 9, 50, 80, 85, 99)]
    [0.1, 1.0, 1.0, 1.0, 0.5, 0.025]
    """
    if step < c.warmup_steps:
        return c.lr * (step + 1) / c.warmup_steps
    low = c.final_lr
    if c.schedule == "cosine":
        done = (step - c.warmup_steps) / max(1, c.steps - c.warmup_steps)
        return c.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))
    start = decay_start(c)
    done = max(0.0, (step - start) / max(1, c.steps - start))
    return c.lr * (low + (1 - low) * (1 - math.sqrt(done)))


def decay_start(c: TrainConfig) -> int:
    """Return the step at which the decay of a ``wsd`` schedule starts."""
    return max(c.warmup_steps, c.steps - math.ceil(c.decay_share * c.steps))


def make_optimizer(modules: Sequence[nn.Module], c: TrainConfig) -> torch.optim.Optimizer:
    """Make the optimizer of a recipe. Weight decay applies to matrices only.

    ``adamw`` is torch's fused AdamW. ``lamb`` is the paper's choice. ``muon`` is Muon (Jordan et
    al. 2024) on the matrices of the trunk, with the step size of arXiv 2502.16982, which takes
    AdamW's learning rate; all other weights, such as those of one graph, have AdamW.

    Args:
        modules: Modules whose parameters are trained.
        c: Optimizer, learning rate and weight decay.
    """
    named = [(n, p) for m in modules for n, p in m.named_parameters() if p.requires_grad]
    params = [p for _, p in named]
    if c.optimizer == "adamw":
        return _adamw(params, c)
    if c.optimizer == "lamb":
        return Lamb(_by_decay(params, c), lr=c.lr)
    matrices = [p for n, p in named if _is_trunk_matrix(n, p)]
    chosen = {id(p) for p in matrices}
    muon = torch.optim.Muon(
        matrices, lr=c.lr, weight_decay=c.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return CombinedOptimizer([muon, _adamw([p for _, p in named if id(p) not in chosen], c)])


class CombinedOptimizer(torch.optim.Optimizer):
    """Several optimizers of different parameters, used as one.

    Args:
        parts: Optimizers to combine. Their parameter groups are shared, not copied.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]):
        self.parts = list(parts)
        super().__init__([p for part in parts for p in part.param_groups], {})
        self._share_groups()

    def step(self, closure: Any = None) -> Any:
        """Take a step of each part."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts, by their position."""
        return {str(i): part.state_dict() for i, part in enumerate(self.parts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state that :meth:`state_dict` returned."""
        for i, part in enumerate(self.parts):
            part.load_state_dict(state_dict[str(i)])
        self._share_groups()

    def _share_groups(self) -> None:
        """Share parameter groups and state with the parts."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state = ChainMap(*(part.state for part in self.parts))  # type: ignore


def _adamw(params: Sequence[Tensor], c: TrainConfig) -> torch.optim.AdamW:
    """Make a fused AdamW."""
    groups = _by_decay(params, c)
    return torch.optim.AdamW(groups, lr=c.lr, betas=BETAS, fused=True)


def _by_decay(params: Sequence[Tensor], c: TrainConfig) -> list[dict[str, Any]]:
    """Group parameters: matrices with weight decay, vectors without; no group is empty.

    Sharded weights have groups of their own: a fused step cannot mix them with whole ones.
    """
    groups = []
    for is_sharded in (False, True):
        some = [p for p in params if hasattr(p, "full_tensor") is is_sharded]
        matrices = [p for p in some if p.ndim >= 2]
        vectors = [p for p in some if p.ndim < 2]
        groups += [
            {"params": matrices, "weight_decay": c.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
    return [group for group in groups if group["params"]]


def _is_trunk_matrix(name: str, param: Tensor) -> bool:
    """Return true for a linear map of the trunk; latents and role embeddings are none."""
    shared = not GRAPH_PARAM.match(name) and "universal." not in name
    return param.ndim == 2 and name.endswith(".weight") and shared


class Lamb(torch.optim.Optimizer):
    """LAMB: Adam's direction, rescaled to the norm of each tensor.

        r = m' / (sqrt(v') + eps) + weight_decay x        m', v' are bias-corrected moments
        x = x - lr (|x| / |r|) r                          |x| / |r| = 1 if one of them is 0

    You et al. 2020, arXiv 1904.00962, algorithm 2, with the identity for its function phi.

    Args:
        params: Parameters, or groups of them.
        lr: Step size relative to the norm of each tensor. Default: 1e-3.
        betas: Decay rates of the means of gradients and of squared gradients. Default: 0.9, 0.999.
        eps: Term that avoids a division by 0. Default: 1e-6.
        weight_decay: Weight decay, added before the norm of the direction is taken. Default: 0.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore
        """Take a step of every parameter that has a gradient."""
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
        """Update the parameters of one group."""
        for param in params:
            state = self.state[param]
            if not state:
                state.update(step=0, mean=torch.zeros_like(param), square=torch.zeros_like(param))
            state["step"] += 1
        states = [self.state[p] for p in params]
        grads = [p.grad for p in params if p.grad is not None]
        means, squares = [s["mean"] for s in states], [s["square"] for s in states]
        corrections = [[1 - beta ** s["step"] for s in states] for beta in betas]
        torch._foreach_lerp_(means, grads, 1 - betas[0])
        torch._foreach_mul_(squares, betas[1])
        torch._foreach_addcmul_(squares, grads, grads, 1 - betas[1])
        scale = torch._foreach_sqrt(torch._foreach_div(squares, corrections[1]))
        torch._foreach_add_(scale, eps)
        direction = torch._foreach_div(torch._foreach_div(means, corrections[0]), scale)
        if weight_decay:
            torch._foreach_add_(direction, params, alpha=weight_decay)
        # All norms at once, compared on the device: the host does not wait for them.
        size, length = (torch.stack(torch._foreach_norm(x)) for x in (params, direction))
        trust = torch.where((size > 0) & (length > 0), size / length, 1.0)
        torch._foreach_mul_(direction, trust.unbind())
        torch._foreach_add_(params, direction, alpha=-lr)
