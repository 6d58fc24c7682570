"""Time of one training step by part, and over the floor of its matrix products.

For each recipe, over the same steps again and again:

- the share of the plan, the sampling, the gather (batches, without sampling), the forward pass, the
  backward pass and the optimizer; goal: sampling + gather at most 5%;
- targets per second, and the time of the step over its floor: the FLOPs that the model counts
  divided by the rate of matrix products of the recipe's own sizes, measured in between.

    python tools/bench/step.py --out step.json                  # a recipe of 0.4M and one of 18M
    python tools/bench/step.py --recipes large --device cuda    # 75M

Without GRAPHFM_DATA the graphs are those of the mixture ``demo``. On a CPU, recipes for a GPU are
cut to 64 targets a visit and a step: a step of ``base`` takes 20 s or more uncut.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import timing
import torch
from torch import nn

PARTS = ("plan", "sampling", "gather", "forward", "backward", "optimizer")
CUT = ["sampling.max_targets=64", "sampling.targets_per_step=64", "sampling.max_context=1024"]
NUM_STEPS = {"local-small": 6, "demo": 6}  # steps of one repeat; other recipes: 1 on a CPU


class Steps:
    """A recipe that is ready to train.

    Args:
        recipe: Name of the recipe.
        overrides: Changes of the recipe, ``key=value``.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, recipe: str, overrides: Sequence[str], device: str):
        from graphfm.config.load import load_recipe
        from graphfm.model.graphfm import GraphFM
        from graphfm.training.optim import make_optimizer
        from graphfm.training.pretrain import load_corpus

        self.recipe = load_recipe(recipe, overrides)
        self.device = torch.device(device)
        self.corpus = load_corpus(self.recipe, self.device)
        self.model = GraphFM(self.recipe.model, seed=0)
        for spec in self.corpus.specs:
            self.model.add_graph(spec)
        self.model.to(self.device)
        self.optimizer = make_optimizer([self.model], self.recipe.train)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = timing.parser(__doc__)
    parser.set_defaults(repeats=5)
    parser.add_argument("--recipes", nargs="+", default=["local-small", "base"])
    parser.add_argument("--override", nargs="+", default=[], help="key=value of the recipes")
    parser.add_argument("--steps", type=int, help="steps of one repeat")
    args = parser.parse_args(argv)
    facts = timing.machine(args.device, threads=args.threads)
    seconds: timing.Seconds = {}
    figures: dict[str, Any] = {}
    for recipe in args.recipes:
        taken, figures[recipe] = measure(args, recipe)
        seconds |= {f"{recipe}: {name}": values for name, values in taken.items()}
    header, rows = as_rows(figures)
    print(timing.table(header, rows))
    timing.write(args, facts, seconds, figures)
    return 0


def measure(args: argparse.Namespace, recipe: str) -> tuple[timing.Seconds, dict[str, Any]]:
    """Return seconds by part, and the figures that follow from them."""
    from graphfm.model.cost import forward_flops

    overrides = [*args.override]
    if not os.environ.get("GRAPHFM_DATA"):
        overrides.append("data.mixture=demo")
    small = recipe in NUM_STEPS
    if args.device == "cpu" and not small:
        overrides = [*CUT, *overrides]
    num_steps = args.steps or (NUM_STEPS[recipe] if small else 10 if args.device == "cuda" else 1)
    # A schedule that never ends, without warm-up: the learning rate does not change the time.
    overrides += ["train.steps=1000000", "train.max_time=null"]
    steps = Steps(recipe, overrides, args.device)
    parts: timing.Seconds = {name: [] for name in (*PARTS, "matmul")}
    products, flops_of_products = matmuls(steps)
    for turn in range(1 + args.repeats):
        taken = dict.fromkeys(PARTS, 0.0)
        for step in range(num_steps):
            one_step(steps, step, taken)
        if turn:  # the first round warms up
            once = timing.interleaved({"matmul": products}, 1, steps.device, warmup=0)
            for name, value in {**taken, "matmul": once["matmul"][0]}.items():
                parts[name].append(value)
    batches = [steps.corpus.batch_at(step) for step in range(num_steps)]
    flops = 3 * sum(forward_flops(steps.model, batch) for batch in batches)
    targets = sum(batch.num_targets for batch in batches)
    whole = [sum(parts[name][i] for name in PARTS) for i in range(args.repeats)]
    share = {name: timing.median(parts[name]) / timing.median(whole) for name in PARTS}
    floor = flops / flops_of_products * timing.median(parts["matmul"])
    figures = {
        "params": steps.model.num_params(),
        "overrides": overrides,
        "steps": num_steps,
        "targets": targets,
        "step_ms": 1e3 * timing.median(whole) / num_steps,
        "share": share,
        "sampling_and_gather": share["sampling"] + share["gather"],
        "flops": flops,
        "matmul_gflops": flops_of_products / timing.median(parts["matmul"]) / 1e9,
        "over_floor": timing.median(whole) / floor,
        "targets_per_s": timing.summary([targets / seconds for seconds in whole]),
    }
    return {**parts, "step": whole}, figures


