"""The bench of the plan: its figures by hand, its peer, its output."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHES = Path(__file__).parent.parent / "tools" / "bench"


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module("plan")


def test_the_balance_of_ranks_by_hand(plans):
    """Seen to fail with ranks taken in blocks in place of strides."""
    costs = np.array([[4.0, 1.0, 4.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    assert plans.over_ranks(costs, 2) == 10 / 7
    assert plans.over_ranks(costs, 1) == 1.0
    assert plans.within_steps(costs).tolist() == [1.6, 1.0]


def test_sizes_have_the_sum_and_the_top_that_were_asked_for(plans):
    sizes = plans.drawn(3, 152, 7.4e6)
    assert len(sizes) == 152 and abs(sizes.sum() / 7.4e6 - 1) < 1e-3
    assert sizes.min() >= 1 and sizes.max() <= 1.2e6 + 1
    assert not np.array_equal(sizes, plans.drawn(4, 152, 7.4e6))


def test_whole_graphs_go_to_the_cheapest_rank(plans):
    """Costs 512 + 174 and twice 256 + 174: the large graph alone, the small ones together."""
    plan = plans.plan_of([512, 256, 256], "snake", 2, 512)
    costs = plans.lpt_whole(plan, 2)
    small, large = 256 + plan.encoding[1], 512 + plan.encoding[0]
    assert sorted(costs.sum(0)) == sorted([large, 2 * small])
    assert costs.shape == (2, 2)


def test_it_runs_and_writes_what_it_shows(plans, tmp_path, capsys):
    out = tmp_path / "plan.json"
    sizes = ["--graphs", "12", "--total", "20000", "--draws", "2", "--per-rank", "500"]
    plans.main([*sizes, "--ranks", "2", "4", "--repeats", "2", "--out", str(out)])
    written = json.loads(out.read_text())
    assert set(written) == {"machine", "settings", "seconds", "figures"}
    assert set(written["seconds"]) == {"plan an epoch", "pack its bins"}
    assert set(written["seconds"]["plan an epoch"]) == {"median", "q1", "q3", "repeats"}
    at = written["figures"]["500 targets a rank"]
    assert set(at) == {"ranks", "padding"}
    cases = {"balanced", "snake", "uniform", "lpt whole", "balanced, bins for 4"}
    assert set(at["ranks"]) == cases
    for case in cases:
        for key in ("epoch 2", "epoch 4", "step 2", "step 4"):
            assert 1.0 <= at["ranks"][case][key]["mean"] <= at["ranks"][case][key]["worst"] + 1e-9
    assert at["padding"]["packed"] == 0.0
    assert "goal" in capsys.readouterr().out
