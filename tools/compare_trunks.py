"""Perceiver against control trunks on one corpus: the same adapters, heads, plan and steps.

Trains every recipe of recipes/controls with every seed and compares them by the loss / log C and
accuracy on validation nodes of the corpus: a mean with its 95% t interval over seeds, the
difference to perceiver's seed by seed, and on how many graphs of the corpus a trunk is ahead of it.
A -params recipe has perceiver's trunk parameters, a -flops one its FLOPs in a step.

    python tools/compare_trunks.py --steps 2000 --seeds 3 --jobs 2 --out docs/results/trunks.json

Runs are kept under --runs: a second call makes what is missing, and goes on with a run that was cut
off. Their checkpoints are models like any other: `graphfm benchmark --from` reads them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = "perceiver"

Ends = dict[str, dict[str, float]]  # loss and accuracy of each graph at the end of a run


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then report; exit code 1 if a run failed."""
    args = parse(argv)
    seeds = range(0 if args.report_only else args.seeds)
    todo = [(trunk, seed) for seed in seeds for trunk in args.trunks]
    with ThreadPoolExecutor(args.jobs) as pool:
        failed = [cell for cell in pool.map(lambda cell: run(args, *cell), todo) if cell]
    if failed:
        print(f"failed: {', '.join(f'{t} seed {s}' for t, s in failed)}", file=sys.stderr)
    result = summarise(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(markdown(result))
    return 1 if failed else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    known = sorted(path.stem for path in (ROOT / "recipes" / "controls").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--changes", nargs="+", default=[], help="key=value in the recipes' keys, for all runs"
    )
    parser.add_argument("--trunks", nargs="+", choices=known, default=known)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 .. SEEDS-1")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, of one thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/trunks"))
    parser.add_argument("--out", type=Path, required=True, help="the table as JSON")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    args = parser.parse_args(argv)
    if args.steps < 2 or args.seeds < 1 or args.jobs < 1:
        parser.error("--steps must be at least 2, --seeds and --jobs at least 1")
    args.trunks = [REFERENCE, *(trunk for trunk in args.trunks if trunk != REFERENCE)]
    return args


def folder_of(args: argparse.Namespace, trunk: str, seed: int) -> Path:
    """Of one run."""
    folder: Path = args.runs / f"{trunk}-steps{args.steps}-seed{seed}"
    return folder


def changes_of(args: argparse.Namespace, seed: int) -> list[str]:
    """What a run changes in its recipe."""
    return [
        f"seed={seed}",
        f"train.steps={args.steps}",
        f"train.warmup_steps={max(1, min(100, args.steps // 10))}",
        f"train.eval_every={max(1, args.steps // 4)}",
        *args.changes,
    ]


def receipt_of(args: argparse.Namespace, trunk: str, seed: int) -> dict[str, Any] | None:
    """``run.json`` of a run that reached its end; one of another recipe is refused."""
    from graphfm.config import load_recipe, read_yaml
    from graphfm.training.resume import differences

    folder = folder_of(args, trunk, seed)
    path = folder / "run.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if not found.get("finished"):
        return None
    asked = load_recipe(f"controls/{trunk}", changes_of(args, seed))
    differ = differences(read_yaml(folder / "config.resolved.yaml"), asked)
    if differ:
        raise SystemExit(f"{folder} is of another recipe ({', '.join(differ)}): another --runs")
    return found


def run(args: argparse.Namespace, trunk: str, seed: int) -> tuple[str, int] | None:
    """Make one run, or nothing where it is there; which one it is if it failed."""
    if receipt_of(args, trunk, seed):
        return None
    out, changes = folder_of(args, trunk, seed), changes_of(args, seed)
    made = pretrain(f"controls/{trunk}", changes, out, name=f"{trunk} seed {seed}")
    return None if made else (trunk, seed)


def pretrain(recipe: str, changes: Sequence[str], out: Path, *, name: str) -> bool:
    """Make a run in a process of its own, and say how it ended; whether it reached its end."""
    command = [sys.executable, "-m", "graphfm", "pretrain", recipe, "--out", str(out), *changes]
    # Of its own: what one run leaves in memory is not the next one's.
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    said = done.stderr.strip()[-500:] if done.returncode else "done"
    print(f"{name}: {said}", file=sys.stderr, flush=True)
    return not done.returncode


