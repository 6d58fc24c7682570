"""Fill a store with solved tasks, by one process or several."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from graphfm.graphs.catalog.catalog import Catalog
from graphfm.training.tasks.draw import draw_tasks
from graphfm.training.tasks.solve import solve
from graphfm.training.tasks.store import GROUPS_PER_SHARD, SHARD, TaskStore
from graphfm.training.tasks.structures import TaskCorpus

log = logging.getLogger(__name__)


def produce(
    folder: Path,
    ids: Sequence[str],
    *,
    seed: int,
    kinds: Mapping[str, float],
    num_tasks: int,
    rank: int = 0,
    size: int = 1,
) -> None:
    """Write every shard of a rank that is missing, in order.

    Args:
        folder: Folder of the store.
        ids: Ids of the corpus graphs; a caller has refused evaluation groups.
        seed: Seed of the tasks.
        kinds: Relative frequency of each kind of task.
        num_tasks: Number of tasks of the whole store.
        rank: Number of this process. Default: 0.
        size: Number of processes. Default: 1.
    """
    torch.set_num_threads(1)
    corpus, store = TaskCorpus(ids=ids, catalog=Catalog.read()), TaskStore(folder)
    began, made = time.monotonic(), 0
    for shard in range(rank, -(-num_tasks // SHARD), size):
        if store.path(shard).is_file():
            continue
        groups = range(shard * GROUPS_PER_SHARD, (shard + 1) * GROUPS_PER_SHARD)
        tasks = [solve(task) for group in groups for task in draw_tasks(corpus, seed, group, kinds)]
        store.write(shard, tasks)
        made += SHARD
        log.info("%d tasks, %.1f a second", made, made / (time.monotonic() - began))
