"""Steps of a recipe by 1, 2 and 4 processes: equal losses, bytes sent, time.

    python tools/bench/ranks.py --recipe demo --ranks 1 2 4 --steps 30 --out ranks.json

Every number of processes does the same steps in the same bins. Bytes are what a rank hands to
all-reduce in a step, beside what DistributedDataParallel around the whole model would: adapters and
heads of all graphs, visited or not. On a machine with fewer cores than processes, the times show
how little the processes cost beside the step, not how much faster they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timing
import torch

from graphfm.config.load import load_recipe
from graphfm.model.graphfm import GraphFM
from graphfm.training.distributed import DistributedModel
from graphfm.training.loop import train
from graphfm.training.optim import make_optimizer
from graphfm.training.pretrain import load_corpus
from graphfm.training.world import join_world


def work(out: Path, name: str, steps: int, bins: int) -> None:
    """Train as one rank; the first one writes losses, seconds and bytes."""
    world = join_world()
    changes = [f"sampling.bins_per_step={bins}", f"train.steps={steps}", "train.warmup_steps=1"]
    recipe = load_recipe(name, [*changes, "train.max_time=null"])
    with world.first_on_its_machine():
        corpus = load_corpus(recipe, world.device)
    model = GraphFM(recipe.model, seed=recipe.seed)
    for spec in corpus.specs:
        model.add_graph(spec)
    distributed = DistributedModel(model, world)
    taken = train(
        model,
        recipe.objective.build(),
        make_optimizer([model], recipe.train),
        lambda step: corpus.rank_batches(step, rank=world.rank, size=world.size),
        recipe.train,
        seed=recipe.seed,
        distributed=distributed,
    )
    found: dict[str, Any] = {"loss": [], "seconds": [], "balance": []}
    began = time.perf_counter()
    for step in taken:
        found["loss"].append(float(step.loss))
        found["balance"].append(step.balance)
        found["seconds"].append(time.perf_counter() - began)
        began = time.perf_counter()
    if world.is_main:
        params = model.num_params()
        found |= {"bytes": distributed.bytes_sent / steps, "all": 4 * params["total"]}
        out.write_text(json.dumps({**found, "trunk": 4 * params["trunk"]}))
    world.close()


def measured(ranks: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the steps with a number of processes; return what the first one wrote."""
    out = folder / f"{ranks}.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), __file__, "--worker", str(out)]
    command += ["--recipe", args.recipe, "--steps", str(args.steps), "--bins", str(args.bins)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def main(argv: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Measure, print and write."""
    parser = timing.parser(__doc__)
    parser.add_argument("--recipe", default="demo", help="a recipe whose corpus is here")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--bins", type=int, default=4, help="bins of a step, for all ranks alike")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        torch.set_num_threads(1)
        work(args.worker, args.recipe, args.steps, args.bins)
        return None
    facts = timing.machine(args.device, threads=args.threads)
    with tempfile.TemporaryDirectory() as folder:
        by_ranks = {ranks: measured(ranks, args, Path(folder)) for ranks in args.ranks}
    first = by_ranks[args.ranks[0]]
    figures, rows = {}, []
    for ranks, found in by_ranks.items():
        apart = max(abs(a - b) for a, b in zip(found["loss"], first["loss"], strict=True))
        balance = sum(found["balance"]) / args.steps
        figures[str(ranks)] = {
            "loss apart": apart,
            "sent of all": found["bytes"] / found["all"],
            "balance": balance,
            **{key: found[key] for key in ("bytes", "all", "trunk")},
        }
        sizes = [found["bytes"] / 1e6, found["all"] / 1e6]
        rows.append([str(ranks), f"{apart:.1e}", *sizes, balance, timing.median(found["seconds"])])
    header = ["ranks", "loss apart", "sent MB a step", "plain DDP MB", "max/mean", "s a step"]
    print(timing.table(header, rows))
    seconds = {f"a step, {ranks} ranks": found["seconds"] for ranks, found in by_ranks.items()}
    return timing.write(args, facts, seconds, figures)


if __name__ == "__main__":
    main()
