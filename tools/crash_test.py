"""Kill a pretraining run at random moments and check that nothing is lost.

Two runs of one recipe: one without interruption, and one that is killed again and again and resumed
by the same command. At the end both have the same weights, bit for bit, and the same log lines. A
third of the kills hit a save, which takes 1% of the time.

    python tools/crash_test.py --kills 60
    python tools/crash_test.py --soak 45m --recipe local-small

A soak kills or stops the run every 2 to 4 minutes until its time is over. It reports the loss
across interruptions and the memory of each process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphfm.config.recipe import seconds
from graphfm.training.metrics_log import read_metrics

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.crashes import SMALL, check_errors, crash, newest_intact, outcome, start  # noqa: E402

DOCUMENTED = {0, 75, 130, -signal.SIGKILL}  # exit codes


def soak(out: Path, length: float, recipe: str, overrides: Sequence[str], seed: int) -> None:
    """Send SIGTERM or SIGKILL every 2 to 4 minutes until the time is over, SIGTERM at the end.

    Args:
        out: Run folder.
        length: Duration in seconds.
        recipe: Name of the recipe.
        overrides: Changes of the recipe, ``key=value``.
        seed: Seed of moments and signals.
    """
    rng = random.Random(seed)
    end = time.monotonic() + length
    num_processes, finished = 0, False
    while time.monotonic() < end and not finished:
        process = start(out, recipe, overrides)
        until = min(end, time.monotonic() + rng.uniform(120, 240))
        resident = [0.0]
        while time.monotonic() < until and process.poll() is None:
            time.sleep(5)
            resident.append(resident_mib(process.pid))
        number = rng.choice([signal.SIGTERM, signal.SIGKILL])
        if time.monotonic() >= end:
            number = signal.SIGTERM
        finished = process.poll() is not None
        if not finished:
            process.send_signal(number)
        _, errors = process.communicate()
        check_errors(errors)
        assert process.returncode in DOCUMENTED, errors
        num_processes += 1
        facts = {
            "ended_by": "itself" if finished else number.name,
            "exit": process.returncode,
            "step": max((r["step"] for r in read_metrics(out)), default=-1),
            "intact_checkpoint": newest_intact(out),
            "resident_mib_after_30s": round(resident[min(7, len(resident) - 1)]),
            "resident_mib_at_end": round(resident[-2 if len(resident) > 2 else -1]),
        }
        print(json.dumps(facts), flush=True)
    print(json.dumps({"processes": num_processes, **loss_facts(out)}))


def loss_facts(out: Path) -> dict[str, Any]:
    """Return the loss across interruptions, from the log; no step may be in it twice."""
    train = [r for r in read_metrics(out) if r["kind"] == "train"]
    steps, losses = [r["step"] for r in train], [r["loss"] for r in train]
    assert steps == sorted(set(steps)), "a step is in the log twice"
    third = max(1, len(train) // 3)
    jumps = [b - a for a, b in zip(losses, losses[1:], strict=False)]
    return {
        "lines": len(train),
        "steps_between_lines": sorted({b - a for a, b in zip(steps, steps[1:], strict=False)}),
        "loss_first_third": round(sum(losses[:third]) / third, 4),
        "loss_last_third": round(sum(losses[-third:]) / third, 4),
        "largest_jump": round(max(jumps, default=0.0), 4),
        "skipped_steps": train[-1]["skipped"] if train else 0,
    }


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB; 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def main() -> None:
    """Run the crash test or the soak, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=6, help="number of kills; default: 6")
    parser.add_argument("--soak", help="soak for this time instead, such as 45m")
    parser.add_argument("--recipe", default="demo", help="default: demo")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments; default: 0")
    parser.add_argument("--out", type=Path, help="default: a temporary folder")
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE; default for --kills: a small run")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        root = args.out or Path(folder)
        if args.soak:
            soak(root / "soak", seconds(args.soak), args.recipe, args.overrides, args.seed)
            return
        overrides = args.overrides or SMALL
        began = time.monotonic()
        straight = start(root / "straight", args.recipe, overrides)
        _, errors = straight.communicate()
        assert straight.returncode == 0, errors
        killed = crash(root / "killed", args.kills, args.recipe, overrides, args.seed)
        wanted = outcome(root / "straight")
        found = {run.name: outcome(run) for run in root.glob("killed*") if run.is_dir()}
        num_equal = sum(each == wanted for each in found.values())
        print(
            f"{len(killed)} kills, {sum(k.during_save for k in killed)} of them during a save, in "
            f"{len(found)} runs of {time.monotonic() - began:.0f} s together; weights and log "
            f"equal those of the uninterrupted run: {num_equal} of {len(found)}"
        )
        for name, each in found.items():
            for part in wanted:
                if each[part] != wanted[part]:
                    print(f"{name}: {part} differ")
        if num_equal < len(found):
            sys.exit(1)


if __name__ == "__main__":
    main()
