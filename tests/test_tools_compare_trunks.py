"""Trunks side by side: figures by hand, what is missing is said, other steps are refused."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from graphfm.config import load_recipe, recipe_names

MIXTURE = "data.mixture=no-such"  # whatever is run fails at once
TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("compare_trunks")


def keep(runs: Path, trunk: str, seed: int, losses: list[float], **changes: object) -> Path:
    """What a run of 100 steps on graphs a, b, ... leaves."""
    folder = runs / f"{trunk}-steps100-seed{seed}"
    folder.mkdir(parents=True)
    steps = ["train.steps=100", "train.warmup_steps=10", "train.eval_every=25", f"seed={seed}"]
    recipe = load_recipe(f"controls/{trunk}", [*steps, MIXTURE])
    (folder / "config.resolved.yaml").write_text(recipe.to_yaml())
    names = "abcd"[: len(losses)]
    receipt = {
        "finished": True,
        "steps": 100,
        "params": {"trunk": 1000},
        "flops": 2e9,
        "seconds": 5.0,
        "targets_seen_by_dataset": {name: 50 + seed for name in names},
        "curve": [],
    }
    (folder / "run.json").write_text(json.dumps({**receipt, **changes}))
    graphs = {n: {"loss": x, "accuracy": 1 - x} for n, x in zip(names, losses, strict=True)}
    early = {n: {"loss": 1.0, "accuracy": 0.0} for n in names}
    lines = [
        {"kind": "eval", "step": 0, "graphs": early},
        {"kind": "eval", "step": 100, "graphs": graphs},
        {"kind": "train", "step": 100},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def call(tool: ModuleType, tmp_path: Path, *more: str) -> int:
    out = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "trunks.json")]
    return tool.main(["--steps", "100", *out, "--changes", MIXTURE, *more])


def test_figures_are_those_worked_by_hand(tool, tmp_path, capsys):
    """Nothing is run, for all is there. Seen to fail with the first evaluation for the last."""
    runs = tmp_path / "runs"
    for seed, (ours, theirs) in enumerate([([0.2, 0.4, 0.6], [0.3, 0.5, 0.5]), ([0.4] * 3,) * 2]):
        keep(runs, "perceiver", seed, ours)
        keep(runs, "sage-params", seed, theirs, flops=3e9)
    assert call(tool, tmp_path, "--trunks", "sage-params", "--seeds", "2") == 0
    row = json.loads((tmp_path / "trunks.json").read_text())["trunks"]["sage-params"]
    # Means over graphs are 1.3/3 and 0.4; t(0.975, 1) = 12.706 times half of their distance.
    assert row["loss"] == pytest.approx((1.3 / 3 + 0.4) / 2)
    assert row["loss_half"] == pytest.approx(12.706 * (1.3 / 3 - 0.4) / 2, rel=1e-3)
    assert row["gap"] == pytest.approx(0.1 / 3 / 2)  # seed by seed: 0.1/3 and 0
    assert row["gap_half"] == pytest.approx(12.706 * 0.1 / 3 / 2, rel=1e-3)
    assert (row["ahead"], row["behind"]) == (1, 2)  # better on c alone
    assert row["gap_over_graphs"][0] <= row["gap"] <= row["gap_over_graphs"][1]
    said = capsys.readouterr().out
    assert "| sage-params | 2 of 2 | 1,000 | 1.50 | 5 | 0.4167 +- 0.2118 |" in said
    assert "| perceiver | 2 of 2 | 1,000 | 1.00 | 5 | 0.4000 +- 0.0000 |  |  | 60.0% |" in said


def test_what_saw_other_targets_is_refused(tool, tmp_path):
    keep(tmp_path / "runs", "perceiver", 0, [0.5])
    keep(tmp_path / "runs", "none-flops", 0, [0.5], targets_seen_by_dataset={"a": 49})
    with pytest.raises(SystemExit, match="none-flops seed 0 saw other targets"):
        call(tool, tmp_path, "--trunks", "none-flops", "--seeds", "1")


def test_runs_of_another_recipe_are_refused(tool, tmp_path):
    keep(tmp_path / "runs", "perceiver", 0, [0.5])
    with pytest.raises(SystemExit, match=r"of another recipe \(model.dim\)"):
        call(tool, tmp_path, "model.dim=16", "--trunks", "perceiver", "--seeds", "1")


def test_a_run_that_fails_is_said_and_the_others_stay(tool, tmp_path, capsys):
    """The gcn has no run, perceiver keeps its own. A report alone runs nothing, and says the same.

    Seen to fail with the exit code of a run not looked at.
    """
    keep(tmp_path / "runs", "perceiver", 0, [0.5])
    args = ["--trunks", "gcn-flops", "--seeds", "1"]
    assert call(tool, tmp_path, *args) == 1
    said = capsys.readouterr()
    assert "failed: gcn-flops seed 0\n" in said.err and "no-such" in said.err
    assert "| gcn-flops | 0 of 1 |" in said.out and "| perceiver | 1 of 1 |" in said.out
    assert call(tool, tmp_path, *args, "--report-only") == 0
    assert capsys.readouterr().out == said.out


def test_it_compares_every_control_there_is(tool, tmp_path):
    args = tool.parse(["--out", str(tmp_path / "x.json")])
    names = {name.split("/")[1] for name in recipe_names() if name.startswith("controls/")}
    assert set(args.trunks) == names and args.trunks[0] == "perceiver"
    with pytest.raises(SystemExit):
        tool.parse(["--out", "x.json", "--trunks", "gat"])
