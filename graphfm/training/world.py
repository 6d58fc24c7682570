"""The processes of a run, and the calls by which they exchange plain data."""

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

TIMEOUT = timedelta(minutes=30)  # a rank that prepares graphs keeps the others waiting

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class World:
    """The processes of a run. The default is one process, which sends nothing.

    Every rank has to call the same methods in the same order. Flags and plain data travel between
    CPUs (gloo), so they do not wait for a device.

    Args:
        rank: Number of this process, in ``range(size)``.
        size: Number of processes.
        local_rank: Number of this process among those of its machine.
        device: Device of this process.
        cpu_group: Process group for tensors on the CPU. Default: the default group.
        is_borrowed: True if another library made the process group and will close it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = torch.device("cpu")
    cpu_group: dist.ProcessGroup | None = None
    is_borrowed: bool = False

    @property
    def is_main(self) -> bool:
        """True for the process that writes files and reports."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Return true if the flag is true on any rank: one all-reduce of one number."""
        if self.size == 1:
            return flag
        largest = torch.tensor([float(flag)])
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.cpu_group)
        return bool(largest.item())

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over the ranks, in place, and return it."""
        if self.size > 1:
            dist.all_reduce(tensor, group=None if tensor.is_cuda else self.cpu_group)
        return tensor

    def broadcast(self, value: Any) -> Any:
        """Return the value that rank 0 passed: plain data that JSON can hold."""
        return self.gather(value if self.is_main else None)[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, by rank: plain data that JSON can hold."""
        if self.size == 1:
            return [value]
        content = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        lengths = [torch.zeros_like(length) for _ in range(self.size)]
        dist.all_gather(lengths, length, group=self.cpu_group)
        row = content.new_zeros(max(int(n) for n in lengths))
        row[: len(content)] = content
        rows = [torch.zeros_like(row) for _ in range(self.size)]
        dist.all_gather(rows, row, group=self.cpu_group)
        return [
            json.loads(bytes(row[: int(n)].tolist())) for row, n in zip(rows, lengths, strict=True)
        ]

    def barrier(self) -> None:
        """Wait until every rank has made this call."""
        if self.size > 1:
            self.any(False)

    @contextlib.contextmanager
    def first_on_its_machine(self) -> Iterator[None]:
        """Run a block on the first rank of each machine, then on the other ranks.

        The first rank fills a cache, the others read it.
        """
        if self.local_rank:
            self.barrier()
        yield
        if not self.local_rank:
            self.barrier()

    def close(self) -> None:
        """Destroy the process group, unless it is borrowed. A second call does nothing."""
        if self.size > 1 and not self.is_borrowed and dist.is_initialized():
            dist.destroy_process_group()
            # gloo's threads live on (DistributedDataParallel keeps the group). A thread that frees
            # the tensors of the last sum while Python exits aborts the process: on a busy machine
            # 5 of 12 times, and 0 of 15 with this pause.
            time.sleep(0.2)


def join_world(device: torch.device | str = "cpu") -> World:
    """Join the processes that ``torchrun`` started, or return a world of one.

    Args:
        device: ``cpu`` (gloo) or ``cuda`` (nccl); rank r of a machine takes its r-th CUDA device.
            Default: ``cpu``.

    Raises:
        RecipeError: GFM410 for more ranks on a machine than it has CUDA devices.
    """
    device = torch.device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(device=device)
    rank = int(os.environ["RANK"])
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise RecipeError(
                "GFM410",
                f"no CUDA device for process {local_rank} of this machine: it has "
                f"{torch.cuda.device_count()} CUDA devices",
                fix="start as many processes as there are devices, or use --device cpu",
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    cpu_group, is_borrowed = None, dist.is_initialized()
    if not is_borrowed:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=TIMEOUT)
    elif "gloo" not in dist.get_backend_config():  # such as Ray's group
        cpu_group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    return World(
        rank=rank,
        size=size,
        local_rank=local_rank,
        device=device,
        cpu_group=cpu_group,
        is_borrowed=is_borrowed,
    )


def check_bins(bins_per_step: int, world: World) -> None:
    """Refuse a run in which some processes would never have a batch.

    Args:
        bins_per_step: Number of batches of a step, over all processes.
        world: Processes of the run.

    Raises:
        RecipeError: GFM213 for fewer batches per step than processes.
    """
    if bins_per_step < world.size:
        raise RecipeError(
            "GFM213",
            f"a step has {bins_per_step} batches, but there are {world.size} processes",
            where="sampling.bins_per_step",
            why="a process without a batch only waits; the targets of a step stay the same "
            "whatever bins_per_step is",
            fix=f"sampling.bins_per_step={world.size}, or a multiple of it",
        )
    if bins_per_step % world.size:
        log.warning(
            "%d batches per step on %d processes: some processes have one batch more than others",
            bins_per_step,
            world.size,
        )
