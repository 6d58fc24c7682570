"""Stopped and killed runs: the files on disk are intact, and the run resumes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from graphfm.errors import OutputError
from graphfm.training.metrics_log import read_metrics
from graphfm.training.pretrain import pretrain
from graphfm.training.run_folder import LOCK, checkpoints, lock_folder
from graphfm.training.stops import Interrupted, StopRequests, exit_code
from tests.crashes import SMALL, crash, half_written, outcome, start
from tests.test_pretrain import recipe_of, run_of, what_a_run_left


def test_a_signal_is_noted_and_nothing_more():
    """Before the first step it stops at once; afterwards only a second Ctrl-C does."""
    kept = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    with StopRequests() as stops:
        with pytest.raises(Interrupted, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
    with StopRequests() as stops:
        stops.defer_signals()
        assert stops.reason is None
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
            assert stops.reason == signal.Signals(number).name
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert kept == [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    codes = {why: exit_code(why) for why in (None, "SIGTERM", "SIGUSR1", "max-time", "SIGINT")}
    assert list(codes.values()) == [0, 75, 75, 75, 130]


def test_a_time_limit_stops_after_a_saved_step(tmp_path):
    """The same call resumes and finishes the run."""
    with StopRequests(max_time=0.0) as stops:
        receipt = run_of(tmp_path).train(stops)
    assert (receipt["stopped"], receipt["steps"], receipt["finished"]) == ("max-time", 1, False)
    assert list(checkpoints(tmp_path)) == [1]
    assert run_of(tmp_path).train()["finished"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_during_a_save_or_a_step_changes_nothing(tmp_path, name):
    """A timer of the system interrupts this process at arbitrary moments, 0.03 s apart.

    The result equals that of the uninterrupted run, bit for bit.
    """
    run_of(tmp_path / "straight").train()
    out, stopped = tmp_path / "parts", []
    handler = signal.getsignal(signal.SIGALRM)
    try:
        while not stopped or stopped[-1] is not None:
            with StopRequests() as stops:
                run = run_of(out)
                signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.Signals[name]))
                stops.defer_signals()
                signal.setitimer(signal.ITIMER_REAL, 0.02 + 0.03 * len(stopped))
                stopped.append(run.train(stops)["stopped"])
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert len(stopped) > 1 and set(stopped) == {name, None}
    assert what_a_run_left(out) == what_a_run_left(tmp_path / "straight")


def wait_for(condition, process: subprocess.Popen) -> None:
    end = time.monotonic() + 1000
    while not condition() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


@pytest.mark.slow
def test_the_command_stops_with_75_and_130_and_resumes(tmp_path):
    """SIGTERM during a save, Ctrl-C during a step; the final weights are equal bit for bit."""
    straight, out = tmp_path / "straight", tmp_path / "run"
    start(straight, "demo", SMALL).communicate()
    process = start(out, "demo", SMALL)
    wait_for(lambda: half_written(out, process.pid), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 75 and "stopped by SIGTERM, saved at step" in errors
    at = max(checkpoints(out))
    process = start(out, "demo", SMALL)
    wait_for(lambda: max(checkpoints(out)) > at, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 130 and "stopped by SIGINT, saved at step" in errors
    process = start(out, "demo", SMALL)
    process.communicate(timeout=1200)
    assert process.returncode == 0
    assert outcome(out) == outcome(straight)


@pytest.mark.slow
def test_a_run_killed_six_times_equals_the_uninterrupted_one(tmp_path):
    """SIGKILL at random moments, two of them during a save. 60 of them: tools/crash_test.py."""
    start(tmp_path / "straight", "demo", SMALL).communicate()
    killed = crash(tmp_path / "killed", 6, "demo", SMALL, seed=0)
    assert len(killed) == 6 and sum(k.during_save for k in killed) >= 2
    assert {k.code for k in killed} == {-signal.SIGKILL}
    for run in tmp_path.glob("killed*"):
        assert outcome(run) == outcome(tmp_path / "straight")


def test_two_runs_on_one_folder(tmp_path):
    """The error of the second names the process that holds the folder; nothing is replaced.

    Seen to fail if --overwrite looks at the folder before the lock.
    """
    out = tmp_path / "run"
    run_of(out).train()
    command = [sys.executable, "-m", "graphfm", "pretrain", "demo", "--out", str(out)]
    with lock_folder(out):
        with pytest.raises(OutputError, match="GFM802"):
            pretrain(recipe_of(), out=out)
        done = subprocess.run([*command, "--overwrite"], capture_output=True, text=True)
    assert done.returncode == 8 and "GFM802" in done.stderr, done.stderr
    assert f"process {os.getpid()} on " in done.stderr
    assert (out / LOCK).exists() and max(checkpoints(out)) == 12


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
    """A power cut loses the steps since the last checkpoint; their lines are written again."""
    run_of(tmp_path).train()
    lines = read_metrics(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "train", "step": 13, "loss": 0.0}) + '\n{"kind": "tr')
    run_of(tmp_path, "train.steps=13")
    assert read_metrics(tmp_path) == lines
