"""Kill a pretraining run at random moments, and see that nothing is lost.

Two runs of one recipe: a straight one, and one that is killed again and again and goes on with the
same command. At the end both have the same weights, bit for bit, and the same lines in their logs.
A third of the kills fall into a save, which is 1% of the time.

    python tools/crash_test.py --kills 60
    python tools/crash_test.py --soak 45m --recipe local-small

A soak kills or stops the run every 2 to 4 minutes until its time is over, and reports how the loss
goes over the seams and how much memory each life of the run took.
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

# Every kind of life: with a save of 10 ms at every 2nd step, killed within 10 steps.
SMALL = (
    "train.steps=60",
    "train.max_time=null",  # on a busy machine the minute of the recipe would end a run early
    "train.warmup_steps=2",
    "train.save_every=2",
    "train.eval_every=20",
    "train.log_every=5",
    "train.eval_targets=16",
    "model.dim=32",
    "sampling.targets_per_step=64",
)
DOCUMENTED = {0, 75, 130, -signal.SIGKILL}
CLOCK = {"seconds", "targets_per_s"}  # of a line of the log; the rest is the same in both runs


@dataclass(frozen=True, kw_only=True)
class End:
    """How a life of the run ended.

    Args:
        code: Exit code.
        during_save: A checkpoint was half written.
        newest: Step of the newest whole checkpoint afterwards, -1 = none.
        went_on_from: Step that it had begun at, -1 = it did not get so far.
    """

    code: int
    during_save: bool
    newest: int
    went_on_from: int


def begin(out: Path, recipe: str, overrides: Sequence[str]) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "graphfm", "pretrain", recipe, *overrides, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def half_written(out: Path, pid: int) -> list[Path]:
    """Checkpoints that a process is writing, or was writing when it was killed."""
    return [p for p in (out / "checkpoints").glob(f"*.tmp-{pid}*") if p.is_dir()]


def newest_whole(out: Path) -> int:
    """Step of the newest checkpoint that verifies, -1 without one."""
    for step, path in reversed(checkpoints(out).items()):
        try:
            Checkpoint.open(path)
        except CheckpointError:
            continue
        return step
    return -1


def last_step(out: Path) -> int:
    """Of the log."""
    return max((r["step"] for r in read_metrics(out)), default=-1)


def kill(process: subprocess.Popen[str], out: Path, rng: random.Random, *, in_save: bool) -> bool:
    """SIGKILL at a random moment after its first step, or during its next save; whether it came."""
    before, pid = set(checkpoints(out)), process.pid
    while process.poll() is None and set(checkpoints(out)) <= before and not half_written(out, pid):
        time.sleep(0.005)  # until this life has reached its first save
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


def crash(out: Path, kills: int, recipe: str, overrides: Sequence[str], seed: int) -> list[End]:
    """Kill a run so often, and let it come to its end.

    A run that has come to its end before is begun anew in a folder beside it.
    """
    rng = random.Random(seed)
    ends: list[End] = []
    rounds = [out]
    while True:
        folder = rounds[-1]
        before = newest_whole(folder)
        process = begin(folder, recipe, overrides)
        if len(ends) >= kills:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
            check(folder, before, errors)
            return ends
        killed = kill(process, folder, rng, in_save=len(ends) % 3 == 0)
        _, errors = process.communicate()
        check(folder, before, errors)
        if not killed:
            assert process.returncode == 0, errors
            rounds.append(out.with_name(f"{out.name}-{len(rounds)}"))
            continue
        half = bool(half_written(folder, process.pid))
        ends.append(
            End(
                code=process.returncode,
                during_save=half,
                newest=newest_whole(folder),
                went_on_from=before,
            )
        )
        assert newest_whole(folder) >= before, "a checkpoint was lost"


def check(out: Path, before: int, errors: str) -> None:
    """No traceback, no fault of ours."""
    assert "Traceback" not in errors and "GFM400" not in errors, errors


def outcome(out: Path) -> dict[str, Any]:
    """What two runs of one recipe have in common: weights, and the log but for the clock."""
    weights = GraphFM.from_checkpoint(find_checkpoint(out)).state_dict()
    lines = [{k: v for k, v in r.items() if k not in CLOCK} for r in read_metrics(out)]
    return {"weights": {k: v.numpy().tobytes() for k, v in weights.items()}, "lines": lines}


def soak(out: Path, length: float, recipe: str, overrides: Sequence[str], seed: int) -> None:
    """SIGTERM or SIGKILL every 2 to 4 minutes until the time is over; then a last stop."""
    rng = random.Random(seed)
    end = time.monotonic() + length
    lives: list[dict[str, Any]] = []
    while time.monotonic() < end:
        process = begin(out, recipe, overrides)
        until = min(end, time.monotonic() + rng.uniform(120, 240))
        peak = 0.0
        resident: list[float] = []
        while time.monotonic() < until and process.poll() is None:
            time.sleep(5)
            resident.append(resident_mib(process.pid))
            peak = max(peak, resident[-1])
        how = rng.choice([signal.SIGTERM, signal.SIGKILL])
        if time.monotonic() >= end:
            how = signal.SIGTERM
        came_to_an_end = process.poll() is not None
        if not came_to_an_end:
            process.send_signal(how)
        _, errors = process.communicate()
        check(out, 0, errors)
        assert process.returncode in DOCUMENTED, errors
        lives.append(
            {
                "ended_by": "itself" if came_to_an_end else how.name,
                "exit": process.returncode,
                "step": last_step(out),
                "whole_checkpoint": newest_whole(out),
                "resident_mib_after_30s": round(resident[min(6, len(resident) - 1)]),
                "resident_mib_at_end": round(resident[-2] if len(resident) > 1 else peak),
            }
        )
        print(json.dumps(lives[-1]), flush=True)
        if came_to_an_end:
            break
    train = [r for r in read_metrics(out) if r["kind"] == "train"]
    steps = [r["step"] for r in train]
    assert steps == sorted(set(steps)), "a step is in the log twice"
    gaps = {b - a for a, b in zip(steps, steps[1:], strict=False)}
    third = max(1, len(train) // 3)
    means = [sum(r["loss"] for r in part) / len(part) for part in (train[:third], train[-third:])]
    print(
        json.dumps(
            {
                "lives": len(lives),
                "lines": len(train),
                "steps_between_lines": sorted(gaps),
                "loss_first_third": round(means[0], 4),
                "loss_last_third": round(means[1], 4),
                "largest_jump": round(
                    max(
                        (b["loss"] - a["loss"] for a, b in zip(train, train[1:], strict=False)),
                        default=0.0,
                    ),
                    4,
                ),
                "skipped_steps": train[-1]["skipped"] if train else 0,
            }
        )
    )


def resident_mib(pid: int) -> float:
    """Resident memory of a process, 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--soak", help="such as 45m; instead of --kills")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--seed", type=int, default=0)
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
        straight = begin(root / "straight", args.recipe, overrides)
        _, errors = straight.communicate()
        assert straight.returncode == 0, errors
        ends = crash(root / "killed", args.kills, args.recipe, overrides, args.seed)
        wanted = outcome(root / "straight")
        runs = [p for p in root.glob("killed*") if p.is_dir()]
        found = [outcome(run) for run in runs]
        same = [each == wanted for each in found]
        print(
            f"{len(ends)} kills, {sum(end.during_save for end in ends)} of them during a save, in "
            f"{len(runs)} runs of {time.monotonic() - began:.0f} s together; weights and log equal "
            f"the straight run's: {same.count(True)} of {len(same)}"
        )
        for run, each in zip(runs, found, strict=True):
            for part in wanted:
                if each[part] != wanted[part]:
                    print(f"{run.name}: other {part}")
        if not all(same):
            sys.exit(1)


if __name__ == "__main__":
    main()
