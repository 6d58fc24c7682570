"""``graphfm benchmark``: what it says before, what it writes after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.test_benchmark import folder as folder
from tests.test_cli import ran, run


def test_a_suite_becomes_a_table(folder: Path, tmp_path: Path) -> None:
    """Seen to fail when the picture had no ranks to draw."""
    command = ["benchmark", str(folder), "--models", "majority,ridge,gcn", "--seeds", "1",
               "--out", str(tmp_path / "out")]  # fmt: skip
    dry = json.loads(ran(*command, "--dry-run", "--json").stdout)
    assert (dry["cells"], dry["to_do"], dry["graphs"]) == (6, 6, ["plan-ted", "other"])
    assert not (tmp_path / "out").exists()
    said = ran(*command, "--split", "50/25/25").stdout
    out = tmp_path / "out"
    assert (out / "table.md").read_text(encoding="utf-8").strip() == said.strip()
    assert "| gcn | " in said and "Failed" not in said
    table = json.loads((out / "table.json").read_text(encoding="utf-8"))
    assert table["splits"]["50/25/25"]["ranked"] == ["plan-ted", "other"]
    assert (out / "cd-50-25-25.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads(ran(*command, "--dry-run", "--json").stdout)["to_do"] == 0
    again = json.loads(ran(*command, "--report-only", "--json").stdout)
    assert again == table


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ([], "GFM711"),
        (["evaluation-51"], "GFM711"),
        (["FOLDER", "--models", "gcm"], "GFM712"),
        (["FOLDER", "--split", "50/60/70"], "GFM145"),
        (["--suite", "FOLDER", "--models", "gcn", "--max-time", "soon"], "GFM212"),
    ],
)
def test_what_it_refuses(folder: Path, args: list[str], code: str) -> None:
    """Before anything is fitted."""
    given = [str(folder) if word == "FOLDER" else word for word in args]
    result = run("benchmark", *given, "--dry-run")
    assert result.exit_code and code in result.stderr
