"""What a run will cost, from a few of its own steps, taken on a model that is thrown away."""

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
from graphfm.training.validation import judged

MIN_STEPS, MAX_STEPS = 2, 12  # timed, after one that is not: steps cost alike, a first one more
MAX_SECONDS = 20.0  # of steps, and a third of it of evaluation
BYTES_OF_STATE = 8  # of an optimizer, for a parameter; Muon's are half of that
GIB = 2**30


def estimate(recipe: Recipe, corpus: Corpus, model: GraphFM) -> dict[str, Any]:
    """Parameters, FLOPs, seconds, memory and disk of a run; the model learns and is spoilt.

    Args:
        recipe: Of the run.
        corpus: Loaded.
        model: Fresh.

    Returns:
        As the receipt of the run will have them: ``params``, ``datasets``, ``nodes``, ``steps``
        (fewer than the recipe's where ``train.max_time`` ends it), ``flops``, ``seconds``,
        ``peak_memory_gib``; besides ``steps_per_epoch``, ``targets_per_step``,
        ``flops_per_step``, ``seconds_per_step``, ``seconds_to_evaluate``, ``disk_mib``
        and ``disk_peak_mib``.
    """
    plan = corpus.make_plan(model)
    c = recipe.train
    optimizer = make_optimizer([model], c)
    objective = recipe.objective.build()
    steps = train(model, objective, optimizer, corpus.share_at, c, seed=recipe.seed)
    targets: list[int] = []
    flops: list[int] = []

    def one() -> None:
        step = next(steps)
        targets.append(sum(batch.num_targets for batch in step.batches))
        flops.append(step.flops)

    num_steps = min(c.steps, MAX_STEPS + 1)
    one()
    times = list(_timed(one, num_steps - 1, MIN_STEPS, MAX_SECONDS, corpus.bank.device))
    per_step = statistics.median(times) if times else 0.0
    evaluation = _evaluation_seconds(corpus, model, c.eval_targets)
    evaluations = 1 + -(-c.steps // c.eval_every)
    seconds = c.steps * per_step + evaluations * evaluation
    taken = c.steps
    if c.max_time is not None and seconds > c.max_time:
        taken = max(1, round(c.steps * c.max_time / seconds))
        seconds = c.max_time + evaluation  # a last one, when time is up
    params = model.num_params()
    without_state = params["total"] - sum(p.numel() for p in optimizer.state)
    per_step_flops = statistics.mean(flops)
    checkpoint = (4 + BYTES_OF_STATE) * params["total"] / 2**20
    return {
        "name": recipe.name,
        "params": params,
        "datasets": len(corpus.bank),
        "nodes": corpus.bank.num_nodes,
        "steps": taken,
        "steps_per_epoch": plan.steps_per_epoch,
        "targets_per_step": round(statistics.mean(targets)),
        "flops_per_step": round(per_step_flops),
        "flops": round(taken * per_step_flops),
        "seconds_per_step": round(per_step, 4),
        "seconds_to_evaluate": round(evaluation, 1),
        "seconds": round(seconds),
        "peak_memory_gib": round(_memory(corpus.bank.device, BYTES_OF_STATE * without_state), 2),
        "disk_mib": round(c.keep * checkpoint, 1),
        "disk_peak_mib": round((c.keep + 2) * checkpoint, 1),  # the best, and one being written
    }


def _timed(
    one: Callable[[], object], most: int, least: int, seconds: float, device: torch.device
) -> Iterator[float]:
    """Seconds of each call, of at most so many, until so many seconds are over."""
    spent = 0.0
    for number in itertools.count(1):
        if number > most or (number > least and spent > seconds):
            return
        began = time.perf_counter()
        one()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took = time.perf_counter() - began
        spent += took
        yield took


@torch.no_grad()
def _evaluation_seconds(corpus: Corpus, model: GraphFM, num_targets: int) -> float:
    """Of one evaluation: the first groups, as many as there is time for, stand for all."""
    model.eval()
    groups = corpus.val_groups()
    left = iter(groups)

    def one() -> None:
        judged(model, corpus, next(left), num_targets)

    times = list(_timed(one, len(groups), 1, MAX_SECONDS / 3, corpus.bank.device))
    return statistics.mean(times) * len(groups) if times else 0.0


def _memory(device: torch.device, further: int) -> float:
    """Peak so far and what will come on top, in GiB."""
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated(device) + further) / GIB
    return peak_memory_gib() + further / GIB
