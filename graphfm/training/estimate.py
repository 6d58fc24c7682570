"""Cost of a run, estimated from a few of its own steps."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from graphfm.config.recipe import Recipe
from graphfm.machine import peak_memory_gib
from graphfm.model.graphfm import GraphFM
from graphfm.training.corpus import Corpus
from graphfm.training.loop import train
from graphfm.training.optim import make_optimizer
from graphfm.training.validation import predict_validation

MIN_STEPS, MAX_STEPS = 2, 12  # timed, after one that is not timed because the first costs more
MAX_SECONDS = 20.0  # for the steps, and a third of it for the evaluation
BYTES_OF_STATE = 8  # optimizer state of a parameter; Muon takes half of that
GIB = 2**30


def estimate(recipe: Recipe, corpus: Corpus, model: GraphFM) -> dict[str, Any]:
    """Estimate parameters, FLOPs, seconds, memory and disk space of a run.

    Args:
        recipe: Recipe of the run.
        corpus: Its graphs.
        model: Untrained model. The timed steps train it, so discard it afterwards.

    Returns:
        The entries of the run's receipt ``params``, ``datasets``, ``nodes``, ``steps`` (fewer than
        the recipe's if ``train.max_time`` ends the run), ``flops``, ``seconds`` and
        ``peak_memory_gib``; and ``steps_per_epoch``, ``targets_per_step``, ``flops_per_step``,
        ``seconds_per_step``, ``seconds_to_evaluate``, ``disk_mib`` and ``disk_peak_mib``.
    """
    c = recipe.train
    optimizer = make_optimizer([model], c)
    objective = recipe.objective.build()
    steps = train(model, objective, optimizer, corpus.rank_batches, c, seed=recipe.seed)
    targets: list[int] = []
    flops: list[int] = []

    def take_step() -> None:
        step = next(steps)
        targets.append(sum(batch.num_targets for batch in step.batches))
        flops.append(step.flops)

    device = corpus.bank.device
    num_steps = min(c.steps, MAX_STEPS + 1)
    take_step()
    times = list(_time_calls(take_step, num_steps - 1, MIN_STEPS, MAX_SECONDS, device))
    per_step = statistics.median(times) if times else 0.0
    evaluation = _evaluation_seconds(corpus, model, c.eval_targets)
    evaluations = 1 + -(-c.steps // c.eval_every)
    seconds = c.steps * per_step + evaluations * evaluation
    reached = c.steps
    if c.max_time is not None and seconds > c.max_time:
        reached = max(1, round(c.steps * c.max_time / seconds))
        seconds = c.max_time + evaluation  # the run evaluates once more when its time is up
    params = model.num_params()
    without_state = params["total"] - sum(p.numel() for p in optimizer.state)
    per_step_flops = statistics.mean(flops)
    checkpoint = (4 + BYTES_OF_STATE) * params["total"] / 2**20
    return {
        "name": recipe.name,
        "params": params,
        "datasets": len(corpus.bank),
        "nodes": corpus.bank.num_nodes,
        "steps": reached,
        "steps_per_epoch": corpus.plan.steps_per_epoch,
        "targets_per_step": round(statistics.mean(targets)),
        "flops_per_step": round(per_step_flops),
        "flops": round(reached * per_step_flops),
        "seconds_per_step": round(per_step, 4),
        "seconds_to_evaluate": round(evaluation, 1),
        "seconds": round(seconds),
        "peak_memory_gib": round(_peak_gib(device, BYTES_OF_STATE * without_state), 2),
        "disk_mib": round(c.keep * checkpoint, 1),
        # beside those: the best checkpoint, and one that is being written
        "disk_peak_mib": round((c.keep + 2) * checkpoint, 1),
    }


def _time_calls(
    call: Callable[[], object],
    max_calls: int,
    min_calls: int,
    max_seconds: float,
    device: torch.device,
) -> Iterator[float]:
    """Yield the seconds of each call, until enough calls or enough seconds are spent."""
    spent = 0.0
    for number in itertools.count(1):
        if number > max_calls or (number > min_calls and spent > max_seconds):
            return
        began = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
        spent += seconds
        yield seconds


@torch.no_grad()
def _evaluation_seconds(corpus: Corpus, model: GraphFM, num_targets: int) -> float:
    """Estimate the seconds of an evaluation from as many groups of graphs as there is time for."""
    model.eval()
    groups = corpus.val_groups()
    left = iter(groups)

    def evaluate_group() -> None:
        predict_validation(model, corpus, next(left), num_targets)

    seconds = MAX_SECONDS / 3
    times = list(_time_calls(evaluate_group, len(groups), 1, seconds, corpus.bank.device))
    return statistics.mean(times) * len(groups) if times else 0.0


def _peak_gib(device: torch.device, more_bytes: int) -> float:
    """Return the peak memory so far plus some bytes, in GiB."""
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated(device) + more_bytes) / GIB
    return peak_memory_gib() + more_bytes / GIB
