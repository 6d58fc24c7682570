"""Several labels per node on the command line, with files in the layout of OGB."""

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
    """Model fitted by the command, and the result of the command."""
    data = tmp_path_factory.mktemp("data")
    small_proteins(data)
    out = tmp_path_factory.mktemp("fitted") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHFM_DATA", str(data))
        done = ran("finetune", "--graph", ID, "--tune", "probe", "--out", out, "--json")
        yield out, done


def test_baselines_for_one_class_per_node_are_left_out(fitted: tuple[Path, Result]) -> None:
    """One line reports it. Seen to fail (GFM134, exit 3) with the error passed on."""
    out, done = fitted
    test = json.loads(done.stdout)["test"]
    assert list(test) == ["graphfm"]
    assert test["graphfm"]["num_nodes"] == 20  # the part of the file, not a share
    lines = [line for line in done.stderr.splitlines() if "skipped" in line]
    (line,) = lines
    assert "majority, features-only logistic regression, label propagation" in line
    assert (out / "split.json").is_file()


def test_the_table_has_the_model_alone(fitted: tuple[Path, Result], tmp_path: Path) -> None:
    args = ["--graph", ID, "--tune", "probe", "--out", tmp_path / "model"]
    assert ran("finetune", *args).stdout.splitlines()[-1].startswith("graphfm ")


def test_evaluate_adds_the_official_metric(
    fitted: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If ogb is installed. Seen to fail with the scores of all nodes."""
    seen: dict[str, Any] = {}

    def watched(dataset: str, y: Any, proba: Any) -> Any:
        seen.update(dataset=dataset, shape=y.shape, value=official_metric(dataset, y, proba))
        return seen["value"]

    monkeypatch.setattr("graphfm.metrics.official_metric", watched)
    found = json.loads(ran("evaluate", "--model", fitted[0], "--graph", ID, "--json").stdout)
    assert (seen["dataset"], seen["shape"]) == (ID, (20, 112))
    if seen["value"] is None:
        pytest.skip("ogb is not installed")
    assert found["official"] == {"rocauc": seen["value"][1]}
    assert 0.6 < found["official"]["rocauc"] < 1
    line = ran("evaluate", "--model", fitted[0], "--graph", ID).stdout.splitlines()[-1]
    assert line.split() == ["OGB's", "Evaluator", "rocauc", f"{seen['value'][1]:.4f}"]


def test_evaluate_has_no_official_score_without_ogb(
    fitted: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with `"official": null`."""
    monkeypatch.setattr("graphfm.metrics.official_metric", lambda *args: None)
    args = ["--model", fitted[0], "--graph", ID]
    assert "official" not in json.loads(ran("evaluate", *args, "--json").stdout)
    assert "Evaluator" not in ran("evaluate", *args).stdout


def test_prepare_all_takes_available_graphs(
    fitted: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail (GFM401) with every entry of the catalog."""
    asked: list[str] = []
    monkeypatch.setattr(
        "graphfm.graphs.prepare_many.prepare_many",
        lambda ids, *args, **kwargs: asked.extend(ids) or [],
    )
    done = ran("datasets", "prepare", "--all")
    assert {ID, "karate-club", "synth-015"} <= set(asked)
    assert not {"ogbn-arxiv", "nba"} & set(asked)
    assert "graphs are left out" in done.stderr
