"""Many processes: who is here, what they tell each other, and whose gradients are added up.

Every rank holds all graphs and all weights and does its bins of a step, ``plan.bins(step)[r::W]``.
The trunk lies in torch's DistributedDataParallel; adapters and heads do not, because most of them
have no gradient in a step: those that have one travel in a flat buffer of their own.

Shapes:
    P  parameters with a gradient in this step, as one row
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from graphfm.errors import RecipeError
from graphfm.model import GraphFM, Trunk
from graphfm.sampling.batch import GraphBatch
from graphfm.training.faults import gradient_norms
from graphfm.training.sharded import clip_sharded, shard

log = logging.getLogger(__name__)

# A rank that prepares graphs which are not in the cache keeps the others waiting.
PATIENCE = timedelta(minutes=30)

# Weights, gradient and AdamW's two moments of 1e9 parameters are 16 GB in float32 on every rank.
SHARD_ABOVE = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a run. The default is a run of one process, where nothing is sent.

    Every method is a call that all ranks have to make, in the same order. Flags and plain data go
    from host to host (gloo): they do not wait for a device.

    Args:
        rank: This process, in ``range(size)``.
        size: How many.
        local_rank: Of those on this machine.
        device: Where this process computes.
        host: Group for what lies on the host; None = the default group takes it too.
        borrowed: Whether somebody else made the process group, and will close it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = torch.device("cpu")
    host: dist.ProcessGroup | None = None
    borrowed: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether any rank says so: one all-reduce of one number."""
        if self.size == 1:
            return flag
        told = torch.tensor([float(flag)])
        dist.all_reduce(told, op=dist.ReduceOp.MAX, group=self.host)
        return bool(told.item())

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, in the tensor itself, which is given back."""
        if self.size > 1:
            dist.all_reduce(tensor, group=None if tensor.is_cuda else self.host)
        return tensor

    def broadcast(self, thing: Any) -> Any:
        """What rank 0 passed: plain data, as JSON has it."""
        return self.gather(thing if self.is_main else None)[0]

    def gather(self, thing: Any) -> list[Any]:
        """What each rank passed, by rank: plain data, as JSON has it."""
        if self.size == 1:
            return [thing]
        told = torch.tensor(list(json.dumps(thing).encode()), dtype=torch.uint8)
        own = torch.tensor([len(told)])
        lengths = [torch.zeros_like(own) for _ in range(self.size)]
        dist.all_gather(lengths, own, group=self.host)
        longest = max(int(length) for length in lengths)
        row = told.new_zeros(longest)
        row[: len(told)] = told
        rows = [torch.zeros_like(row) for _ in range(self.size)]
        dist.all_gather(rows, row, group=self.host)
        return [
            json.loads(bytes(row[: int(length)].tolist()))
            for row, length in zip(rows, lengths, strict=True)
        ]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            self.any(False)

    @contextlib.contextmanager
    def first_on_its_machine(self) -> Iterator[None]:
        """The first rank of a machine goes in alone, the others when it is through.

        For what is kept in a cache: prepared once, read by the others.
        """
        if self.local_rank:
            self.barrier()
        yield
        if not self.local_rank:
            self.barrier()

    def close(self) -> None:
        """Leave; harmless if it was left before, or never joined."""
        if self.size > 1 and not self.borrowed and dist.is_initialized():
            dist.destroy_process_group()
            # gloo's threads live on (DistributedDataParallel keeps the group), and one that drops
            # the tensors of the last sum after Python began to end aborts the process: on a busy
            # machine 5 of 12 times, and 0 of 15 with this pause.
            time.sleep(0.2)


def join_world(device: torch.device | str = "cpu") -> World:
    """The processes that ``torchrun`` started, or a world of one.

    Args:
        device: ``cpu`` (gloo) or ``cuda`` (nccl); rank r of a machine takes its r-th CUDA device.

    Raises:
        RecipeError: GFM410 for more ranks on a machine than it has CUDA devices.
    """
    where = torch.device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(device=where)
    rank = int(os.environ["RANK"])
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if where.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise RecipeError(
                "GFM410",
                f"process {local_rank} of this machine has no CUDA device: there are "
                f"{torch.cuda.device_count()}",
                fix="start as many processes as there are devices, or use --device cpu",
            )
        where = torch.device("cuda", local_rank)
        torch.cuda.set_device(where)
    host, borrowed = None, dist.is_initialized()
    if not borrowed:
        backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE)
    elif "gloo" not in dist.get_backend_config():  # such as Ray's
        host = dist.new_group(backend="gloo", timeout=PATIENCE)
    return World(
        rank=rank,
        size=size,
        local_rank=local_rank,
        device=where,
        host=host,
        borrowed=borrowed,
    )


def check_bins(bins_per_step: int, world: World) -> None:
    """Refuse a run some of whose processes would never have anything to do.

    Raises:
        RecipeError: GFM213 for fewer bins in a step than there are processes.
    """
    if bins_per_step < world.size:
        raise RecipeError(
            "GFM213",
            f"a step is done in {bins_per_step} batches: too few for {world.size} processes",
            where="sampling.bins_per_step",
            why="the others would wait; what a step learns from does not depend on their number",
            fix=f"sampling.bins_per_step={world.size}, or a multiple of it",
        )
    if bins_per_step % world.size:
        log.warning(
            "%d batches of a step on %d processes: some do one more than others",
            bins_per_step,
            world.size,
        )


class Spread:
    """A model over the processes of a world: gradients are added up, weights stay alike.

    Args:
        model: With all its graphs; alike on every rank.
        world: Of which this process is one.
        shard_above: With more trunk parameters than this, every rank keeps a part of the trunk's
            weights and optimizer state: see :mod:`graphfm.training.sharded`. Make the optimizer
            after the spread.
    """

    def __init__(
        self, model: GraphFM, world: World | None = None, *, shard_above: int = SHARD_ABOVE
    ):
        self.model, self.world = model, world or World()
        self.bytes_sent = 0  # of gradients and figures, handed to all-reduce by this process
        self._trunk: nn.Module | None = None
        trunk_params = sum(p.numel() for part in model.trunk.values() for p in part.parameters())
        self.is_sharded = self.world.size > 1 and trunk_params > shard_above
        if self.is_sharded:
            self._trunk = model.wrap_trunk(lambda trunk: shard(trunk, self.device))
        elif self.world.size > 1:
            self._trunk = model.wrap_trunk(self._in_parallel)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.model.device

    def sends(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around a forward and backward pass: the trunk's gradients travel with the last one."""
        if isinstance(self._trunk, DistributedDataParallel):
            return contextlib.nullcontext() if last else self._trunk.no_sync()
        if self._trunk is not None:
            self._trunk.set_requires_gradient_sync(last)  # type: ignore[operator]
        return contextlib.nullcontext()

    def idle(self, last: bool) -> None:
        """Take part in a pass for which this process has no batch, with gradients of zero."""
        if self._trunk is not None:
            model = self.model
            with self.sends(last):
                adapted = torch.zeros(1, model.shape.dim, device=self.device)
                states = self._trunk(
                    adapted, _nothing(model.position.num_eigenvectors, self.device)
                )
                (0 * states.sum()).backward()

    def at_rest(self) -> None:
        """Weights in parts again: a forward pass without a backward one leaves some whole."""
        if self.is_sharded and self._trunk is not None:
            self._trunk.reshard()  # type: ignore[operator]

    def add_up(self, names: Iterable[str], figures: Tensor, flops: int) -> int:
        """Add up, over the ranks, the gradients outside the trunk, figures and FLOPs.

        Args:
            names: Graphs of the step, on all ranks the same.
            figures: (F,), added up in place.
            flops: Of this rank's work.

        Returns:
            The FLOPs of all ranks. A weight that has no gradient on any rank still has none.
        """
        if self.world.size == 1:
            return flops
        owners = [self.model.universal]
        for name in names:
            owners += [self.model.adapter(name), self.model.head(name)]
        # Each once: a graph without an adapter of its own has the universal one.
        weights = list(dict.fromkeys(p for o in owners for p in o.parameters() if p.requires_grad))
        host = torch.tensor([flops, *(p.grad is not None for p in weights)], dtype=torch.float64)
        flops, *used = self.world.sum(host).tolist()
        active = [p for p, n in zip(weights, used, strict=True) if n]
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in active]
        flat = torch.cat([piece.flatten() for piece in (*pieces, figures)])
        self.world.sum(flat)
        self.bytes_sent += 4 * len(flat) + 8 * len(host)
        *summed, told = flat.split([*(p.numel() for p in active), len(figures)])
        for p, grad in zip(active, summed, strict=True):
            p.grad = grad.view_as(p)
        figures.copy_(told)
        return int(flops)

    def clip(self, params: Sequence[Tensor], max_norm: float) -> tuple[Tensor, Tensor]:
        """Clip the gradient of all weights together; before that, the norm of each, and of all."""
        if self.is_sharded:
            return clip_sharded(params, max_norm)
        norms, total = gradient_norms(params)
        nn.utils.clip_grads_with_norm_(params, max_norm, total)
        return norms, total

    def _in_parallel(self, trunk: Trunk) -> nn.Module:
        ddp = DistributedDataParallel(trunk, gradient_as_bucket_view=True)
        # Without annotations: torch compares them with types, and here they are strings.
        ddp.register_comm_hook(None, lambda _, bucket: self._sum(bucket))
        return ddp

    def _sum(self, bucket: Any) -> torch.futures.Future[Tensor]:
        """Shares of a loss are added, where DistributedDataParallel would take their mean."""
        self.bytes_sent += bucket.buffer().nbytes
        work = dist.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])


def _nothing(num_eigenvectors: int, device: torch.device) -> GraphBatch:
    """A graph of one node, its own target, without neighbors: a pass through every weight."""
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    return GraphBatch(
        names=(),
        x=(),
        pe=torch.zeros(1, 2 * num_eigenvectors + 2, device=device),
        ptr=(0, 1),
        context=zero,
        context_ptr=(0, 1),
        query=zero,
        query_ptr=(0, 1),
        neighbors=zero[:, None],
        neighbor_mask=torch.zeros(1, 1, dtype=torch.bool, device=device),
        n_id=zero,
        y=(),
        raw=(),
    )
