"""The bench of decoders: what it writes, and that its peers are the function they stand for."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHES = Path(__file__).parent.parent / "tools" / "bench"
TINY = "--nodes 3 5 --few 2 --dim 16 --heads 2 --ffn-mult 2 --neighbors 9 --latents 4 --repeats 1"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module("decoder")


def test_a_tiny_run_writes_every_case(bench, tmp_path, capsys):
    out = tmp_path / "decoder.json"
    assert bench.main([*TINY.split(), "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert set(written) == {"machine", "settings", "seconds", "figures"}
    rows = written["figures"]["rows"]
    assert len(rows) == 2 * 2 * 4  # sizes, passes, cases
    assert all(row["rate"] > 0 and row["mflop"] > 0 for row in rows)
    for row in rows:
        assert row["over_joint"] == 1 or row["case"] != "joint"
    assert "self_query" in capsys.readouterr().out


def test_peers_are_what_they_stand_for(bench, tmp_path):
    """Seen to fail with the whole joint decoder's mask left out."""
    out = tmp_path / "decoder.json"
    bench.main([*TINY.split(), "--out", str(out)])
    checks = json.loads(out.read_text())["figures"]["checks"]
    assert checks["joint_equals_paper"] < 1e-5
    assert checks["prefix_equals_masked_joint"] < 1e-5
