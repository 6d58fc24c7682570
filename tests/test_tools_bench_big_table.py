"""The bench of large tables, at a small size: every phase is measured, every node predicted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is set back through /proc")
def test_every_phase_is_measured_and_every_node_predicted(tmp_path):
    command = [sys.executable, str(ROOT / "tools" / "bench_big_table.py"), "--nodes", "3000"]
    command += ["--edges", "9000", "--threads", "1", "--folder", str(tmp_path), "--keep"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out.json")], capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    for phase in ("read", "prepare", "fit", "predict", "write"):
        assert any(line.startswith(phase) for line in done.stdout.splitlines()), done.stdout
    assert json.loads((tmp_path / "out.json").read_text())
    with (tmp_path / "predictions.csv").open() as file:
        assert sum(1 for _ in file) == 1 + 3000
