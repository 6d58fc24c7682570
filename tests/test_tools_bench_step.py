"""The benches of the step and the bank, at a size of seconds: what they measure and write."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch

TOOLS = Path(__file__).parent.parent / "tools"
TINY = ["model.dim=16", "model.encoder.num_latents=4", "sampling.max_targets=16"]
TINY += ["sampling.targets_per_step=32", "sampling.max_context=32", "sampling.num_neighbors=3"]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.delenv("GRAPHFM_DATA", raising=False)
    return importlib.import_module


@pytest.fixture
def this_as_first(tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The present version in the place of the first: nothing to unpack, nothing to prepare."""
    bench = tool("bench_step")

    @contextlib.contextmanager
    def checkout(commit: str):
        yield bench.ROOT

    monkeypatch.setattr(bench, "checkout", checkout)
    monkeypatch.setattr(tool("bench_bank"), "checkout", checkout)


def run(bench: ModuleType, out: Path, *more: str) -> dict:
    assert bench.main(["--out", str(out), "--repeats", "2", *more]) == 0
    return json.loads(out.read_text())


def test_figures_are_those_of_both_versions(tool, this_as_first, tmp_path, capsys):
    bench = tool("bench_step")
    more = ["--recipes", "demo", "--steps", "2", "--override", *TINY]
    found = run(bench, tmp_path / "o.json", *more)
    figures = found["figures"]["demo"]
    assert set(figures["share"]) == set(bench.PARTS)
    assert all(found["seconds"][f"demo: {part}"]["median"] > 0 for part in bench.PARTS)
    assert found["seconds"]["demo: step"]["repeats"] == 2
    assert figures["over_floor"] > 0 and figures["flops"] > 0 and figures["targets"] > 0
    assert figures["over_first"]["repeats"] == 2 and figures["over_first"]["median"] > 0
    assert "times the first version" in capsys.readouterr().out


def test_each_second_is_counted_in_its_own_part(tool, monkeypatch):
    """By a clock that only work moves; seen to fail with sampling left in the gather."""
    from graphfm.sampling import batch as batches
    from graphfm.training import corpus

    bench = tool("bench_step")
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


def test_without_the_first_version_its_columns_say_so(tool, tmp_path, capsys):
    found = run(
        tool("bench_step"), tmp_path / "o.json",
        "--recipes", "demo", "--steps", "1", "--first", "none", "--override", *TINY,
    )  # fmt: skip
    assert "over_first" not in found["figures"]["demo"]
    assert "not measured" in capsys.readouterr().out


def test_a_clocked_step_is_the_step_of_the_loop(tool):
    """The bench takes a step apart: the weights must move as in ``train``, bit for bit.

    Seen to fail without the clipping of gradients.
    """
    worker, bench = tool("step_worker"), tool("bench_step")
    overrides = [*TINY, "train.steps=50", "train.warmup_steps=0", "train.max_grad_norm=0.01"]
    apart, whole = (worker.Steps("demo", overrides, 2, "cpu") for _ in range(2))
    next(whole.run)
    bench.one_step(apart, 0, dict.fromkeys(bench.PARTS, 0.0))
    wanted = whole.model.state_dict()
    assert all(torch.equal(value, wanted[k]) for k, value in apart.model.state_dict().items())


def test_the_bank_in_numbers(tool, this_as_first, tmp_path, capsys):
    """Seen to fail with the features left out of the parts."""
    found = run(tool("bench_bank"), tmp_path / "o.json", "--mixture", "demo")
    now = found["figures"]["now"]
    assert now["graphs"] == 17 and sum(now["parts"].values()) == now["bytes"]
    # At 4 bytes a number: an encoding has 34 columns, and features are there.
    assert now["parts"]["encodings"] == now["nodes"] * 34 * 4 and now["parts"]["features"] > 0
    assert now["peak_own_bytes"]["median"] >= 0
    for part in ("now: read", "now: build", "first: read", "first: build"):
        assert found["seconds"][part]["repeats"] == 2
    assert "MiB at the peak, own" in capsys.readouterr().out


def test_a_version_that_is_not_there_is_left_out(tool, capsys):
    checkout = tool("first_version").checkout
    with checkout("no-such-commit") as folder:
        assert folder is None
    assert "no-such-commit is left out" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_a_version_is_unpacked_and_gone_afterwards(tool):
    with tool("first_version").checkout("HEAD") as folder:
        if folder is None:
            pytest.skip("no repository here")
        assert (folder / "graphfm" / "__init__.py").is_file()
    assert not folder.exists()


def test_a_worker_that_ends_is_an_error_and_leaves_no_process(tool):
    """Seen to fail with an empty answer taken for one."""
    first_version = tool("first_version")
    with first_version.Worker(["-c", "pass"], package=TOOLS) as worker:
        with pytest.raises(RuntimeError, match="ended with code 0"):
            worker.ask({})
    assert worker.process.poll() == 0
