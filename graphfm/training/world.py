"""TODO: graphfm/training/world.py, from graphfm/training/distributed.py."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from graphfm.errors import RecipeError

log = logging.getLogger(__name__)


# A rank that prepares graphs which are not in the cache keeps the others waiting.
PATIENCE = timedelta(minutes=30)


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
