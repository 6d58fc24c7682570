"""AdamW, Muon and LAMB on the same recipe, targets and steps: validation loss, three seeds.

Each optimizer first takes its learning rate from a grid of the same length, by the validation loss
of seed 0 after half of the steps; the test nodes of no graph are read. Then it runs in full with
every seed. Runs are kept under --runs and not done again: a second call goes on.

    python tools/bench_optimizers.py --steps 300 --out docs/results/optimizers.json \
        --plot docs/pictures/optimizers.png
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GRID = {
    "adamw": (3e-3, 1e-2, 3e-2),
    "muon": (3e-3, 1e-2, 3e-2),
    "lamb": (3e-3, 1e-2, 3e-2),
}
COLORS = {"adamw": "#3b6fb6", "muon": "#c8553d", "lamb": "#5b8c5a"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then report."""
    args = parse(argv)
    lr = {}
    for optimizer, grid in GRID.items():
        ends = {rate: run(args, optimizer, rate, 0, args.steps // 2)[-1]["loss"] for rate in grid}
        lr[optimizer] = min(ends, key=lambda rate: ends[rate])
        print(f"{optimizer}: " + ", ".join(f"lr {r:g} {e:.4f}" for r, e in ends.items()))
    result: dict[str, Any] = {"recipe": args.recipe, "steps": args.steps, "optimizers": {}}
    for optimizer, rate in lr.items():
        curves = [run(args, optimizer, rate, seed, args.steps) for seed in range(args.seeds)]
        result["optimizers"][optimizer] = {"lr": rate, "curves": curves}
    table(result)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if args.plot:
        plot(result, args.plot)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="local-small")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/optimizers"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args(argv)
    if args.steps < 4 or args.seeds < 1:
        parser.error("--steps must be at least 4, --seeds at least 1")
    return args


def run(
    args: argparse.Namespace, optimizer: str, lr: float, seed: int, steps: int
) -> list[dict[str, float]]:
    """The curve on validation nodes of one run: step, loss / log C, accuracy."""
    folder = args.runs / f"{args.recipe}-{optimizer}-{lr:g}-{seed}-{steps}"
    receipt = folder / "run.json"
    if not (receipt.is_file() and json.loads(receipt.read_text())["finished"]):
        changes = {
            "train.optimizer": optimizer,
            "train.lr": lr,
            "train.steps": steps,
            "train.max_time": "null",
            "train.warmup_steps": max(1, steps // 10),
            "train.eval_every": max(1, steps // 6),
            "train.save_every": steps,
        }
        command = [sys.executable, "-m", "graphfm", "pretrain", args.recipe, "--out", str(folder)]
        command += ["--seed", str(seed), *(f"{key}={value}" for key, value in changes.items())]
        # A process of its own: what one run leaves in memory is not the next one's.
        env = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
        subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    curve: list[dict[str, float]] = json.loads(receipt.read_text())["curve"]
    return curve


def table(result: dict[str, Any]) -> None:
    """Print the end of each optimizer, and how it stands to AdamW, seed by seed."""
    import numpy as np

    ends = {
        name: np.array([curve[-1]["loss"] for curve in found["curves"]])
        for name, found in result["optimizers"].items()
    }
    print(f"\n| optimizer | lr | loss / log C ({len(ends['adamw'])} seeds) | minus AdamW's |")
    print("|---|---|---|---|")
    for name, loss in ends.items():
        gap = loss - ends["adamw"]
        spread = f"{gap.mean():+.4f} ({gap.min():+.4f} to {gap.max():+.4f})"
        lr = result["optimizers"][name]["lr"]
        print(f"| {name} | {lr:g} | {loss.mean():.4f} | {'' if name == 'adamw' else spread} |")


def plot(result: dict[str, Any], path: Path) -> None:
    """Loss against steps, a line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    for name, found in result["optimizers"].items():
        for seed, curve in enumerate(found["curves"]):
            label = f"{name}, lr {found['lr']:g}" if seed == 0 else None
            steps, losses = zip(*((c["step"], c["loss"]) for c in curve), strict=True)
            axes.plot(steps, losses, color=COLORS[name], alpha=0.8, label=label)
    axes.set(xlabel="optimizer steps", ylabel="loss / log C on validation nodes")
    axes.set_title(f"{result['recipe']}: the same targets, {len(found['curves'])} seeds each")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
