r"""One training step: where its time goes, over the matmul floor, and against the first version.

For each recipe, on the same visits again and again:

- the share of the plan, the sampling, the gather (batches, without sampling), the forward pass, the
  backward pass and the optimizer; goal: sampling + gather at most 5%;
- the time of the step over its floor: the model's own count of FLOPs by the rate of matrix products
  of the recipe's own sizes, measured in between;
- targets per second beside the first, plain version of this repository (``first_version.py``), both
  in processes of their own, in turns. Each takes the visits that its own plan deals.

    python tools/bench/step.py --out step.json                  # a recipe of 0.4M and one of 18M
    python tools/bench/step.py --recipes large --device cuda    # 75M

With GRAPHFM_DATA the graphs are those of the recipe (local-152), else the mixture ``demo``. On a
CPU recipes for a GPU are cut to 64 targets a visit and a step: a step of ``base`` takes 20 s or
more uncut.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import bench
import torch
from first_version import FIRST, ROOT, Worker, checkout
from step_worker import Steps
from torch import nn

PARTS = ("plan", "sampling", "gather", "forward", "backward", "optimizer")
CUT = ["sampling.max_targets=64", "sampling.targets_per_step=64", "sampling.max_context=1024"]
NUM_STEPS = {"local-small": 6, "demo": 6}  # of one repeat; others: 1 on a CPU


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    args = parse(argv)
    facts = bench.machine(args.device, threads=args.threads)
    seconds: dict[str, list[float]] = {}
    figures: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        first = None if args.first == "none" else stack.enter_context(checkout(args.first))
        for recipe in args.recipes:
            taken, found = measure(args, recipe, first)
            seconds |= {f"{recipe}: {name}": values for name, values in taken.items()}
            figures[recipe] = found
    header, rows = as_rows(figures)
    print(bench.table(header, rows))
    bench.write(args.out, machine=facts, settings=vars(args), seconds=seconds, figures=figures)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = bench.parser(__doc__)
    parser.set_defaults(repeats=5)
    parser.add_argument("--recipes", nargs="+", default=["local-small", "base"])
    parser.add_argument("--mixture", help="default: the recipe's with GRAPHFM_DATA, else demo")
    parser.add_argument("--override", nargs="+", default=[], help="key=value of the recipes")
    parser.add_argument("--steps", type=int, help="of one repeat")
    parser.add_argument("--first", default=FIRST, help="commit to compare with, or none")
    return parser.parse_args(argv)


def measure(
    args: argparse.Namespace, recipe: str, first: os.PathLike[str] | None
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds by part, and what follows from them."""
    overrides = [*args.override]
    mixture = args.mixture or (None if os.environ.get("GRAPHFM_DATA") else "demo")
    if mixture:
        overrides.append(f"data.mixture={mixture}")
    small = recipe in NUM_STEPS
    if args.device == "cpu" and not small:
        overrides = [*CUT, *overrides]
    on_cuda = args.device == "cuda"
    num_steps = args.steps or (NUM_STEPS[recipe] if small else 10 if on_cuda else 1)
    # A schedule that never ends, and no warm-up: the learning rate does not change the time.
    overrides += ["train.steps=1000000", "train.max_time=null"]
    shape = {
        "recipe": recipe,
        "overrides": overrides,
        "num_steps": num_steps,
        "device": args.device,
    }
    steps = Steps(**shape)
    parts: dict[str, list[float]] = {name: [] for name in (*PARTS, "matmul")}
    rates: dict[str, list[float]] = {"now": [], "first": []}
    products, flops_of_products = matmuls(steps)
    for step in range(num_steps):
        one_step(steps, step, dict.fromkeys(PARTS, 0.0))
    from graphfm.model.cost import forward_flops

    flops = 3 * sum(forward_flops(steps.model, steps.corpus.batch_at(s)) for s in range(num_steps))
    with contextlib.ExitStack() as stack:
        workers = started(stack, {**shape, "threads": args.threads}, first)
        for _ in range(args.repeats):
            taken = dict.fromkeys(PARTS, 0.0)
            for step in range(num_steps):
                one_step(steps, step, taken)
            taken["matmul"] = seconds_of(products, steps.device)
            for name, value in taken.items():
                parts[name].append(value)
            for name, worker in workers.items():
                answer = worker.ask({"take": num_steps})
                rates[name].append(answer["targets"] / answer["seconds"])
    whole = [sum(parts[name][i] for name in PARTS) for i in range(args.repeats)]
    share = {name: bench.median(parts[name]) / bench.median(whole) for name in PARTS}
    floor = flops / flops_of_products * bench.median(parts["matmul"])
    found: dict[str, Any] = {
        "params": steps.model.num_params(),
        "overrides": overrides,
        "steps": num_steps,
        "targets": sum(steps.corpus.batch_at(s).num_targets for s in range(num_steps)),
        "step_ms": 1e3 * bench.median(whole) / num_steps,
        "share": share,
        "sampling_and_gather": share["sampling"] + share["gather"],
        "flops": flops,
        "matmul_gflops": flops_of_products / bench.median(parts["matmul"]) / 1e9,
        "over_floor": bench.median(whole) / floor,
        "targets_per_s": bench.summary(rates["now"]),
    }
    if rates["first"]:
        found["first_targets_per_s"] = bench.summary(rates["first"])
        ratios = [a / b for a, b in zip(rates["now"], rates["first"], strict=True)]
        found["over_first"] = bench.summary(ratios)
    return {**parts, "step": whole}, found


