"""Several labels per node, through the command line, on files as OGB lays them out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from graphfm.cli.main import app
from graphfm.metrics import official_metric
from tests.ogb_files import small_proteins

ID = "ogbn-proteins"


def ran(*args: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in args], prog_name="graphfm")
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Result]]:
    """A model fitted by the command itself, and what the command said."""
    data = tmp_path_factory.mktemp("data")
    small_proteins(data)
    out = tmp_path_factory.mktemp("fitted") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFM_DATA", str(data))
        said = ran("finetune", "--graph", ID, "--tune", "probe", "--out", out, "--json")
        yield out, said


def test_baselines_that_cannot_answer_are_left_out(fitted: tuple[Path, Result]) -> None:
    """With one line that says so. Seen to fail (GFM134, exit 3) with the error let through."""
    out, said = fitted
    test = json.loads(said.stdout)["test"]
    assert list(test) == ["graphfm"]
    assert test["graphfm"]["num_nodes"] == 20  # the part of the file, not a share
    lines = [line for line in said.stderr.splitlines() if "not compared with" in line]
    (line,) = lines
    assert "majority, features-only logistic regression, label propagation" in line
    assert (out / "split.json").is_file()


def test_the_table_holds_the_one_that_answers(fitted: tuple[Path, Result], tmp_path: Path) -> None:
    args = ["--graph", ID, "--tune", "probe", "--out", tmp_path / "model"]
    assert ran("finetune", *args).stdout.splitlines()[-1].startswith("graphfm ")


def test_evaluate_adds_the_official_metric(
    fitted: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it can be had. Seen to fail with the scores of all nodes."""
    seen: dict[str, Any] = {}

    def watched(dataset: str, y: Any, proba: Any) -> Any:
        seen.update(dataset=dataset, shape=y.shape, value=official_metric(dataset, y, proba))
        return seen["value"]

    monkeypatch.setattr("graphfm.metrics.official_metric", watched)
    said = json.loads(ran("evaluate", "--model", fitted[0], "--graph", ID, "--json").stdout)
    assert (seen["dataset"], seen["shape"]) == (ID, (20, 112))
    if seen["value"] is None:
        pytest.skip("ogb is not installed")
    assert said["official"] == {"rocauc": seen["value"][1]}
    assert 0.6 < said["official"]["rocauc"] < 1
    line = ran("evaluate", "--model", fitted[0], "--graph", ID).stdout.splitlines()[-1]
    assert line.split() == ["OGB's", "Evaluator", "rocauc", f"{seen['value'][1]:.4f}"]


def test_evaluate_says_nothing_official_without_ogb(
    fitted: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with `"official": null`."""
    monkeypatch.setattr("graphfm.metrics.official_metric", lambda *args: None)
    args = ["--model", fitted[0], "--graph", ID]
    assert "official" not in json.loads(ran("evaluate", *args, "--json").stdout)
    assert "Evaluator" not in ran("evaluate", *args).stdout


def test_prepare_all_takes_what_is_here(
    fitted: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail (GFM401) with every entry of the catalog."""
    asked: list[str] = []
    monkeypatch.setattr(
        "graphfm.graphs.prepare_many.prepare_many",
        lambda ids, *args, **kwargs: asked.extend(ids) or [],
    )
    said = ran("datasets", "prepare", "--all")
    assert {ID, "karate-club", "synth-015"} <= set(asked)
    assert not {"ogbn-arxiv", "nba"} & set(asked)
    assert "graphs are left out" in said.stderr
