"""Weights of the package: export, model card, and a fit that begins with them."""

from __future__ import annotations

import importlib
import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from graphfm.checkpoint import pretrained
from graphfm.checkpoint.folder import read_tensors, save_checkpoint
from graphfm.cli.main import app
from graphfm.errors import CheckpointError, DataError
from graphfm.estimator import GraphFMClassifier, load_fitted
from graphfm.graphs.audit.audit import not_judged_on
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.model.graphfm import GraphFM
from graphfm.training.state_cloud import StateCloud
from tests.graphs import small_model, synthetic, three_graphs

TOOLS = Path(__file__).parent.parent / "tools"
CORPUS = ["iris", "wine", "davis-women"]
SMALL = pretrained.WEIGHTS / "small"


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Exporter without raw files: only graphs that come with packages are compared by data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        patch.setenv("GRAPHFM_DATA", str(tmp_path_factory.mktemp("no-data")))
        patch.setenv("GRAPHFM_OFFLINE", "1")
        yield importlib.import_module("export_weights")


def run_folder(out: Path, **changes: object) -> Path:
    """Run folder as `graphfm pretrain` writes it: checkpoint, receipt, curve."""
    model = small_model(three_graphs())
    cloud = StateCloud.of(torch.randn(50, 32), torch.randn(30, 32)).tensors()
    meta = {"name": "run", "step": 40, "recipe": {"name": "tiny"}, "corpus": CORPUS, **changes}
    folder = out / "checkpoints" / "step_000040"
    folder.parent.mkdir(parents=True)
    save_checkpoint(folder, model, meta=meta, trainer={"step": 40}, extra={"novelty": cloud})
    (out / "LATEST").write_text("checkpoints/step_000040\n")
    (out / "run.json").write_text(json.dumps({"targets_seen": 12345, "flops": 1e9, "other": 1}))
    records = [{"kind": "train", "step": 1, "loss": 9.0}]
    records += [
        {"kind": "eval", "step": s, "loss": 1 - s / 100, "accuracy": s / 100}
        for s in (0, 10, 20, 30, 40, 50)  # 50: after the checkpoint
    ]
    (out / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return out


@pytest.fixture(scope="module")
def exported(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    tool.export(run_folder(out / "run"), out / "weights" / "small", name=pretrained.SHIPPED)
    return out / "weights"


@pytest.fixture
def small(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installation with weights."""
    monkeypatch.setattr(pretrained, "WEIGHTS", exported)
    return exported / "small"


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installation without weights."""
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "none")


def test_an_export_has_the_shared_weights_in_half_precision_and_little_else(small: Path) -> None:
    """No adapter or head of a dataset, no optimizer. Seen to fail without drop_graph."""
    weights = read_tensors(small / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == {
        "position",
        "encoder",
        "decoder",
        "universal",
    }
    assert {w.dtype for w in weights.values()} == {torch.float16}
    assert sorted(p.name for p in small.iterdir()) == [
        "README.md", "config.json", "manifest.json",
        "model.safetensors", "novelty.safetensors", "specs.json",
    ]  # fmt: skip
    model, before = GraphFM.from_pretrained(small), small_model(three_graphs()).state_dict()
    assert model.specs == {} and model.encoder.latents.dtype == torch.float32
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=1e-3, atol=1e-4)


def test_the_card_lists_data_licences_audit_and_receipt(small: Path) -> None:
    """Each id with its licence, the audit, the receipt, the curve up to this step, limits."""
    card = (small / "README.md").read_text(encoding="utf-8")
    entries = Catalog.read().entries
    rows = [line for line in card.splitlines() if line.startswith("| ")]
    for id in CORPUS:
        assert any(id in row and entries[id].license in row for row in rows)
    assert "No overlap with" in card and "planetoid-cora" in card
    assert "12,345" in card and "| 40 | 0.600 | 0.400 |" in card and "| 50 |" not in card
    assert "## Limits" in card and "## Scores" not in card
    config = json.loads((small / "config.json").read_text())
    assert config["not_judged_on"] == not_judged_on(CORPUS, Catalog.read())


def test_a_corpus_that_overlaps_with_evaluation_graphs_is_refused(
    tool: ModuleType, tmp_path: Path
) -> None:
    """Even if the run recorded a clean audit. Seen to fail when that record was trusted."""
    run = run_folder(tmp_path / "run", corpus=[*CORPUS, "planetoid-cora"], audit={"clean": True})
    with pytest.raises(DataError, match=r"GFM147.*planetoid-cora"):
        tool.export(run, tmp_path / "out", name="x")
    assert tool.main([str(run), "--out", str(tmp_path / "out")]) == DataError.exit_code
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_corpus_or_with_too_many_weights_is_refused(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written. Seen to fail with each check removed."""
    out = tmp_path / "out"
    for name, changes in {"none": {"corpus": []}, "unknown": {"corpus": ["unknown"]}}.items():
        with pytest.raises(tool.CannotShip, match=r"does not name|no entry"):
            tool.export(run_folder(tmp_path / name, **changes), out, name="x")
    large = small_model([])
    with torch.no_grad():
        large.universal.bias[0] = 70_000.0  # beyond float16
    with pytest.raises(tool.CannotShip, match="universal.bias"):
        tool.halved(large)
    monkeypatch.setattr(tool, "MAX_BYTES", 1000)
    monkeypatch.setattr(tool, "WEIGHTS", tmp_path)  # folders below it are part of the wheel
    with pytest.raises(tool.CannotShip, match="may have 1,000"):
        tool.export(run_folder(tmp_path / "large"), out, name="x")
    assert not out.exists()


def test_scores_come_from_a_complete_benchmark_only(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ordered by rank, for each split; added at once, or later without the run.

    Seen to fail with the scores missing from the card, and with the run's figures read again.
    """
    standing = {
        name: {"rank": rank, "rank_interval": [1, 3], "elo": 1000, "elo_interval": [900, 1100]}
        for name, rank in (("gcn", 2.25), ("probe", 1.75))
    }
    table = {
        "plan": {"suite": "evaluation-15", "seeds": 5},
        "cells": {"all": 10, "done": 10, "failed": 0, "left out": 0, "not done yet": 0},
        "commits": ["abc123"],
        "splits": {"50/25/25": {"ranked": ["a", "b"], "models": standing}},
    }
    given = tmp_path / "table.json"
    given.write_text(json.dumps(table))
    run = run_folder(tmp_path / "run")
    tool.export(run, tmp_path / "out", name="x", scores=given)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    first = card.index("| probe | 1.75 (1.00 to 3.00) | 1000 (900 to 1100) |")
    assert card.index("abc123") < first < card.index("| gcn | 2.25")
    # Adding scores to an earlier export changes nothing else.
    tool.export(run, tmp_path / "before", name="x")
    tool.export(tmp_path / "before", tmp_path / "with", name="x", scores=given)
    tool.export(tmp_path / "with", tmp_path / "after", name="x")
    for name in ("README.md", "model.safetensors", "novelty.safetensors"):
        assert (tmp_path / "after" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    configs = [json.loads((tmp_path / n / "config.json").read_text()) for n in ("out", "after")]
    for config in configs:
        config["audit"].pop("seconds")  # wall time: differs between two audits
    assert configs[0] == configs[1]
    for wrong, why in (
        ({**table, "cells": {"failed": 1}}, "not complete"),
        ({}, "not a table.json"),
    ):
        given.write_text(json.dumps(wrong))
        with pytest.raises(tool.CannotShip, match=why):
            tool.export(run, tmp_path / "none", name="x", scores=given)
    assert tool.main([str(run), "--out", str(tmp_path / "none"), "--scores", "absent.json"]) == 1
    assert not (tmp_path / "none").exists()


def test_a_fit_begins_with_the_weights_of_the_package(small: Path, tmp_path: Path) -> None:
    """By default and by name; the name is saved. Seen to fail with random weights."""
    graph = synthetic(num_nodes=60)
    fits = [
        GraphFMClassifier(given, tune="probe").fit(graph) for given in (None, pretrained.SHIPPED)
    ]
    random = GraphFMClassifier("random", tune="probe").fit(graph)
    assert [f.weights_ for f in (*fits, random)] == [
        pretrained.SHIPPED,
        pretrained.SHIPPED,
        "random",
    ]
    assert np.array_equal(fits[0].embed(), fits[1].embed())
    assert fits[0].embed().shape == (60, 32) and random.embed().shape != (60, 32)
    assert "davis-women" in fits[0].not_judged_on_ and random.not_judged_on_ == []
    assert fits[0].far_states_ is not None and random.far_states_ is None
    fits[0].save(tmp_path / "fit")
    assert load_fitted(tmp_path / "fit").weights_ == pretrained.SHIPPED


def test_without_weights_a_fit_warns_in_one_line(
    nothing: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The fit works. There is no warning if random weights were requested."""
    graph = synthetic(num_nodes=60)
    with caplog.at_level(logging.WARNING, logger="graphfm.checkpoint.pretrained"):
        fitted = GraphFMClassifier(tune="probe").fit(graph)
    assert fitted.weights_ == "random"
    assert [
        r.getMessage() for r in caplog.records if r.name == "graphfm.checkpoint.pretrained"
    ] == ["this installation holds no pretrained weights: the trunk is random"]
    caplog.clear()
    asked = GraphFMClassifier("random", tune="probe").fit(graph)
    assert not [r for r in caplog.records if r.name == "graphfm.checkpoint.pretrained"]
    assert np.array_equal(fitted.predict_proba(), asked.predict_proba())
    with pytest.raises(CheckpointError, match=r"GFM301.*graphfm-small"):
        GraphFM.from_pretrained()


def test_the_command_begins_with_the_weights_of_the_package(small: Path, tmp_path: Path) -> None:
    """With random weights if requested. Seen to fail when --from had to be a path."""
    weights = {}
    for name, given in (("default", []), ("random", ["--from", "random"])):
        words = ["finetune", "--graph", "iris", "--out", str(tmp_path / name), "--dry-run"]
        done = CliRunner().invoke(app, [*words, "--json", *given], prog_name="graphfm")
        assert done.exit_code == 0, done.stderr
        weights[name] = json.loads(done.stdout)["weights"]
        shown = CliRunner().invoke(app, [*words, *given], prog_name="graphfm").stdout
        assert ("graphfm-small" in shown) is (name == "default")
    assert weights == {"default": pretrained.SHIPPED, "random": "random"}


def test_check_wheel_reports_each_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Too slow, network used, checkout used instead of the wheel, weights not used."""
    monkeypatch.syspath_prepend(str(TOOLS))
    check = importlib.import_module("check_wheel")
    good = {
        "seconds": 9.0,
        "sockets": [],
        "file": str(tmp_path / "graphfm" / "__init__.py"),
        "weight_files": 6,
        "weights": pretrained.SHIPPED,
    }
    assert check.faults(good, 30.0) == []
    assert check.faults({**good, "weight_files": 0, "weights": "random"}, 30.0) == []
    wrong = {"seconds": 31.0, "sockets": ["a"], "file": check.__file__, "weights": "random"}
    for name, value in wrong.items():
        assert len(check.faults({**good, name: value}, 30.0)) == 1, name
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr("graphfm/weights/small/model.safetensors", b"12345")
        wheel.writestr("graphfm/hub.py", b"")
    assert check.weights_in(tmp_path / "a.whl") == {"weight_files": 1, "weight_bytes": 5}


@pytest.mark.skipif(not SMALL.is_dir(), reason="this checkout has no weights: export_weights.py")
def test_the_weights_of_this_checkout_are_small_audited_and_documented() -> None:
    """At most 4 MB in half precision, a clean audit, a card that lists the corpus."""
    model = GraphFM.from_pretrained()
    assert sum(p.stat().st_size for p in SMALL.iterdir()) <= 4_000_000
    weights = read_tensors(SMALL / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float16} and model.specs == {}
    catalog = Catalog.read()
    judged = {e.id for e in catalog.entries.values() if e.role == "evaluation"}
    assert set(model.about["audit"]["judged"]) == judged and model.about["audit"]["clean"]
    assert not model.about["audit"]["declared_only"]
    assert not judged & set(not_judged_on(model.about["corpus"], catalog))
    card = (SMALL / "README.md").read_text(encoding="utf-8")
    assert all(id in card for id in model.about["corpus"])
