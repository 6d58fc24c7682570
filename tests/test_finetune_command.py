"""``graphfm finetune``: depth, time limit, ensemble and dry run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from graphfm.checkpoint.folder import save_checkpoint
from graphfm.cli.main import app
from graphfm.estimator import GraphFMClassifier
from tests.graphs import small_model, three_graphs


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], prog_name="graphfm")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of 200 nodes in three classes; two of four columns determine them together."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    label = (x[:, 0] * x[:, 1] > 0).astype(int) + (x[:, 2] > 1)
    rows = [",".join(f"{v:.4f}" for v in row) for row in x]
    lines = [f"n{i},{row},c{c}" for i, (row, c) in enumerate(zip(rows, label, strict=True))]
    (folder / "nodes.csv").write_text("\n".join(["id,a,b,c,d,label", *lines]) + "\n")
    ends = rng.integers(0, 200, size=(300, 2))
    edges = [f"n{a},n{b}" for a, b in ends if a != b]
    (folder / "edges.csv").write_text("\n".join(["source,target", *edges]) + "\n")
    return folder


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trunk") / "trunk"
    save_checkpoint(folder, small_model(three_graphs()), meta={"name": "trunk"})
    return folder


@pytest.fixture(scope="module")
def fitted(tables: Path, trunk: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Fitted with two members, all else by default: the folder, and the output."""
    out = tmp_path_factory.mktemp("fitted") / "model"
    done = run(
        *("finetune", "--graph", tables, "--target", "label", "--from", trunk, "--out", out),
        *("--ensemble", "2", "--tune", "adapter", "--max-steps", "3"),
    )
    assert done.exit_code == 0, done.stderr
    return out, done


def args(tables: Path, trunk: Path, out: Path) -> list[str | Path]:
    return ["finetune", "--graph", tables, "--target", "label", "--from", trunk, "--out", out]


def test_depth_and_reason_are_printed_and_saved(tables: Path, trunk: Path, tmp_path: Path) -> None:
    """On stderr in one line, in `split.json`, and in the model itself.

    Seen to fail without `tune_reason` among what a folder keeps.
    """
    out = tmp_path / "m"
    done = run(*args(tables, trunk, out), "--max-steps", "5")
    assert done.exit_code == 0, done.stderr
    kept = json.loads((out / "split.json").read_text())
    (line,) = [s for s in done.stderr.splitlines() if s.startswith("depth ")]
    assert line == f"depth {kept['depth']}: {kept['tune_reason']}"
    assert kept["tune"] == "auto" and [t["depth"] for t in kept["tried"]][0] == "probe"
    model = GraphFMClassifier.load(out)
    assert (model.tune_, model.tune_reason_) == (kept["depth"], kept["tune_reason"])
    assert model.tried_ == kept["tried"]


def test_all_commands_accept_an_ensemble(fitted: Any, tables: Path, tmp_path: Path) -> None:
    """From its one folder, evaluate repeats the scores of finetune.

    Seen to fail when only the first member was loaded.
    """
    out, _ = fitted
    kept = json.loads((out / "split.json").read_text())
    assert kept["members"] == kept["ensemble"] == 2
    again = run("evaluate", "--model", out, "--graph", tables, "--json")
    result = json.loads(again.stdout)
    own = kept["test"]["graphfm"]
    for name in ("accuracy", "brier", "ece", "num_nodes"):
        assert result[name] == pytest.approx(own[name], abs=1e-6), name
    for name, beside in (("predict", []), ("embed", [])):
        file = tmp_path / f"{name}.csv"
        done = run(name, "--model", out, "--graph", tables, "--out", file, *beside)
        assert done.exit_code == 0, done.stderr
        assert len(file.read_text().splitlines()) == 201


def test_the_result_is_compared_with_a_gcn_if_time_allows(
    fitted: Any, tables: Path, trunk: Path, tmp_path: Path
) -> None:
    """Else the reason is printed. Seen to fail with a GCN that ignored --max-time."""
    out, done = fitted
    assert "\nGCN " in done.stdout
    assert "GCN" in json.loads((out / "split.json").read_text())["test"]
    short = run(*args(tables, trunk, tmp_path / "m"), "--max-time", "0.1s")
    assert short.exit_code == 0, short.stderr
    assert "GCN" not in short.stdout
    assert "skipped the GCN: it would take about" in short.stderr
    assert "the time limit leaves" in short.stderr


def test_a_dry_run_prints_the_plan(tables: Path, trunk: Path, tmp_path: Path) -> None:
    """Labels, split, depths, parameters, memory, seconds; no other depth is tried afterwards."""
    out = tmp_path / "m"
    more = ["--split", "0.5/0.35/0.15", "--max-steps", "2", "--ensemble", "2"]
    plan = json.loads(run(*args(tables, trunk, out), *more, "--dry-run", "--json").stdout)
    assert not out.exists()
    assert plan["num_labelled"] == plan["num_nodes"] == 200
    assert plan["train"] + plan["val"] + plan["test"] == 200
    for name in ("params_trunk", "params_head", "memory_gib", "memory_free_gib", "seconds"):
        assert plan[name] > 0, name
    text = run(*args(tables, trunk, out), *more, "--dry-run").stdout
    for name in ("labels", "split", "depth", "members", "parameters", "memory", "time"):
        assert f"\n  {name} " in text, text
    run(*args(tables, trunk, out), *more)
    kept = json.loads((out / "split.json").read_text())
    tried = [t["depth"] for t in kept["tried"]]
    assert len(tried) > 1 and tried == plan["depths"][: len(tried)]
    head = GraphFMClassifier.load(out).model_.num_params()["head"]
    assert head == plan["params_head"] * kept["members"]


@pytest.mark.parametrize("given", ["soon", "0s", "-3", "inf", "5 weeks"])
def test_an_invalid_time_is_refused(given: str, tables: Path, trunk: Path, tmp_path: Path) -> None:
    """Seen to fail with -3 taken for a time."""
    done = run(*args(tables, trunk, tmp_path / "m"), f"--max-time={given}")
    assert done.exit_code == 4 and "GFM212" in done.stderr and "--max-time" in done.stderr
