"""Processes of a benchmark: a pool that runs units, and the warm-up of a model."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from graphfm.benchmark.cells import Plan, Unit
from graphfm.benchmark.fit import measure
from graphfm.benchmark.models import Competitor
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.graph import Graph
from graphfm.graphs.splits import with_split
from graphfm.log_lines import collect_log_lines

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_in_processes(
    run_unit: Callable[[Plan, Unit], int],
    plan: Plan,
    units: list[Unit],
    *,
    jobs: int,
    bar: tqdm[Any],
) -> list[Unit]:
    """Run units in a pool of processes.

    Args:
        run_unit: Function that runs one unit and returns its number of cells.
        plan: The benchmark.
        units: Units to run.
        jobs: Number of processes.
        bar: Progress bar, counted in cells.

    Returns:
        Units whose process died.
    """
    killed = []
    others = {*multiprocessing.active_children()}
    # Spawn, since torch does not survive a fork. Threads must be limited before numpy is imported.
    context = multiprocessing.get_context("spawn")
    with _environment(dict.fromkeys(THREADS, "1")), ProcessPoolExecutor(jobs, context) as pool:
        futures = {pool.submit(run_unit, plan, unit): unit for unit in units}
        try:
            for done in as_completed(futures):
                try:
                    bar.update(done.result())
                except BrokenProcessPool:
                    killed.append(futures[done])
        except BaseException:  # interrupted: a worker would go on with its next unit
            pool.shutdown(wait=False, cancel_futures=True)
            for child in {*multiprocessing.active_children()} - others:
                child.terminate()  # safe, as receipts are written whole or not at all
            raise
    return killed


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for processes that start inside the ``with`` block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@cache
def warm_up(model: Competitor, metric: str) -> None:
    """Fit a model to a graph of two clusters, so that everything it needs is imported."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    ends = rng.integers(0, 60, (2, 240))
    ends = ends[:, y[ends[0]] == y[ends[1]]]
    x = torch.from_numpy(rng.normal(size=(60, 4)) + y[:, None]).float()
    graph = Graph.from_edges(
        ends, num_nodes=60, name="warm-up", x=x, y=torch.from_numpy(y), class_names=("a", "b")
    )
    graph = with_split(graph, (0.5, 0.25, 0.25), seed=0)
    quick = replace(model, random=True, tuned=False, steps=1)
    with collect_log_lines(logging.WARNING, quiet=True):  # warnings about these 60 nodes mislead
        measure(quick, graph, prepare(graph, cache=False), checkpoint=None, seed=0, metric=metric)
