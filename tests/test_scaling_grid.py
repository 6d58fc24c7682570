"""The grid: what grows is apart, shorter runs are the beginning of longer ones, receipts only."""

import csv
import json

import pytest
from typer.testing import CliRunner

from graphfm.cli.main import app
from graphfm.config.load import load_recipe
from graphfm.errors import DataError, RecipeError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.scaling.grid import cells, read_grid, recipe_of, run_grid
from graphfm.scaling.runs import read_runs
from graphfm.training.pretrain import choose_graphs

KEPT = ("karate-club", "iris", "wine")


def write(path, **fields):
    others = sorted(Catalog.read().mixture("demo").keys() - set(KEPT))
    grid = {
        "name": "tiny",
        "recipe": "demo",
        "changes": {
            "data.exclude": others,
            "train.warmup_steps": 1,
            "train.eval_targets": 8,
            "sampling.max_targets": 16,
            "sampling.targets_per_step": 32,
            "model.encoder.num_latents": 8,
        },
        "sizes": {"s": {"model.dim": 16}, "m": {"model.dim": 32}},
        "nodes": [0.25, 1.0],
        "graphs": [0.67],
        "steps": [5, 10],
        **fields,
    }
    path.write_text(json.dumps(grid))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A grid that has run, with what it printed."""
    folder = tmp_path_factory.mktemp("grid")
    file = write(folder / "g.yaml", sizes={"s": {"model.dim": 16}}, unseen=["les-miserables"])
    args = ["scaling", "grid", str(file), "--out", str(folder / "out"), "--json"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout), args


def test_what_grows_is_named_apart(tmp_path):
    config = read_grid(write(tmp_path / "g.yaml"))
    found = {(c.size, c.nodes, c.graphs) for c in cells(config)}
    assert found == {
        (size, nodes, graphs)
        for size in ("s", "m")
        for nodes, graphs in ((0.25, 1.0), (1.0, 1.0), (1.0, 0.67))
    }
    recipe = recipe_of(config, cells(config)[0], 5)
    assert (recipe.train.schedule, recipe.train.steps, recipe.model.dim) == ("wsd", 5, 16)


def test_a_smaller_share_is_part_of_a_larger_one():
    """Of the graphs; of the nodes see tests/test_training_corpus.py."""
    catalog = Catalog.read()
    for seed in range(3):
        shares = [
            set(
                choose_graphs(
                    load_recipe("demo", [f"data.graph_share={s}", f"seed={seed}"]), catalog
                )
            )
            for s in (0.1, 0.4, 0.8, 1.0)
        ]
        assert all(a < b for a, b in zip(shares, shares[1:], strict=False))


def test_every_run_is_a_row_and_the_fit_reads_it(done):
    folder, said, _ = done
    with (folder / "out" / "grid.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(said["runs"]) == 3 * 2
    by_cell = {}
    for row in rows:
        by_cell.setdefault(row["run"], []).append(row)
        assert 0 < float(row["loss_common"]) < 10
        assert bool(row["loss_unseen"]) == (row["steps"] == "10")
    for short, long in by_cell.values():
        assert 1.5 < float(long["targets"]) / float(short["targets"]) < 2.5
        assert short["unique"] == long["unique"]
    whole, quarter, fewer = (
        by_cell[f"s-nodes{n}-graphs{g}-seed0"][0] for n, g in (("1", 1), ("0.25", 1), ("1", 0.67))
    )
    assert int(quarter["unique"]) < 0.3 * int(whole["unique"])
    assert quarter["datasets"] == whole["datasets"] == "3" and fewer["datasets"] == "2"
    assert len(read_runs([folder / "out" / "grid.csv"]).loss) == 6


def test_what_is_done_is_not_done_again_and_only_receipts_stay(done):
    """Seen to fail (the receipts are newer) without the look at what finished."""
    folder, _, args = done
    receipts = list((folder / "out").rglob("run.json"))
    before = {path: path.stat().st_mtime_ns for path in receipts}
    assert len(before) == 6
    again = CliRunner().invoke(app, args)
    assert again.exit_code == 0 and "several commits" not in again.stderr
    assert {path: path.stat().st_mtime_ns for path in receipts} == before
    assert not list((folder / "out").rglob("*.safetensors"))
    other = json.loads(receipts[0].read_text(encoding="utf-8"))
    kept, other["environment"]["commit"] = receipts[0].read_text(encoding="utf-8"), "0123"
    receipts[0].write_text(json.dumps(other), encoding="utf-8")
    assert "several commits" in CliRunner().invoke(app, args).stderr
    receipts[0].write_text(kept, encoding="utf-8")


def test_what_was_learned_from_is_not_unseen(tmp_path):
    config = read_grid(write(tmp_path / "g.yaml", unseen=["iris"]))
    with pytest.raises(DataError, match="GFM147"):
        run_grid(config, tmp_path / "out")


@pytest.mark.parametrize(
    "wrong", [{"steps": [10, 5]}, {"sizes": {}}, {"sises": {}}, {"changes": {"model.dimm": 4}}]
)
def test_a_wrong_grid_is_refused_before_anything_runs(tmp_path, wrong):
    with pytest.raises(RecipeError):
        read_grid(write(tmp_path / "g.yaml", **wrong))
