"""The studies: variants of a recipe at tiny size, and the page of a grid."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from graphfm.cli.main import app
from graphfm.config.load import load_recipe
from graphfm.config.parts import validated
from graphfm.config.yaml_text import read_yaml
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.training.run_folder import recipe_differences

ROOT = Path(__file__).resolve().parents[1]
STUDIES = sorted((ROOT / "docs" / "notebook" / "studies").glob("*.yaml"))
TINY = """
recipe: demo
changes:
  {train.steps: 2, train.warmup_steps: 1, train.eval_every: 2, model.dim: 16, data.exclude: [],
   model.encoder.num_latents: 4, sampling.targets_per_step: 32, sampling.max_context: 32}
variants:
  base: {}
  deeper: {model.encoder.depth: 3}
  random: {weights: random}
unseen: [iris, wine]
heads: [corpus, state, state+raw]
"""


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "study"))
    return importlib.import_module("variants")


@pytest.fixture
def in_process(variants: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Run the command of each run in this process: importing torch takes seconds."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        calls.append(command[3:])
        done = CliRunner().invoke(app, command[3:])
        return SimpleNamespace(returncode=done.exit_code, stderr=done.stderr)

    monkeypatch.setattr(variants, "subprocess", SimpleNamespace(run=run))
    return calls


def test_a_study_trains_fits_and_compares_and_a_second_call_only_reads(
    variants, in_process, tmp_path, capsys, monkeypatch
):
    """Seen to fail with the groups of unseen graphs left in the corpus."""
    monkeypatch.delenv("GRAPHFM_DATA", raising=False)
    study, out = tmp_path / "study.yaml", tmp_path / "out"
    text = TINY.replace("heads: [corpus, ", "heads: [").replace("data.exclude: [],", "")
    study.write_text(text)
    assert variants.main([str(study), "--out", str(out)]) == 0
    assert [call[1] for call in in_process] == ["demo", "demo"]
    result = json.loads((out / "results.json").read_text())
    assert result["models"] == ["base", "deeper", "random"]
    found = result["splits"]["50/25/25"]
    for head in ("state", "state+raw"):
        assert set(found["table"][head]) == {"iris", "wine"}
        base, deeper = (
            np.mean([row[name]["loss"] for row in found["table"][head].values()])
            for name in ("base", "deeper")
        )
        gain = found["against"][head]["deeper"]["loss"]
        assert gain["gain"] == pytest.approx(base - deeper, abs=1e-6)
        assert gain["low"] <= gain["gain"] <= gain["high"]
    receipt = json.loads((out / "runs" / "base-seed0" / "run.json").read_text())
    assert not {"iris", "wine"} & set(receipt["targets_seen_by_dataset"])
    printed = capsys.readouterr().out
    assert "| state | deeper |" in printed
    assert variants.main([str(study), "--out", str(out)]) == 0
    assert len(in_process) == 2 and capsys.readouterr().out == printed
    assert variants.main(["--table", str(out / "results.json")]) == 0
    assert capsys.readouterr().out == printed
    study.write_text(text.replace("depth: 3", "depth: 1"))
    with pytest.raises(SystemExit, match="model.encoder.depth"):
        variants.main([str(study), "--out", str(out)])


def test_a_run_that_fails_is_reported(variants, in_process, tmp_path, capsys):
    study = tmp_path / "study.yaml"
    study.write_text("recipe: demo\nvariants: {a: {data.mixture: no-such}, b: {}}\nheads: [corpus]")
    monkey = variants.subprocess.run
    variants.subprocess.run = lambda command, **_: (
        monkey(command) if "no-such" in str(command) else SimpleNamespace(returncode=0, stderr="")
    )
    assert variants.main([str(study), "--out", str(tmp_path / "out")]) == 1
    assert "GFM120" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_each_study_of_the_notebook_is_valid_and_its_unseen_graphs_are_unseen(variants, path):
    """No run learns from a graph of an unseen group; no unseen graph is an evaluation graph."""
    study = validated(variants.Study, read_yaml(path))
    catalog = Catalog.read()
    groups = {catalog.entries[id].group for id in study.unseen}
    assert all(catalog.entries[id].role == "pretraining" for id in study.unseen)
    recipes = {}
    for name, keys in study.variants.items():
        if "weights" in keys:
            continue
        recipe = recipes[name] = load_recipe(*variants.changes_of(study, name, study.seeds[0]))
        taught = set(catalog.mixture(recipe.data.mixture)) - set(recipe.data.exclude)
        assert taught and not groups & {catalog.entries[id].group for id in taught}
    first, *others = recipes.values()
    assert all(
        recipe_differences(first.model_dump(mode="json"), other) or other.seed for other in others
    )


@pytest.mark.parametrize("name", ["recipe", "recipe-1", "recipe-2", "objectives"])
def test_tables_of_older_results_can_be_written_again(variants, name, capsys):
    path = ROOT / "docs" / "results" / f"{name}.json"
    assert variants.main(["--table", str(path)]) == 0
    models = json.loads(path.read_text())["models"]
    printed = capsys.readouterr().out
    assert all(f"| state | {model} |" in printed for model in models)


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "study"))
    return importlib.import_module("grid_page")


def test_the_tables_of_the_committed_page_come_from_the_committed_runs(grid):
    """Differences need no resamples, so their table is the page's to the last digit."""
    rows, _ = grid.read_tables(ROOT / "docs" / "results")
    page = (ROOT / "docs" / "notebook" / "scaling-local.md").read_text(encoding="utf-8")
    lines = list(grid.effects_table(rows))
    assert len(lines) == 17
    assert all(line in page for line in lines)


def test_a_page_of_some_runs(grid, tmp_path):
    """Two sizes and one seed: laws that cannot be determined give their reason, no error."""
    shutil.copytree(ROOT / "docs" / "results", tmp_path / "results")
    for folder in ("notebook", "pictures"):
        (tmp_path / folder).mkdir()
    table = tmp_path / "results" / "local-grid.csv"
    head, *lines = table.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if line.startswith(("60k", "225k")) and "seed0" in line]
    table.write_text("\n".join([head, *kept]) + "\n", encoding="utf-8")
    page = tmp_path / "notebook" / "scaling-local.md"
    page.write_text(f"Above.\n{grid.MARK}old\n", encoding="utf-8")
    assert grid.main(["--docs", str(tmp_path), "--resamples", "0"]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"Above.\n{grid.MARK}") and "\nold\n" not in text
    assert "12 cells, 36 runs" in text and "## Exponents" in text
    assert (tmp_path / "pictures" / "scaling-axes.png").read_bytes().startswith(b"\x89PNG")


def test_the_effect_of_an_axis_by_hand(grid):
    """A loss that halves from the smallest to the largest in two of two pairs; others are left."""
    rows = [
        {"size": 1.0, "loss": 1.0, "seed": 0}, {"size": 4.0, "loss": 0.5, "seed": 0},
        {"size": 1.0, "loss": 2.0, "seed": 1}, {"size": 4.0, "loss": 1.0, "seed": 1},
        {"size": 2.0, "loss": 9.0, "seed": 1}, {"size": 1.0, "loss": 9.0, "seed": 2},
    ]  # fmt: skip
    pairs, times = grid.ratios(rows, "size", "loss", ("seed",))
    assert pairs.tolist() == pytest.approx([np.log(0.5)] * 2) and times == 4
