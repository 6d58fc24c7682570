"""The bench of calibration: it goes on where it stopped, and no fit of it sees a test label."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.graphs import synthetic

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("bench_calibration")


def test_a_second_run_measures_what_is_missing(
    bench, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that was cut off counts as missing. Seen to fail with rows of any key as known."""
    out = tmp_path / "calibration.json"
    args = ["--graphs", "karate-club", "--out", str(out), "--seeds"]
    assert bench.main([*args, "1"]) == 0
    lines = out.with_suffix(".jsonl")
    first = lines.read_text()
    lines.write_text(first + first.replace('"seed": 0', '"seed": 1')[:40])
    asked = []
    run_one = bench.run_one
    monkeypatch.setattr(
        bench, "run_one", lambda graph, seed, **k: asked.append(seed) or run_one(graph, seed, **k)
    )
    assert bench.main([*args, "2"]) == 0
    assert asked == [1]
    assert bench.main([*args, "2", "--coverage", "0.8"]) == 0
    assert asked == [1, 0, 1]
    written = json.loads(out.read_text())
    assert [row["seed"] for row in written["rows"]] == [0, 1]
    assert set(written["summary"]["graphs"]) == {"karate-club"}
    assert "**mean**" in capsys.readouterr().out


def test_test_labels_judge_and_do_nothing_else(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the judgement changes with them. Seen to fail with the whole graph passed to the fit."""
    from graphfm.graphs.splits import with_split

    graph = with_split(synthetic("judged", num_nodes=300, feature_signal=0.7), bench.SPLIT, seed=0)
    assert graph.y is not None and graph.test_mask is not None
    rng = torch.Generator().manual_seed(0)
    wrong = graph.y.clone()
    wrong[graph.test_mask] = torch.randint(0, 3, (int(graph.test_mask.sum()),), generator=rng)
    monkeypatch.setattr("graphfm.graphs.splits.with_split", lambda g, sizes, seed: g)
    rows = [
        bench.run_one(g, 0, tune="probe", coverage=0.8) for g in (graph, graph.replace(y=wrong))
    ]
    learned = ("temperature", "temperature_held", "smoothing", "num_calibration")
    assert [rows[0][k] for k in learned] == [rows[1][k] for k in learned]
    for method in bench.METHODS:
        assert rows[0][method]["size"] == rows[1][method]["size"]
        assert rows[1][method]["coverage"] < rows[0][method]["coverage"]
        assert rows[0][method]["coverage"] >= rows[0][method]["coverage_unfilled"]
    assert np.isclose(rows[0]["accuracy"], 0.9, atol=0.1)