def summarise(args: argparse.Namespace) -> dict[str, Any]:
    """What every trunk reached, and how it stands to perceiver."""
    ends: dict[str, dict[int, Ends]] = {}
    rows: dict[str, dict[str, Any]] = {}
    dealt: dict[int, dict[str, int]] = {}
    for trunk in args.trunks:
        receipts = {s: receipt_of(args, trunk, s) for s in range(args.seeds)}
        done = {seed: receipt for seed, receipt in receipts.items() if receipt}
        rows[trunk] = {"seeds": sorted(done)}
        if not done:
            continue
        for seed, receipt in done.items():
            seen = receipt["targets_seen_by_dataset"]
            if dealt.setdefault(seed, seen) != seen:
                raise SystemExit(f"{trunk} seed {seed} saw other targets than the trunks before it")
        ends[trunk] = {seed: last_eval(folder_of(args, trunk, seed)) for seed in done}
        first = next(iter(done.values()))
        rows[trunk] |= {
            "params": first["params"]["trunk"],
            "flops_per_step": first["flops"] / first["steps"],
            "seconds": float(np.mean([receipt["seconds"] for receipt in done.values()])),
            "curves": {seed: receipt["curve"] for seed, receipt in done.items()},
            **compared(ends[trunk], ends.get(REFERENCE, {}) if trunk != REFERENCE else {}),
        }
    return {"steps": args.steps, "seeds": args.seeds, "changes": args.changes, "trunks": rows}


def last_eval(folder: Path) -> Ends:
    """Loss / log C and accuracy of every graph, at the end of a run."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    graphs: Ends = [r for r in map(json.loads, lines) if r["kind"] == "eval"][-1]["graphs"]
    return graphs


def compared(own: dict[int, Ends], other: dict[int, Ends]) -> dict[str, Any]:
    """Means over graphs with intervals over seeds; the difference to another's, seed by seed."""
    from graphfm.benchmark.statistics import mean_interval, pair

    found: dict[str, Any] = {}
    for what in ("loss", "accuracy"):
        means = np.array([np.mean([g[what] for g in ends.values()]) for ends in own.values()])
        found[what], found[f"{what}_half"] = mean_interval(means)
    common = [seed for seed in own if seed in other]
    if common:
        names = list(own[common[0]])
        gap = np.array([[own[s][g]["loss"] - other[s][g]["loss"] for g in names] for s in common])
        found["gap"], found["gap_half"] = mean_interval(gap.mean(axis=1))
        over_graphs = pair(-gap.mean(axis=0), np.zeros(len(names)))  # a lower loss is a gain
        found["ahead"], found["behind"] = over_graphs.won, over_graphs.lost
        found["gap_over_graphs"] = [-over_graphs.high, -over_graphs.low]
        found["sign_p"] = over_graphs.sign_p
    return found


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    rows = result["trunks"]
    if not rows[REFERENCE]["seeds"]:
        return "perceiver has no finished run yet: nothing to compare with"
    flops = rows[REFERENCE]["flops_per_step"]
    lines = [
        f"{result['steps']} steps; loss / log C and accuracy on validation nodes: mean and half a "
        "95% t interval over seeds",
        "",
        "| trunk | seeds | parameters | FLOPs of a step | seconds | loss / log C | "
        "minus perceiver's | ahead on graphs | accuracy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for trunk, row in rows.items():
        seeds = f"{len(row['seeds'])} of {result['seeds']}"
        if not row["seeds"]:
            lines.append(f"| {trunk} | {seeds} |" + " |" * 7)
            continue
        cells = [
            trunk,
            seeds,
            f"{row['params']:,}",
            f"{row['flops_per_step'] / flops:.2f}",
            f"{row['seconds']:.0f}",
            f"{row['loss']:.4f}{plus_minus(row['loss_half'], 4)}",
            f"{row['gap']:+.4f}{plus_minus(row['gap_half'], 4)}" if "gap" in row else "",
            f"{row['ahead']} of {row['ahead'] + row['behind']}" if "gap" in row else "",
            f"{100 * row['accuracy']:.1f}%",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plus_minus(half: float | None, digits: int) -> str:
    """Half an interval as text; nothing of one seed."""
    return "" if half is None else f" +- {half:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
