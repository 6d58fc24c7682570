"""The benches of the step and the bank at tiny size: their clocks and their output."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from graphfm.training.loop import train

BENCHES = Path(__file__).parent.parent / "tools" / "bench"
TINY = ["model.dim=16", "model.encoder.num_latents=4", "sampling.max_targets=16"]
TINY += ["sampling.targets_per_step=32", "sampling.max_context=32", "sampling.num_neighbors=3"]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHES))
    monkeypatch.delenv("GRAPHFM_DATA", raising=False)
    return importlib.import_module


def run(bench: ModuleType, out: Path, *more: str) -> dict:
    assert bench.main(["--out", str(out), "--repeats", "2", *more]) == 0
    return json.loads(out.read_text())


def test_a_tiny_run_writes_every_figure(tool, tmp_path, capsys):
    bench = tool("step")
    more = ["--recipes", "demo", "--steps", "2", "--override", *TINY]
    found = run(bench, tmp_path / "o.json", *more)
    figures = found["figures"]["demo"]
    assert set(figures["share"]) == set(bench.PARTS)
    assert all(found["seconds"][f"demo: {part}"]["median"] > 0 for part in bench.PARTS)
    assert found["seconds"]["demo: step"]["repeats"] == 2
    assert figures["over_floor"] > 0 and figures["flops"] > 0 and figures["targets"] > 0
    assert figures["targets_per_s"]["repeats"] == 2 and figures["targets_per_s"]["median"] > 0
    assert "time over the matmul floor" in capsys.readouterr().out


def test_each_second_is_counted_in_its_own_part(tool, monkeypatch):
    """With a fake clock that only ``work`` moves. Seen to fail with sampling left in the gather."""
    from graphfm.sampling import batch as batches
    from graphfm.training import corpus

    bench = tool("step")
    now = 0.0

    def work(seconds):
        nonlocal now
        now += seconds

    def make_batch():
        work(4)
        batches.sample_neighbors(2)
        work(1)

    monkeypatch.setattr(bench.time, "process_time", lambda: now)
    monkeypatch.setattr(batches, "sample_neighbors", work)
    monkeypatch.setattr(corpus, "make_batch", make_batch)
    taken = dict.fromkeys(bench.PARTS, 0.0)
    with bench.clocks(torch.device("cpu"), taken) as lap:
        work(8)
        corpus.make_batch()
        work(16)
        lap("plan")
        work(32)
        lap("forward")
    wanted = {"plan": 24, "sampling": 2, "gather": 5, "forward": 32, "backward": 0, "optimizer": 0}
    assert taken == wanted
    assert batches.sample_neighbors is work and corpus.make_batch is make_batch


def test_a_clocked_step_is_the_step_of_the_loop(tool):
    """The bench takes a step apart: the weights must move as in ``train``, bit for bit.

    Seen to fail without the clipping of gradients.
    """
    bench = tool("step")
    overrides = [*TINY, "data.mixture=demo", "train.steps=50", "train.warmup_steps=0"]
    overrides.append("train.max_grad_norm=0.01")
    apart, whole = (bench.Steps("demo", overrides, "cpu") for _ in range(2))
    objective, recipe = whole.recipe.objective.build(), whole.recipe.train
    next(train(whole.model, objective, whole.optimizer, whole.corpus.batch_at, recipe, seed=0))
    bench.one_step(apart, 0, dict.fromkeys(bench.PARTS, 0.0))
    wanted = whole.model.state_dict()
    assert all(torch.equal(value, wanted[k]) for k, value in apart.model.state_dict().items())


def test_the_bank_in_numbers(tool, tmp_path, capsys):
    """Seen to fail with the features left out of the parts."""
    found = run(tool("bank"), tmp_path / "o.json", "--mixture", "demo")
    figures = found["figures"]
    assert figures["graphs"] == 17 and sum(figures["parts"].values()) == figures["bytes"]
    # At 4 bytes a number: an encoding has 34 columns, and features are there.
    assert figures["parts"]["encodings"] == figures["nodes"] * 34 * 4
    assert figures["parts"]["features"] > 0 and figures["peak_own_bytes"]["median"] >= 0
    assert all(found["seconds"][part]["repeats"] == 2 for part in ("read", "build"))
    assert "MiB at the peak, own" in capsys.readouterr().out