def one_step(steps: Steps, step: int, taken: dict[str, float]) -> None:
    """Take a step as ``graphfm.training.loop`` does, with a clock between its parts."""
    from graphfm.machine import autocast
    from graphfm.training.loop import seeded_dropout

    c, device, model = steps.recipe.train, steps.device, steps.model
    objective = steps.recipe.objective.build()
    params = [p for group in steps.optimizer.param_groups for p in group["params"]]
    model.train()
    with clocks(device, taken) as lap:
        batch = steps.corpus.batch_at(step)
        lap("plan")
        with seeded_dropout(0, step, device=device), autocast(device, c.precision):
            loss, _ = objective(model, batch)
        lap("forward")
        loss.backward()
        lap("backward")
        nn.utils.clip_grad_norm_(params, c.max_grad_norm)
        steps.optimizer.step()
        steps.optimizer.zero_grad(set_to_none=True)
        lap("optimizer")


@contextlib.contextmanager
def clocks(device: torch.device, taken: dict[str, float]) -> Iterator[Callable[[str], None]]:
    """Give a function that adds the time since its last call to a part.

    Sampling and gather happen inside the plan's call; their time is taken out of it.
    """
    from graphfm.sampling import batch as batches
    from graphfm.training import corpus

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    began = now()

    def lap(part: str) -> None:
        nonlocal began
        then, began = began, now()
        taken[part] += began - then

    def timed(function: Callable[..., Any], before: str, part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            lap(before)
            result = function(*args, **kwargs)
            lap(part)
            return result

        return call

    plain = batches.sample_neighbors, corpus.make_batch
    batches.sample_neighbors = timed(plain[0], "gather", "sampling")
    corpus.make_batch = timed(plain[1], "plan", "gather")
    try:
        yield lap
    finally:
        batches.sample_neighbors, corpus.make_batch = plain


def matmuls(steps: Steps) -> tuple[Callable[[], None], float]:
    """Return matrix products of the sizes that hold most of the recipe's FLOPs, and their FLOPs.

    They are maps of all tokens of a tile of targets to the width and to the feed-forward width.
    """
    dim = steps.recipe.model.dim
    wide = dim * steps.recipe.model.decoder.ffn_mult
    batch = steps.corpus.batch_at(0)
    rows = min(batch.num_targets, 1024) * (1 + batch.neighbors.shape[1])
    dtype = torch.bfloat16 if steps.device.type == "cuda" else torch.float32
    sizes = [(rows, dim, dim), (rows, dim, 2 * wide), (rows, wide, dim)]
    shapes = [((m, k), (k, n)) for m, k, n in sizes]
    pairs = [[torch.randn(*s, device=steps.device, dtype=dtype) for s in pair] for pair in shapes]
    flops = sum(2.0 * m * k * n for m, k, n in sizes)
    turns = max(1, round(2e10 / flops))  # about a quarter of a second on a core

    def products() -> None:
        for _ in range(turns):
            for a, b in pairs:
                a @ b

    return products, flops * turns


def as_rows(figures: dict[str, Any]) -> tuple[list[str], list[list[object]]]:
    """Return the header and the rows of the table, a column for each recipe."""
    found = list(figures.values())
    rows: list[list[object]] = [
        ["trunk parameters", *(f["params"]["trunk"] for f in found)],
        ["ms a step", *(f["step_ms"] for f in found)],
        *([f"  {part}, %", *(100 * f["share"][part] for f in found)] for part in PARTS),
        ["sampling + gather, % (goal 5)", *(100 * f["sampling_and_gather"] for f in found)],
        ["matmul GFLOP/s at its sizes", *(f["matmul_gflops"] for f in found)],
        ["time over the matmul floor", *(f["over_floor"] for f in found)],
        ["targets/s", *(f["targets_per_s"]["median"] for f in found)],
    ]
    return ["step", *figures], rows


if __name__ == "__main__":
    sys.exit(main())
