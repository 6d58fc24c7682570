"""A run of in-context pretraining: it learns, resumes bit for bit, and leaves a receipt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graphfm.config.incontext import InContextRecipe
from graphfm.config.parts import validated
from graphfm.errors import CheckpointError
from graphfm.training.incontext import InContextRun, load_network
from graphfm.training.run_folder import checkpoints
from graphfm.training.tasks.produce import produce
from graphfm.training.tasks.store import SHARD, TaskStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TaskStore:
    """A shard of drawn tasks."""
    folder = tmp_path_factory.mktemp("tasks")
    produce(folder, (), seed=0, kinds={"synthetic": 1.0}, num_tasks=SHARD)
    return TaskStore(folder)


def run(store: TaskStore, out: Path, **train: object) -> InContextRun:
    """A small run."""
    values = {
        "name": "small",
        "tasks": {},
        "network": {"dim": 16, "num_layers": 1, "num_latents": 2, "num_heads": 1},
        "train": {"steps": 6, "tasks_per_step": 4, "round": 8, "warmup_steps": 1, "log_every": 2,
                  "keep": [], **train},
    }  # fmt: skip
    recipe = validated(InContextRecipe, values)
    out.mkdir(exist_ok=True)
    return InContextRun(recipe, store, out, torch.device("cpu"), {"not_judged_on": []})


def weights(run: InContextRun) -> list[torch.Tensor]:
    """Weights and their average."""
    return [*run.model.parameters(), *run.average.parameters()]


def test_a_resumed_run_equals_an_uninterrupted_one(store: TaskStore, tmp_path: Path) -> None:
    """Bit for bit, also in the middle of a round. Seen to fail without the round's state."""
    whole = run(store, tmp_path / "whole")
    receipt = whole.train()
    parts = run(store, tmp_path / "parts", save_every=3)
    while parts.step < 3:
        parts._take_step()
    parts._save()
    resumed = run(store, tmp_path / "parts", save_every=3)
    assert resumed.step == 3
    resumed.train()
    assert all(map(torch.equal, weights(whole), weights(resumed)))
    assert receipt["steps"] == 6 and receipt["tasks"] == 24 and receipt["stopped"] is None
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6]


def test_what_is_saved_is_the_average_of_weights(store: TaskStore, tmp_path: Path) -> None:
    """And only kept steps and the newest stay. Seen to fail with the weights themselves."""
    made = run(store, tmp_path, save_every=1, keep=[2])
    made.train()
    found = checkpoints(tmp_path)
    assert list(found) == [2, 6]
    loaded = load_network(found[6])
    for mine, mean, last in zip(
        loaded.parameters(), made.average.parameters(), made.model.parameters(), strict=True
    ):
        assert torch.equal(mine, mean)
        assert not torch.equal(mean, last)
    assert not loaded.training


def test_another_network_does_not_resume(store: TaskStore, tmp_path: Path) -> None:
    run(store, tmp_path).train()
    with pytest.raises(CheckpointError, match="GFM306"):
        values = {"name": "small", "tasks": {}, "network": {"dim": 32}}
        recipe = validated(InContextRecipe, values)
        InContextRun(recipe, store, tmp_path, torch.device("cpu"), {})


def test_it_learns(store: TaskStore, tmp_path: Path) -> None:
    """Seen twenty times, the tasks' loss falls below that of their pool, where it began."""
    made = run(store, tmp_path, steps=80, tasks_per_step=8, lr=5e-3, drop_experts=0.0)
    first = made._take_step()
    torch.testing.assert_close(*first)
    while made.step < 80:
        last = made._take_step()
    assert float((last[1] - last[0]).mean()) > 0.02
