"""The loop: one for pretraining and for fitting.

Shapes:
    B  graphs of a step, counted in every batch that holds them
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphfm.config import TrainConfig
from graphfm.errors import RecipeError
from graphfm.sampling.batch import GraphBatch
from graphfm.sampling.neighbors import mix_int
from graphfm.training.optim import lr_at
from graphfm.training.prefetch import ahead


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one optimizer step did; tensors stay on the device until somebody reads them.

    Args:
        number: Steps done, this one counted.
        batches: What it learned from.
        names: (B,) the graphs of each batch, in their order.
        loss: Scalar, over log C.
        per_graph: (B,) their mean losses.
        grad_norm: Scalar, before clipping.
        lr: Learning rate.
    """

    number: int
    batches: tuple[GraphBatch, ...]
    names: tuple[str, ...]
    loss: Tensor
    per_graph: Tensor
    grad_norm: Tensor
    lr: float

    @property
    def batch(self) -> GraphBatch:
        """The only batch."""
        (batch,) = self.batches
        return batch


def train(
    model: nn.Module,
    objective: Callable[..., tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    batch_at: Callable[[int], GraphBatch | Iterable[GraphBatch]],
    c: TrainConfig,
    *,
    seed: int,
    start: int = 0,
    prefetch: bool | None = None,
) -> Iterator[Step]:
    """Take ``c.steps`` optimizer steps, from ``start`` on, and hand each to the caller.

    The caller logs, evaluates, saves, and stops by leaving its ``for``. A step depends on the
    weights, the optimizer and its own number, on nothing else: so a resumed run is the straight
    run, bit for bit.

    Args:
        model: What learns.
        objective: ``(model, batch)`` to the loss and the loss of each graph; ``(model, batch,
            totals)`` where a step has several batches, see :mod:`graphfm.objectives.supervised`.
        optimizer: Of the model's weights.
        batch_at: The batch of a step, or its batches, whose gradients are added up.
        c: How long and how fast.
        seed: Of dropout.
        start: Steps done before.
        prefetch: Make a step's batches in a thread while the step before runs, with the same
            result. None = on CUDA: on two CPU cores batches are 2% of a step, and the thread
            took 5% more processor time than it could have hidden.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    device, steps = params[0].device, range(start, c.steps)

    def made(step: int) -> tuple[GraphBatch, ...]:
        batches = batch_at(step)
        return (batches,) if isinstance(batches, GraphBatch) else tuple(batches)

    if prefetch is None:
        prefetch = device.type == "cuda"
    coming = ahead(made, steps, device) if prefetch else (made(step) for step in steps)
    with contextlib.closing(coming):
        for step, batches in zip(steps, coming, strict=False):  # strict would ask for one more
            model.train()  # an evaluation between two steps may have changed it
            lr = lr_at(step, c)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss, per_graph = _gradient(model, objective, batches, c.precision, seed, step)
            grad_norm = nn.utils.clip_grad_norm_(params, c.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield Step(
                number=step + 1,
                batches=batches,
                names=tuple(name for batch in batches for name in batch.names),
                loss=loss,
                per_graph=per_graph,
                grad_norm=grad_norm.detach(),
                lr=lr,
            )


def _gradient(
    model: nn.Module,
    objective: Callable[..., tuple[Tensor, Tensor]],
    batches: Sequence[GraphBatch],
    precision: str,
    seed: int,
    step: int,
) -> tuple[Tensor, Tensor]:
    """Add up the gradients of a step's batches; returns its loss and that of each graph."""
    totals: dict[str, int] = {}
    for batch in batches:
        for name, size in zip(batch.names, batch.sizes, strict=True):
            totals[name] = totals.get(name, 0) + size
    whole = [totals] if len(batches) > 1 else []
    losses, per_graph = [], []
    for place, batch in enumerate(batches):
        device = batch.pe.device
        with own_randomness(seed, step, place, device=device), autocast(device, precision):
            loss, each = objective(model, batch, *whole)
        loss.backward()
        losses.append(loss.detach())
        per_graph.append(each.detach())
    if len(batches) == 1:
        return losses[0], per_graph[0]
    return torch.stack(losses).sum(), torch.cat(per_graph)


@contextlib.contextmanager
def own_randomness(
    seed: int, step: int, place: int = 0, *, device: torch.device | None = None
) -> Iterator[None]:
    """Dropout is a function of (seed, step, place in the step); generators are left as they were.

    Only those of the CPU and of ``device`` are kept and put back: others are not drawn from.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed((mix_int(seed * 1_000_003 + step) + place) % 2**63)
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
