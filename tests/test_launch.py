"""``--nproc``: processes that die are restarted, those that choose an exit code are not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from graphfm.errors import RecipeError
from graphfm.model.graphfm import GraphFM
from graphfm.training.launch import chosen_exit_code, launch

LAUNCH = "import sys; from graphfm.training.launch import launch; sys.exit(launch(2, sys.argv[1:]))"
RUN = [
    *("pretrain", "demo", "--nproc", "2", "sampling.bins_per_step=2"),
    *("train.steps=40", "train.warmup_steps=2", "train.save_every=10", "train.eval_every=40"),
    "train.max_time=null",  # on a busy machine the recipe's limit of a minute would end it early
    *("model.dim=32", "sampling.targets_per_step=64", "train.eval_targets=16"),
]


def started(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_exit_code_that_a_process_chose_wins():
    """Other processes were ended (-15) or lost their peer (1). Seen to fail with the first code."""
    assert chosen_exit_code([-15, 8, 1]) == 8 and chosen_exit_code([1, 75]) == 75
    assert chosen_exit_code([-9, -15]) is None and chosen_exit_code([1, -15]) is None


def test_no_process_is_refused():
    with pytest.raises(RecipeError, match="GFM412"):
        launch(0, ["pretrain", "demo"])


def test_a_chosen_exit_code_is_returned_without_a_restart():
    """A recipe that does not exist: exit 4. Seen to fail if every end counts as a death."""
    process = started("-c", LAUNCH, "pretrain", "no-such-recipe")
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 4, output
    assert "restart" not in output and "GFM200" in output


@pytest.mark.slow
def test_a_killed_process_does_not_end_the_run(tmp_path):
    """SIGKILL to one of two, after a checkpoint: exit 0, and the weights of an undisturbed run.

    Seen to fail without a restart: exit 1 after 10 of 40 steps.
    """
    straight = started("-m", "graphfm", *RUN, "--out", str(tmp_path / "straight"))
    output, _ = straight.communicate(timeout=1200)
    assert straight.returncode == 0, output
    process = started("-m", "graphfm", *RUN, "--out", str(tmp_path / "killed"))
    until = time.monotonic() + 1000
    while not (tmp_path / "killed" / "LATEST").exists() and time.monotonic() < until:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, output
    assert "restart 1 of 3" in output
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["finished"]
    wanted = GraphFM.from_checkpoint(tmp_path / "straight").state_dict()
    for name, got in GraphFM.from_checkpoint(tmp_path / "killed").state_dict().items():
        assert torch.equal(got, wanted[name]), name
