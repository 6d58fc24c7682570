"""Optimizers and schedules.

A parameter without a gradient in a step is left alone by all of them: it neither moves nor decays,
and its step count stands still. So a dataset that was not visited does not change.
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

BETAS = (0.9, 0.98)  # 0.98: a dataset is visited once in many steps, 0.999 would outlive the run
OF_DATASET = re.compile(rf"(.*\b|^){PREFIX}[^.]+\.")


def lr_at(step: int, c: TrainConfig) -> float:
    """Learning rate of a step.

    Linear warm-up, then ``cosine``: down to ``final_lr`` of the peak; or ``wsd``: the peak, and in
    the last ``decay_share`` of all steps down by 1 - sqrt (Hägele et al. 2024, arXiv 2405.18392,
    section 3). Up to there a ``wsd`` run does not depend on its length, so one of its checkpoints
    may be resumed under fewer ``steps``: the straight run of that length, bit for bit.

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
    begin = decay_begin(c)
    done = max(0.0, (step - begin) / max(1, c.steps - begin))
    return c.lr * (low + (1 - low) * (1 - math.sqrt(done)))


def decay_begin(c: TrainConfig) -> int:
    """The step at which the decay of a ``wsd`` schedule begins."""
    return max(c.warmup_steps, c.steps - math.ceil(c.decay_share * c.steps))


def make_optimizer(modules: Sequence[nn.Module], c: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of a recipe over some modules; weight decay on matrices only.

    ``adamw``; ``lamb``, the paper's; ``muon``: Muon (Jordan et al. 2024), with the step size of
    arXiv 2502.16982 that takes AdamW's learning rate, on the matrices of the trunk, and AdamW on
    everything else, what belongs to one dataset among it.
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
    return Together([muon, _adamw([p for _, p in named if id(p) not in chosen], c)])


class Together(torch.optim.Optimizer):
    """Several optimizers, each of its own parameters, as one.

    Args:
        parts: They. Their parameter groups are shared, not copied.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]):
        self.parts = list(parts)
        super().__init__([p for part in parts for p in part.param_groups], {})
        self._share()

    def step(self, closure: Any = None) -> Any:
        """One step of each."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Those of the parts, by their place."""
        return {str(i): part.state_dict() for i, part in enumerate(self.parts)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What :meth:`state_dict` gave."""
        for i, part in enumerate(self.parts):
            part.load_state_dict(state_dict[str(i)])
        self._share()

    def _share(self) -> None:
        """What the parts have is what this has."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state = ChainMap(*(part.state for part in self.parts))  # type: ignore


def _adamw(params: Sequence[Tensor], c: TrainConfig) -> torch.optim.AdamW:
    groups = _by_decay(params, c)
    return torch.optim.AdamW(groups, lr=c.lr, betas=BETAS, fused=True)


def _by_decay(params: Sequence[Tensor], c: TrainConfig) -> list[dict[str, Any]]:
    """Groups of matrices, which decay, and of vectors, which do not; empty ones are left out.

    A group holds whole weights or, of a trunk in parts, parts: one fused step cannot mix them.
    """
    groups = []
    for in_parts in (False, True):
        some = [p for p in params if hasattr(p, "full_tensor") is in_parts]
        matrices = [p for p in some if p.ndim >= 2]
        vectors = [p for p in some if p.ndim < 2]
        groups += [
            {"params": matrices, "weight_decay": c.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
    return [group for group in groups if group["params"]]


def _is_trunk_matrix(name: str, param: Tensor) -> bool:
    """Whether it is a map from one space to another (latents and roles are not), for all graphs."""
    of_all = not OF_DATASET.match(name) and "universal." not in name
    return param.ndim == 2 and name.endswith(".weight") and of_all


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
