"""A dry run refuses everything that the run refuses, with the same code."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphfm.cli.main import app

ROWS = [f"n{i},{i % 5},{'ab'[i % 2]},{'a' if i else ''},{'a' if i == 3 else ''}" for i in range(30)]
BAD: dict[str, list[str]] = {
    "no file": ["--graph", "gone.csv"],
    "no target": ["--target", "gone"],
    "no labels": [],
    "one class": ["--target", "same"],
    "one label": ["--target", "single"],
    "shares above one": ["--target", "label", "--split", "0.8/0.5/0.1"],
    "no share to learn from": ["--target", "label", "--split", "0/0.5/0.5"],
    "no split file": ["--target", "label", "--split", "gone.csv"],
    "no weights": ["--target", "label", "--from", "gone"],
    "weights that are a table": ["--target", "label", "--from", "nodes.csv"],
    "no such device": ["--target", "label", "--device", "cuda:77"],
    "no device": ["--target", "label", "--device", "sofa"],
    "out is a file": ["--target", "label", "--out", "nodes.csv"],
    "out holds files": ["--target", "label", "--out", "full"],
    "out is not ours": ["--target", "label", "--out", "full", "--overwrite"],
    "no time": ["--target", "label", "--max-time", "soon"],
    "no column": ["--target", "label", "--features", "gone"],
    "no column to drop": ["--target", "label", "--drop", "gone"],
    "fractions as classes": ["--target", "half", "--task", "classify"],
    "text as numbers": ["--target", "label", "--task", "regress"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    rows = [f"{row},{i / 2}" for i, row in enumerate(ROWS)]
    (folder / "nodes.csv").write_text("\n".join(["id,x,label,same,single,half", *rows]) + "\n")
    edges = [f"n{i},n{(i + 1) % 30}" for i in range(30)]
    (folder / "edges.csv").write_text("\n".join(["source,target", *edges]) + "\n")
    (folder / "full").mkdir()
    (folder / "full" / "letter.txt").touch()
    return folder


@pytest.mark.parametrize("name", BAD)
def test_a_dry_run_refuses_what_the_run_refuses(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail for one class, one label, and a split without training nodes."""
    monkeypatch.chdir(folder)
    asked = ["finetune", "--graph", "edges.csv", "--nodes", "nodes.csv", "--from", "random"]
    asked += ["--tune", "probe", "--out", "out", *BAD[name]]
    ran, planned = (
        CliRunner().invoke(app, [*asked, *more], prog_name="graphfm")
        for more in ([], ["--dry-run"])
    )
    codes = [done.stderr.split("GFM")[1][:3] for done in (ran, planned) if "GFM" in done.stderr]
    assert ran.exit_code == planned.exit_code != 0, (ran.stderr, planned.stderr)
    assert len(codes) == 2 and codes[0] == codes[1], (ran.stderr, planned.stderr)
    assert not (folder / "out").exists()
