"""The training loop, used by pretraining and by fitting.

Shapes:
    G  graphs of a step
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator

import torch
from torch import Tensor

from graphfm.config.recipe import TrainConfig
from graphfm.machine import autocast
from graphfm.model.cost import forward_flops
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.batch import GraphBatch
from graphfm.sampling.neighbors import mix_int
from graphfm.training.distributed import DistributedModel
from graphfm.training.faults import NonFiniteMonitor, is_out_of_memory, step_if
from graphfm.training.optim import lr_at
from graphfm.training.prefetch import make_ahead
from graphfm.training.step import RankBatches, Step


def train(
    model: GraphFM,
    objective: Callable[..., tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    batch_at: Callable[[int], GraphBatch | Iterable[GraphBatch] | RankBatches],
    c: TrainConfig,
    *,
    seed: int,
    start: int = 0,
    prefetch: bool | None = None,
    distributed: DistributedModel | None = None,
    monitor: NonFiniteMonitor | None = None,
    split: Callable[[int, RankBatches, str], RankBatches] | None = None,
) -> Generator[Step, None, None]:
    """Take optimizer steps ``start`` to ``c.steps`` and yield each result.

    The caller logs, evaluates, saves, and stops by leaving its ``for``. A step depends on the
    weights, the optimizer state and its own number, and on nothing else. So a resumed run equals
    the uninterrupted run bit for bit.

    Args:
        model: Model to train.
        objective: Function ``(model, batch)``, or ``(model, batch, totals)`` for a step of several
            batches, that returns the loss and the loss of each graph; see
            :mod:`graphfm.training.objectives.supervised`.
        optimizer: Optimizer of the model's weights.
        batch_at: Function of the step's number that returns its batch; or its batches, whose
            gradients are added up; or the batches of this process.
        c: Number of steps, schedule, clipping and precision.
        seed: Seed of dropout.
        start: Number of steps done before. Default: 0.
        prefetch: If true, make the batches of a step in a thread during the step before, with the
            same result. Default: true on CUDA only. On two CPU cores batches take 2% of a step,
            and the thread took 5% more processor time than it could have saved.
        distributed: The model spread over the processes of a run. Default: this process alone.
        monitor: Counter of steps that are not finite. Default: a new one.
        split: Function ``(step, batches, reason)`` that returns smaller batches after an
            out-of-memory error. Default: the error is raised.

    Raises:
        DivergedError: GFM601, see :meth:`graphfm.training.faults.NonFiniteMonitor.check`.
    """
    distributed = distributed or DistributedModel(model)
    monitor = monitor or NonFiniteMonitor()
    names = {id(p): name for name, p in model.named_parameters()}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    device, steps = params[0].device, range(start, c.steps)

    def make(step: int) -> RankBatches:
        return RankBatches.of(batch_at(step))

    if prefetch is None:
        prefetch = device.type == "cuda"
    coming = make_ahead(make, steps, device) if prefetch else (make(step) for step in steps)
    with contextlib.closing(coming):
        for step, own in zip(steps, coming, strict=False):  # strict would ask for one batch more
            model.train()  # an evaluation between two steps may have changed the mode
            lr = lr_at(step, c)
            for group in optimizer.param_groups:
                group["lr"] = lr
            while True:
                try:
                    loss, per_graph, flops = _gradient(
                        model, objective, own, c.precision, seed, step, distributed
                    )
                    break
                except (RuntimeError, MemoryError) as error:
                    if split is None or not is_out_of_memory(error):
                        raise
                    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                # After the except block: inside it the error still holds the step's tensors.
                optimizer.zero_grad(set_to_none=True)
                own = split(step, own, reason)
            norms, grad_norm = distributed.clip(params, c.max_grad_norm)
            finite = loss.isfinite() & grad_norm.isfinite()
            step_if(optimizer, finite)
            with_gradient = tuple(names.get(id(p), "") for p in params if p.grad is not None)
            optimizer.zero_grad(set_to_none=True)
            result = Step(
                number=step + 1,
                batches=own.batches,
                totals=own.totals,
                loss=loss,
                per_graph=per_graph,
                grad_norm=grad_norm.detach(),
                lr=lr,
                finite=finite,
                norms=norms.detach(),
                params=with_gradient,
                flops=flops,
                balance=own.balance,
            )
            monitor.check(result)
            yield result


def _gradient(
    model: GraphFM,
    objective: Callable[..., tuple[Tensor, Tensor]],
    own: RankBatches,
    precision: str,
    seed: int,
    step: int,
    distributed: DistributedModel,
) -> tuple[Tensor, Tensor, int]:
    """Accumulate the gradient of a step over batches and processes.

    Returns:
        The loss, a scalar; the loss of each graph, (G,); and the FLOPs.
    """
    totals = [] if own.is_whole_step else [own.totals]
    place = {name: i for i, name in enumerate(own.totals)}
    device = distributed.device
    figures = torch.zeros(1 + len(place), device=device)  # the loss, then the loss of each graph
    flops = 0
    for turn in range(own.rounds):
        last = turn == own.rounds - 1
        if turn >= len(own.batches):
            distributed.take_part(last)
            continue
        batch = own.batches[turn]
        with distributed.synchronized(last):
            with (
                seeded_dropout(seed, step, own.places[turn], device=device),
                autocast(device, precision),
            ):
                loss, each = objective(model, batch, *totals)
            loss.backward()
        flops += 3 * forward_flops(model, batch)  # a backward pass costs two forward passes
        if hasattr(objective, "flops"):
            flops += objective.flops(model, batch)
        parts = [size / own.totals[n] for n, size in zip(batch.names, batch.sizes, strict=True)]
        rows = [0, *(1 + place[name] for name in batch.names)]
        # Rows do not repeat within a batch, so the order of the sum is fixed, also on CUDA.
        figures.index_add_(
            0,
            send(torch.tensor(rows), device),
            torch.cat([loss.detach()[None], each.detach() * send(torch.tensor(parts), device)]),
        )
    flops = distributed.add_up(own.totals, figures, flops)
    return figures[0], figures[1:], flops


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the device; on CUDA without waiting for the copy."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@contextlib.contextmanager
def seeded_dropout(
    seed: int, step: int, place: int = 0, *, device: torch.device | None = None
) -> Iterator[None]:
    """Seed torch from (seed, step, place); restore the generators afterwards.

    Only the generators of the CPU and of ``device`` are restored: the step uses no others.

    Args:
        seed: Seed of the run.
        step: Number of steps done before.
        place: Position of the batch in the step. Default: 0.
        device: Device of the step. Default: the CPU.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed((mix_int(seed * 1_000_003 + step) + place) % 2**63)
        yield
