"""Fields of a recipe one at a time: what a run changes, and what none has learned from."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from graphfm.config import load_recipe
from graphfm.graphs.catalog import Catalog
from graphfm.training.resume import differences

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("ablate_recipe")


def test_an_idea_changes_one_part_of_the_recipe(tool, tmp_path):
    """Each is a recipe that is valid, and differs from the base in one field or one part's kind.

    Seen to fail with 64 latents, as the base has, for 16.
    """
    args = tool.parse(["--out", str(tmp_path / "out.json")])
    base = load_recipe(tool.RECIPE, tool.changes_of(args, tool.BASE)).model_dump(mode="json")
    for idea in tool.IDEAS:
        recipe = load_recipe(tool.RECIPE, tool.changes_of(args, idea))
        changed = differences(base, recipe)
        if idea == tool.BASE:
            assert not changed
        elif "model.decoder.kind" in changed:  # another part, with the encoder it reads
            assert all(key.startswith(("model.decoder.", "model.encoder.")) for key in changed)
        else:
            assert len(changed) == 1, f"{idea}: {changed}"


def test_a_change_for_all_runs_is_one_of_the_base_too(tool, tmp_path):
    """So that an idea can be weighed from another seed. Seen to fail with a base of seed 0."""
    args = tool.parse(["--changes", "seed=1", "--out", str(tmp_path / "out.json")])
    for idea in (tool.BASE, tool.NO_SYNTHETIC, "no latents"):
        assert load_recipe(tool.RECIPE, tool.changes_of(args, idea)).seed == 1


def test_no_run_learns_from_a_graph_it_is_judged_on_or_from_its_group(tool, tmp_path):
    """Nor is one judged on an evaluation graph. Seen to fail with ids left out, not groups."""
    args = tool.parse(["--out", str(tmp_path / "out.json")])
    catalog = Catalog.read()
    judged = {catalog.entries[id].group for id in args.graphs}
    assert all(catalog.entries[id].role == "pretraining" for id in args.graphs)
    for idea in (tool.BASE, tool.NO_SYNTHETIC):
        recipe = load_recipe(tool.RECIPE, tool.changes_of(args, idea))
        taught = set(catalog.mixture(recipe.data.mixture)) - set(recipe.data.exclude)
        assert taught
        assert not judged & {catalog.entries[id].group for id in taught}


def test_a_run_that_cannot_be_made_is_said_and_nothing_is_reported(tool, tmp_path, capsys):
    """Seen to fail with a table of the base alone."""
    out = tmp_path / "out.json"
    given = ["--changes", "data.mixture=no-such", "--ideas", "width 64"]
    assert tool.main([*given, "--runs", str(tmp_path / "runs"), "--out", str(out)]) == 1
    assert "GFM120" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_that_holds_another_run_is_not_taken_for_this_one(tool, tmp_path, capsys):
    """Seen to fail with every run compared whose folder says that it ended."""
    out, runs = tmp_path / "out.json", tmp_path / "runs"
    for folder in ("base", "width-64"):
        (runs / folder).mkdir(parents=True)
        (runs / folder / "run.json").write_text('{"finished": true}')
    assert tool.main(["--ideas", "width 64", "--runs", str(runs), "--out", str(out)]) == 1
    assert "width 64: ✗ GFM402" in capsys.readouterr().err
    assert not out.exists()
