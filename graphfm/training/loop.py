"""The loop: one for pretraining and for fitting.

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
from graphfm.training.distributed import Spread
from graphfm.training.faults import Watch, is_out_of_memory, step_if
from graphfm.training.optim import lr_at
from graphfm.training.prefetch import ahead
from graphfm.training.step import Share, Step


def train(
    model: GraphFM,
    objective: Callable[..., tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    batch_at: Callable[[int], GraphBatch | Iterable[GraphBatch] | Share],
    c: TrainConfig,
    *,
    seed: int,
    start: int = 0,
    prefetch: bool | None = None,
    spread: Spread | None = None,
    watch: Watch | None = None,
    smaller: Callable[[int, Share, str], Share] | None = None,
) -> Generator[Step, None, None]:
    """Take ``c.steps`` optimizer steps, from ``start`` on, and hand each to the caller.

    The caller logs, evaluates, saves, and stops by leaving its ``for``. A step depends on the
    weights, the optimizer and its own number, on nothing else: so a resumed run is the straight
    run, bit for bit.

    Args:
        model: What learns.
        objective: ``(model, batch)`` to the loss and the loss of each graph; ``(model, batch,
            totals)`` where a step has several batches, see
            :mod:`graphfm.training.objectives.supervised`.
        optimizer: Of the model's weights.
        batch_at: The batch of a step, or its batches, whose gradients are added up, or the share of
            them that this process does.
        c: How long and how fast.
        seed: Of dropout.
        start: Steps done before.
        prefetch: Make a step's batches in a thread while the step before runs, with the same
            result. None = on CUDA: on two CPU cores batches are 2% of a step, and the thread
            took 5% more processor time than it could have hidden.
        spread: The model over the processes of a run. None = this process is all of them.
        watch: Looks at every step for what is not finite. None = one of its own.
        smaller: A step's share in more batches, where memory was too small. None = an error.

    Raises:
        DivergedError: GFM601, see :meth:`graphfm.training.faults.Watch.see`.
    """
    spread, watch = spread or Spread(model), watch or Watch()
    names = {id(p): name for name, p in model.named_parameters()}
    params = [p for group in optimizer.param_groups for p in group["params"]]
    device, steps = params[0].device, range(start, c.steps)

    def made(step: int) -> Share:
        return Share.of(batch_at(step))

    if prefetch is None:
        prefetch = device.type == "cuda"
    coming = ahead(made, steps, device) if prefetch else (made(step) for step in steps)
    with contextlib.closing(coming):
        for step, share in zip(steps, coming, strict=False):  # strict would ask for one more
            model.train()  # an evaluation between two steps may have changed it
            lr = lr_at(step, c)
            for group in optimizer.param_groups:
                group["lr"] = lr
            while True:
                try:
                    loss, per_graph, flops = _gradient(
                        model, objective, share, c.precision, seed, step, spread
                    )
                    break
                except (RuntimeError, MemoryError) as error:
                    if smaller is None or not is_out_of_memory(error):
                        raise
                    why = str(error).splitlines()[0] if str(error) else type(error).__name__
                # Not in the except: there the error still holds the step's tensors.
                optimizer.zero_grad(set_to_none=True)
                share = smaller(step, share, why)
            norms, grad_norm = spread.clip(params, c.max_grad_norm)
            finite = loss.isfinite() & grad_norm.isfinite()
            step_if(optimizer, finite)
            having = tuple(names.get(id(p), "") for p in params if p.grad is not None)
            optimizer.zero_grad(set_to_none=True)
            result = Step(
                number=step + 1,
                batches=share.batches,
                totals=share.totals,
                loss=loss,
                per_graph=per_graph,
                grad_norm=grad_norm.detach(),
                lr=lr,
                finite=finite,
                norms=norms.detach(),
                params=having,
                flops=flops,
                balance=share.balance,
            )
            watch.see(result)
            yield result


def _gradient(
    model: GraphFM,
    objective: Callable[..., tuple[Tensor, Tensor]],
    share: Share,
    precision: str,
    seed: int,
    step: int,
    spread: Spread,
) -> tuple[Tensor, Tensor, int]:
    """Add up the gradients of a step, of all processes; its loss, that of each graph, and FLOPs."""
    whole = [] if share.is_whole else [share.totals]
    place = {name: i for i, name in enumerate(share.totals)}
    device = spread.device
    figures = torch.zeros(1 + len(place), device=device)  # the loss, and the loss of each graph
    flops = 0
    for turn in range(share.rounds):
        last = turn == share.rounds - 1
        if turn >= len(share.batches):
            spread.idle(last)
            continue
        batch = share.batches[turn]
        with spread.sends(last):
            with (
                own_randomness(seed, step, share.places[turn], device=device),
                autocast(device, precision),
            ):
                loss, each = objective(model, batch, *whole)
            loss.backward()
        flops += 3 * forward_flops(model, batch)  # backward costs two forwards
        if hasattr(objective, "flops"):
            flops += objective.flops(model, batch)  # of what it does beside the model
        parts = [size / share.totals[n] for n, size in zip(batch.names, batch.sizes, strict=True)]
        rows = [0, *(1 + place[name] for name in batch.names)]
        # No two rows alike within a batch: the sum has one order, also on CUDA.
        figures.index_add_(
            0,
            send(torch.tensor(rows), device),
            torch.cat([loss.detach()[None], each.detach() * send(torch.tensor(parts), device)]),
        )
    flops = spread.add_up(share.totals, figures, flops)
    return figures[0], figures[1:], flops


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


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
