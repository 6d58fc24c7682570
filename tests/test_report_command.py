"""`graphfm report`: one page from a real fit, with its graph and without."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from graphfm.checkpoint.manifest import list_file
from graphfm.cli.report import report
from graphfm.errors import CheckpointError, DataError, OutputError
from graphfm.estimator import GraphFMClassifier
from tests.graphs import save_split
from tests.pages import faults_of, read

own = typer.Typer()
own.command()(report)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real fit of the built-in karate club."""
    folder = tmp_path_factory.mktemp("runs") / "karate"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFM_HOME", str(folder.parent / "home"))
        from graphfm.cli.comparison import split_graph
        from graphfm.graphs.inputs import as_graph

        graph = split_graph(as_graph("karate-club"), "0.5/0.2/0.3", seed=0)
        model = GraphFMClassifier(tune="probe", device="cpu").fit(graph)
        model.save(folder)
        row = {"accuracy": 0.9, "interval": [0.6, 1.0], "macro_f1": 0.9, "num_nodes": 10}
        save_split(
            folder, graph, {"graph": "karate-club", "tune": "probe", "test": {"graphfm": row}}
        )
    return folder


def invoke(*args: object):
    return CliRunner().invoke(own, [str(a) for a in args])


def test_the_command_writes_one_page(fitted: Path, tmp_path: Path) -> None:
    """From a real fit; the file is whole or not there. Seen to fail without the check of --out."""
    out = tmp_path / "report.html"
    done = invoke(fitted, "--out", out, "--max-time", 1, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    html = out.read_text(encoding="utf-8")
    assert faults_of(html) == []
    assert facts["bytes"] == len(html.encode()) < 500_000 and facts["missing"] == []
    text = " ".join(read(html).text)
    assert "karate-club" in text and "graphfm finetune --graph karate-club --tune probe" in text
    assert re.search(r"torch\s+\d+\.\d+", text)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert isinstance(invoke(fitted, "--out", out).exception, OutputError)
    assert isinstance(invoke(fitted, "--out", tmp_path / "x.txt").exception, OutputError)


def test_the_command_without_its_graph(fitted: Path, tmp_path: Path) -> None:
    """The folder alone still makes a page; a graph that is named must be readable.

    Seen to fail with the error of the reader passed on.
    """
    moved = tmp_path / "moved"
    shutil.copytree(fitted, moved)
    split = json.loads((moved / "split.json").read_text())
    (moved / "split.json").write_text(json.dumps({**split, "graph": "gone.graphml"}))
    list_file(moved, "split.json")
    out = tmp_path / "report.html"
    done = invoke(moved, "--out", out)
    assert done.exit_code == 0, done.output
    text = " ".join(read(out.read_text(encoding="utf-8")).text)
    assert "gone.graphml could not be read" in text and "--graph FILE" in text
    failed = invoke(moved, "--out", tmp_path / "b.html", "--graph", tmp_path / "no.graphml")
    assert isinstance(failed.exception, DataError)
    again = invoke(moved, "--out", tmp_path / "c.html", "--graph", "karate-club", "--max-time", 0)
    assert again.exit_code == 0 and "could not be read" not in (tmp_path / "c.html").read_text()


def test_a_folder_that_is_no_fit_is_refused(tmp_path: Path) -> None:
    """Seen to fail without the check of the folder."""
    done = invoke(tmp_path, "--out", tmp_path / "r.html")
    assert isinstance(done.exception, CheckpointError) and done.exception.code == "GFM301"
    assert list(tmp_path.iterdir()) == []
