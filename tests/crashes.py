"""Kill pretraining runs at random moments; the tests and ``tools/crash_test.py`` use it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphfm.checkpoint.folder import Checkpoint, find_checkpoint
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
    """Start ``graphfm pretrain`` in a process of its own, with two threads."""
    env = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "graphfm", "pretrain", recipe, *overrides, "--out", str(out)]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


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
