"""The loop: one for pretraining and for fitting.

Shapes:
    B  graphs of a step
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphfm.config import TrainConfig
from graphfm.errors import RecipeError
from graphfm.sampling.batch import GraphBatch
from graphfm.sampling.neighbors import mix_int
from graphfm.training.optim import lr_at


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one optimizer step did; tensors stay on the device until somebody reads them.

    Args:
        number: Steps done, this one counted.
        batch: What it learned from.
        loss: Scalar, over log C.
        per_graph: (B,) mean loss of each graph.
        grad_norm: Scalar, before clipping.
        lr: Learning rate.
    """

    number: int
    batch: GraphBatch
    loss: Tensor
    per_graph: Tensor
    grad_norm: Tensor
    lr: float


def train(
    model: nn.Module,
    objective: Callable[[nn.Module, GraphBatch], tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    batch_at: Callable[[int], GraphBatch],
    c: TrainConfig,
    *,
    seed: int,
    start: int = 0,
) -> Iterator[Step]:
    """Take ``c.steps`` optimizer steps, from ``start`` on, and hand each to the caller.

    The caller logs, evaluates, saves, and stops by leaving its ``for``. A step depends on the
    weights, the optimizer and its own number, on nothing else: so a resumed run is the straight
    run, bit for bit.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(start, c.steps):
        model.train()  # an evaluation between two steps may have changed it
        lr = lr_at(step, c)
        for group in optimizer.param_groups:
            group["lr"] = lr
        batch = batch_at(step)
        with own_randomness(seed, step), autocast(batch.pe.device, c.precision):
            loss, per_graph = objective(model, batch)
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(params, c.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield Step(
            number=step + 1,
            batch=batch,
            loss=loss.detach(),
            per_graph=per_graph,
            grad_norm=grad_norm.detach(),
            lr=lr,
        )


@contextlib.contextmanager
def own_randomness(seed: int, step: int) -> Iterator[None]:
    """Dropout of a step is a function of (seed, step); the caller's generators are left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(mix_int(seed * 1_000_003 + step) % 2**63)
        yield


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[None]:
    """bf16 where it gains: on CUDA. Weights, norms, softmax and loss stay in float32."""
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    if not wanted:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def pick_device(device: str) -> torch.device:
    """``auto`` is CUDA where there is one.

    Raises:
        RecipeError: GFM410 for a device that is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError("GFM410", "there is no CUDA device here", fix="use --device cpu")
    return torch.device(device)
