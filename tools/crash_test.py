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
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphfm.checkpoint.folder import Checkpoint, find_checkpoint
from graphfm.config.recipe import seconds
from graphfm.errors import CheckpointError
from graphfm.model.graphfm import GraphFM
from graphfm.training.metrics_log import read_metrics
from graphfm.training.run_folder import checkpoints

# A run of 60 steps that saves, for 10 ms, at every second step; it is killed within 10 steps.
SMALL = (
    "train.steps=60",
    "train.max_time=null",  # on a busy machine the recipe's limit of a minute would end it early
    "train.warmup_steps=2",
    "train.save_every=2",
    "train.eval_every=20",
    "train.log_every=5",
    "train.eval_targets=16",
    "model.dim=32",
    "sampling.targets_per_step=64",
)
DOCUMENTED = {0, 75, 130, -signal.SIGKILL}  # exit codes
CLOCK = {"seconds", "targets_per_s"}  # entries of a log line that differ between equal runs


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A process of the run that was killed.

    Args:
        code: Exit code.
        during_save: True if it left a checkpoint half written.
        newest: Step of the newest intact checkpoint afterwards; -1 without one.
        resumed_from: Step of the newest intact checkpoint at its start; -1 without one.
    """

    code: int
    during_save: bool
    newest: int
    resumed_from: int


def start(out: Path, recipe: str, overrides: Sequence[str]) -> subprocess.Popen[str]:
    """Start ``graphfm pretrain`` in a process of its own."""
    command = [sys.executable, "-m", "graphfm", "pretrain", recipe, *overrides, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def half_written(out: Path, pid: int) -> list[Path]:
    """Return checkpoints that a process is writing, or was writing when it was killed."""
    return [p for p in (out / "checkpoints").glob(f"*.tmp-{pid}*") if p.is_dir()]


def newest_intact(out: Path) -> int:
    """Return the step of the newest checkpoint that verifies; -1 without one."""
    for step, path in reversed(checkpoints(out).items()):
        try:
            Checkpoint.open(path)
        except CheckpointError:
            continue
        return step
    return -1


def kill(process: subprocess.Popen[str], out: Path, rng: random.Random, *, in_save: bool) -> bool:
    """Kill a process at a random moment after its first save has begun.

    Args:
        process: Process of the run.
        out: Run folder.
        rng: Source of the moment.
        in_save: If true, kill it during one of its next saves.

    Returns:
        True if the process was killed; false if it ended before.
    """
    before, pid = set(checkpoints(out)), process.pid
    while process.poll() is None and set(checkpoints(out)) <= before and not half_written(out, pid):
        time.sleep(0.005)
    if in_save:
        skip = rng.randrange(4)
        seen: set[str] = set()
        while process.poll() is None:
            now = {p.name for p in half_written(out, pid)}
            seen |= now
            if len(seen) > skip and now:
                time.sleep(rng.random() * 0.008)
                break
    else:
        end = time.monotonic() + rng.random() * 1.0
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
    if process.poll() is not None:
        return False
    process.kill()
    return True


def crash(out: Path, kills: int, recipe: str, overrides: Sequence[str], seed: int) -> list[Killed]:
    """Kill a run repeatedly, then let it finish.

    A run that finishes before is followed by a new one, in a folder beside it.

    Args:
        out: Run folder; further ones are ``out-1``, ``out-2``, ...
        kills: Number of kills.
        recipe: Name of the recipe.
        overrides: Changes of the recipe, ``key=value``.
        seed: Seed of the moments.
    """
    rng = random.Random(seed)
    killed: list[Killed] = []
    folder, num_finished = out, 0
    while True:
        before = newest_intact(folder)
        process = start(folder, recipe, overrides)
        hit = len(killed) < kills and kill(process, folder, rng, in_save=len(killed) % 3 == 0)
        _, errors = process.communicate()
        check_errors(errors)
        if hit:
            found = Killed(
                code=process.returncode,
                during_save=bool(half_written(folder, process.pid)),
                newest=newest_intact(folder),
                resumed_from=before,
            )
            killed.append(found)
            assert found.newest >= before, "a checkpoint was lost"
            continue
        assert process.returncode == 0, errors
        if len(killed) >= kills:
            return killed
        num_finished += 1
        folder = out.with_name(f"{out.name}-{num_finished}")


def check_errors(errors: str) -> None:
    """Check that a process printed neither a traceback nor an internal error."""
    assert "Traceback" not in errors and "GFM400" not in errors, errors


def outcome(out: Path) -> dict[str, Any]:
    """Return what is equal in equal runs: the weights, and the log without times."""
    weights = GraphFM.from_checkpoint(find_checkpoint(out)).state_dict()
    lines = [{k: v for k, v in r.items() if k not in CLOCK} for r in read_metrics(out)]
    return {"weights": {k: v.numpy().tobytes() for k, v in weights.items()}, "lines": lines}


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
