"""The table of what pretraining is worth: its figures by hand, and what a second call does."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # main() sets them; put back after the test
    return importlib.import_module("bench_pretraining")


@pytest.fixture
def report(bench: ModuleType) -> ModuleType:
    return importlib.import_module("bench_report")


def rows_of(accuracies: dict[str, dict[str, list[float]]]) -> list[dict]:
    """Rows from graph -> model -> accuracy by seed."""
    return [
        {"graph": g, "num_nodes": 9, "seed": s, "model": m, "key": "k", "accuracy": a, "fit_s": 2.0}
        for g, by_model in accuracies.items()
        for m, values in by_model.items()
        for s, a in enumerate(values)
    ]


def test_figures_are_those_worked_by_hand(report):
    """Seen to fail with the normal quantile for the t quantile, and with ranks of the worst."""
    models = ["probe-pretrained", "probe-random", "ridge"]
    accuracies = {
        "a": dict(zip(models, ([0.5, 0.7], [0.5, 0.6], [0.9, 0.9]), strict=True)),
        "b": dict(zip(models, ([0.8, 0.8], [0.6, 0.7], [0.8, 0.8]), strict=True)),
        "c": dict(zip(models, ([0.4, 0.4], [0.5, 0.5], [0.3, 0.3]), strict=True)),
        "d": dict(zip(models, ([0.4, 0.4], [0.4, 0.4], [0.3, 0.3]), strict=True)),
    }
    summary = report.summarise(report.as_table(rows_of(accuracies), models, []), models)
    cell = summary["graphs"]["a"]["accuracy"]["probe-pretrained"]
    # t(0.975, 1) = 12.706; the standard error of (0.5, 0.7) is 0.1.
    assert cell["mean"] == pytest.approx(0.6)
    assert cell["half"] == pytest.approx(1.2706, abs=1e-4)
    ranks = {"probe-pretrained": [2, 1.5, 2, 1.5], "probe-random": [3, 3, 1, 1.5]}
    for model, by_graph in ranks.items():
        assert summary["ranks"][model] == pytest.approx(np.mean(by_graph))
    pair = summary["pairs"][0]
    assert (pair["a"], pair["b"]) == ("probe-pretrained", "probe-random")
    assert (pair["won"], pair["lost"], pair["tied"]) == (2, 1, 1)
    assert pair["sign_test_p"] == 1.0  # 2 of 3: P(>= 2) + P(<= 1)
    assert pair["mean_difference"] == pytest.approx((0.05 + 0.15 - 0.1 + 0) / 4)
    assert pair["interval"][0] < pair["mean_difference"] < pair["interval"][1]
    assert summary["fit_s"]["ridge"] == {"total": 16.0, "fits": 8}


def test_a_model_that_failed_on_a_graph_leaves_that_graph_out_of_the_ranks(report):
    """Seen to fail with ranks over the models that happen to be there."""
    models = ["gcn", "ridge"]
    accuracies = {"a": {"gcn": [0.1], "ridge": [0.2]}, "b": {"gcn": [0.9]}}
    summary = report.summarise(report.as_table(rows_of(accuracies), models, []), models)
    assert summary["num_ranked"] == 1 and summary["ranks"] == {"gcn": 2.0, "ridge": 1.0}
    text = report.markdown(summary, models)
    assert "| b | 9 | **90.0** |  |" in text and "average rank, 1 graphs" in text


@pytest.fixture
def fits(bench, monkeypatch) -> list[tuple[str, int, str]]:
    """Fits in place of the real ones: fast, counted, and checked for test labels."""
    made: list[tuple[str, int, str]] = []
    planted = [RuntimeError("planted")]

    def fit_one(args, model, graph, seed):
        assert bool((graph.y[graph.test_mask] == -1).all())
        assert bool((graph.y[graph.train_mask] >= 0).all())
        made.append((graph.name, seed, model))
        if model == "gcn" and planted:
            raise planted.pop()
        rng = np.random.default_rng(seed)
        return rng.random((int(graph.test_mask.sum()), graph.num_classes)), 0.5, 0.1

    monkeypatch.setattr(bench, "fit_one", fit_one)
    return made


def test_a_second_call_measures_only_what_is_missing(bench, fits, tmp_path, capsys):
    """A failed fit and a line cut off are missing, a finished one is not; no fit sees a test label.

    Seen to fail without the newline that ends a half-written line, and with y handed on as it is.
    """
    out = tmp_path / "out.json"
    call = ["--graphs", "karate-club", "--seeds", "2", "--models", "gcn", "ridge"]
    call += ["--out", str(out)]
    assert bench.main(call) == 1  # the planted failure
    assert sorted(fits) == [("karate-club", s, m) for s in (0, 1) for m in ("gcn", "ridge")]
    lines = out.with_suffix(".jsonl")
    lines.write_text(lines.read_text()[:-20])  # cut off: the last line is of seed 1, gcn

    assert bench.main(call) == 0
    assert fits[4:] == [("karate-club", 0, "gcn"), ("karate-club", 1, "gcn")]
    fits.clear()
    capsys.readouterr()
    assert bench.main(call) == 0 and not fits
    first = capsys.readouterr().out
    assert bench.main([*call, "--report-only"]) == 0 and not fits
    assert capsys.readouterr().out == first and "| karate-club | 34 |" in first
    assert len(json.loads(out.read_text())["rows"]) == 4

    # Another split is another experiment: nothing of the old one is taken for it.
    assert bench.main([*call, "--split", "0.5/0.25/0.25"]) == 0 and len(fits) == 4


def test_results_of_another_checkpoint_are_not_taken_for_this_one(bench, fits, tmp_path):
    """Seen to fail with a key of the folder's name."""
    from graphfm.checkpoint import save_checkpoint
    from graphfm.config import ModelConfig
    from graphfm.model import GraphFM

    models = ["probe-pretrained", "probe-random", "ridge"]
    call = ["--graphs", "karate-club", "--seeds", "1", "--models", *models]
    call += ["--checkpoint", str(tmp_path / "weights"), "--out", str(tmp_path / "out.json")]
    model = GraphFM(ModelConfig(dim=16), seed=0)
    save_checkpoint(tmp_path / "weights", model, meta={"name": "a"})
    assert bench.main(call) == 0 and len(fits) == 3
    with torch.no_grad():
        next(model.parameters()).add_(1)
    save_checkpoint(tmp_path / "weights", model, meta={"name": "b"})
    fits.clear()
    assert bench.main(call) == 0
    assert fits == [("karate-club", 0, "probe-pretrained")]  # the shape is the same


def test_all_models_run_on_a_real_small_graph(bench, tmp_path):
    """The whole way with a tiny trunk. Seen to fail with tune passed by position."""
    from graphfm.checkpoint import save_checkpoint
    from graphfm.config import ModelConfig
    from graphfm.errors import DataError
    from graphfm.graphs.catalog import Catalog
    from graphfm.graphs.prepare import prepare
    from graphfm.model import GraphFM

    model = GraphFM(ModelConfig(dim=16), seed=0)
    save_checkpoint(tmp_path / "weights", model, meta={"name": "tiny"})
    call = ["--graphs", "karate-club", "--seeds", "1", "--steps", "2"]
    call += ["--checkpoint", str(tmp_path / "weights"), "--out", str(tmp_path / "out.json")]
    assert bench.main(call) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {r["model"] for r in rows} == set(bench.MODELS)
    assert all(0 <= r["accuracy"] <= 1 and r["fit_s"] >= 0 for r in rows)

    model.add_graph(prepare(Catalog.read().load("karate-club")).spec)
    save_checkpoint(tmp_path / "weights", model, meta={"name": "tiny"})
    with pytest.raises(DataError, match="GFM137"):
        bench.main([*call, "--seeds", "2"])
