"""The bench of attention: what it writes, and that every way gives the same."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHES = Path(__file__).parent.parent / "tools" / "bench"
TINY = "--graphs 3 --tokens 40 --latents 4 --heads 2 --width 8 --split-tokens 30 --chunks 1 3"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module("attention")


@pytest.mark.filterwarnings("ignore")  # torch warns that jagged tensors are a prototype
def test_a_tiny_run_writes_every_case(bench, tmp_path, capsys):
    """Seen to fail with the mask of the padded peer left out: its error is 0.5."""
    out = tmp_path / "attention.json"
    assert bench.main([*TINY.split(), "--repeats", "1", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert set(written) == {"machine", "settings", "seconds", "figures"}
    assert [row["case"] for row in written["figures"]["packed"]] == 2 * ["loop", "padded", "jagged"]
    assert [row["case"] for row in written["figures"]["split"]] == 2 * [
        "unsplit",
        "1 chunks",
        "3 chunks",
    ]
    for table in written["figures"].values():
        assert all(row["ms"] > 0 and row["error"] < 1e-5 for row in table)
    assert "padded" in capsys.readouterr().out


def test_sizes_add_up(bench):
    sizes = bench.log_normal_sizes(24, 7261)
    assert len(sizes) == 24 and min(sizes) >= 1
    assert sum(sizes) == pytest.approx(7261, abs=24)