def started(
    stack: contextlib.ExitStack, shape: dict[str, Any], first: os.PathLike[str] | None
) -> dict[str, Worker]:
    """Both versions, warm; the first has a cache of its own."""
    script = str(ROOT / "tools" / "step_worker.py")
    workers = {"now": stack.enter_context(Worker([script], package=ROOT))}
    if first is not None:
        from graphfm.storage import cache_folder

        home = str(cache_folder() / "first-version")
        workers["first"] = stack.enter_context(Worker([script], package=first, home=home))
    for worker in workers.values():
        worker.ask(shape)
        worker.ask({"take": 1})
    return workers


def one_step(steps: Steps, step: int, taken: dict[str, float]) -> None:
    """A step as ``graphfm.training.loop`` takes it, with a clock between its parts."""
    from graphfm.machine import autocast
    from graphfm.training.loop import own_randomness

    c, device, model = steps.recipe.train, steps.device, steps.model
    objective = steps.recipe.objective.build()
    params = [p for group in steps.optimizer.param_groups for p in group["params"]]
    model.train()
    with clocks(device, taken) as lap:
        batch = steps.corpus.batch_at(step)
        lap("plan")
        with own_randomness(0, step, device=device), autocast(device, c.precision):
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
    """Adds the time since the last call to a part; sampling and gather take theirs out of plan."""
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
    """Matrix products of the sizes that most of the recipe's FLOPs have, and their FLOPs.

    Maps of all tokens of a tile of targets to the width, and to that of the feed-forward layer.
    """
    dim = steps.recipe.model.dim
    wide = dim * steps.recipe.model.decoder.ffn_mult
    batch = steps.corpus.batch_at(0)
    rows = min(batch.num_targets, 1024) * (1 + batch.neighbors.shape[1])
    dtype = torch.bfloat16 if steps.device.type == "cuda" else torch.float32
    sizes = [(rows, dim, dim), (rows, dim, 2 * wide), (rows, wide, dim)]
    pairs = [
        (
            torch.randn(m, k, device=steps.device, dtype=dtype),
            torch.randn(k, n, device=steps.device, dtype=dtype),
        )
        for m, k, n in sizes
    ]
    flops = sum(2.0 * m * k * n for m, k, n in sizes)
    turns = max(1, round(2e10 / flops))  # about a quarter of a second on a core

    def products() -> None:
        for _ in range(turns):
            for a, b in pairs:
                a @ b

    return products, flops * turns


def seconds_of(case: Callable[[], None], device: torch.device) -> float:
    """Seconds of one call."""
    return bench.interleaved({"case": case}, 1, device, warmup=0)["case"][0]


def as_rows(figures: dict[str, Any]) -> tuple[list[str], list[list[object]]]:
    """A column for each recipe."""
    rows: list[list[object]] = []

    def row(name: str, value: Callable[[dict[str, Any]], object]) -> None:
        rows.append([name, *(value(found) for found in figures.values())])

    row("trunk parameters", lambda f: f["params"]["trunk"])
    row("ms a step", lambda f: f["step_ms"])
    for part in PARTS:
        row(f"  {part}, %", lambda f, part=part: 100 * f["share"][part])
    row("sampling + gather, % (goal 5)", lambda f: 100 * f["sampling_and_gather"])
    row("matmul GFLOP/s at its sizes", lambda f: f["matmul_gflops"])
    row("time over the matmul floor", lambda f: f["over_floor"])
    row("targets/s", lambda f: f["targets_per_s"]["median"])
    row(
        "first version, targets/s",
        lambda f: f.get("first_targets_per_s", {}).get("median", "not measured"),
    )
    row("times the first version", lambda f: f.get("over_first", {}).get("median", "not measured"))
    return ["step", *figures], rows


if __name__ == "__main__":
    sys.exit(main())
