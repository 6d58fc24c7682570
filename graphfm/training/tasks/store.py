"""Disk store of solved tasks: shards of consecutive tasks, predictions in float16.

A shard is one safetensors file, whole or not there. Its name is its number, so that several
processes can fill a store, and a stopped one resumes.

Shapes:
    N  nodes   E  experts   C  classes
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphfm.storage import whole_file
from graphfm.training.tasks.solve import SolvedTask
from graphfm.training.tasks.task import GROUP

GROUPS_PER_SHARD = 4
SHARD = GROUP * GROUPS_PER_SHARD  # tasks of a shard
OPEN = 64  # shards that stay open
NAME = re.compile(r"tasks_(\d{6})\.safetensors")


class TaskStore:
    """Folder of shards; the number of a task is its shard's number times SHARD plus its place.

    Args:
        folder: The folder; it is made when the first shard is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._open = lru_cache(OPEN)(_open_shard)

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"tasks_{shard:06d}.safetensors"

    def num_tasks(self) -> int:
        """Return the number of tasks up to the first shard that is missing."""
        names = [NAME.fullmatch(path.name) for path in self.folder.glob("tasks_*.safetensors")]
        shards = sorted(int(name[1]) for name in names if name)
        whole = next((i for i, shard in enumerate(shards) if i != shard), len(shards))
        return whole * SHARD

    def write(self, shard: int, tasks: Sequence[SolvedTask | None]) -> None:
        """Write a shard; None stands for a task that could not be solved."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        facts: list[dict[str, Any] | None] = []
        for place, task in enumerate(tasks):
            if task is None:
                facts.append(None)
                continue
            group = place // GROUP
            tensors |= {
                f"{group}.rowptr": task.rowptr.int(),
                f"{group}.col": task.col.to(torch.int16),
                f"{place}.y": task.y.to(torch.int8),
                f"{place}.shown": task.shown,
                f"{place}.log_probs": task.log_probs.half(),
                f"{place}.held_out": task.held_out.float(),
            }
            facts.append({"kind": task.kind, "source": task.source, "names": task.names})
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path(shard)) as temporary:
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()},
                temporary,
                metadata={"tasks": json.dumps(facts)},
            )

    def read(self, number: int) -> SolvedTask | None:
        """Return a task; None if it could not be solved."""
        shard, place = divmod(number, SHARD)
        file, facts = self._open(self.path(shard))
        own, group = facts[place], place // GROUP
        if own is None:
            return None
        return SolvedTask(
            kind=own["kind"],
            source=own["source"],
            rowptr=file.get_tensor(f"{group}.rowptr").long(),
            col=file.get_tensor(f"{group}.col").long(),
            y=file.get_tensor(f"{place}.y").long(),
            shown=file.get_tensor(f"{place}.shown"),
            names=tuple(own["names"]),
            log_probs=file.get_tensor(f"{place}.log_probs").float(),
            held_out=file.get_tensor(f"{place}.held_out"),
        )

    def __iter__(self) -> Iterator[SolvedTask]:
        """Return all tasks that could be solved."""
        found = (self.read(number) for number in range(self.num_tasks()))
        return (task for task in found if task is not None)


def _open_shard(path: Path) -> tuple[Any, list[dict[str, Any] | None]]:
    """Open a shard and read its facts."""
    from safetensors import safe_open

    file = safe_open(path, framework="pt")
    return file, json.loads(file.metadata()["tasks"])
