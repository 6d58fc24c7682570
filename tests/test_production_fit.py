"""Production fits: parts of a split that are missing, folders that appear at once."""

import csv
import importlib
import json
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from graphfm.checkpoint.folder import Checkpoint
from graphfm.checkpoint.split_json import read_split
from graphfm.cli.fit import save_fit
from graphfm.cli.main import app
from graphfm.errors import DataError
from graphfm.estimator import GraphFMClassifier
from graphfm.estimator.masks import fit_masks
from graphfm.graphs.inputs import read_graph
from graphfm.graphs.splits import complete_split
from tests.graphs import synthetic


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in args], prog_name="graphfm")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ring of 60 nodes in two classes; the last 10 have no label."""
    folder = tmp_path_factory.mktemp("tables")
    label = [("a" if i % 3 else "b") if i < 50 else "" for i in range(60)]
    rows = [f"n{i},{(i * 7) % 11},{label[i]}" for i in range(60)]
    (folder / "nodes.csv").write_text("\n".join(["id,x,label", *rows]) + "\n")
    edges = [f"n{i},n{(i + 1) % 60}" for i in range(60)]
    (folder / "edges.csv").write_text("\n".join(["source,target", *edges]) + "\n")
    return folder


def fit(tables: Path, out: Path, *more: object) -> Result:
    start = [] if "--from" in more else ["--from", "random"]
    asked = ("finetune", "--graph", tables, "--target", "label", "--out", out, "--tune", "probe")
    return run(*asked, *start, *more)


def test_fit_without_test_nodes_is_kept(tables: Path, tmp_path: Path) -> None:
    """Seen to fail with a score demanded after the fit: exit 3, and a folder without split.json."""
    out = tmp_path / "model"
    done = fit(tables, out, "--split", "0.8/0.2/0", "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["metric"] is None and facts["test"] == {}
    assert "no labelled test nodes" in done.stderr
    preds = tmp_path / "preds.csv"
    assert run("predict", "--model", out, "--graph", tables, "--out", preds).exit_code == 0
    assert len(preds.read_text().splitlines()) == 61


def test_fit_that_fails_late_leaves_nothing(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with split.json written after the model: the next run said GFM402."""
    out = tmp_path / "model"
    for interrupt in (KeyboardInterrupt, RuntimeError):
        with monkeypatch.context() as patch:
            patch.setattr("graphfm.estimator.saved.split_text", Mock(side_effect=interrupt))
            assert fit(tables, out).exit_code != 0
        assert list(tmp_path.iterdir()) == []


class Killed(BaseException):
    """A kill -9: nothing runs after it."""


def test_kill_at_each_step_leaves_a_whole_folder(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is the old one or the new one, with every file.

    Seen to fail with the old folder moved away before the new one was moved to its place.
    """
    graph = read_graph(tables, target="label").graph
    model = GraphFMClassifier("random", tune="probe").fit(graph)
    out = tmp_path / "model"
    save_fit(model, out, {"seed": 0})
    steps = seed = 0
    while True:
        calls = count()
        steps += 1

        def killed_before(call: Any, calls: Any = calls, last: int = steps) -> Any:
            def call_or_die(*args: Any, **kwargs: Any) -> Any:
                if next(calls) == last:
                    raise Killed
                return call(*args, **kwargs)

            return call_or_die

        with monkeypatch.context() as patch:
            for name in ("os.replace", "os.fsync", "os.mkdir", "graphfm.storage.exchange"):
                owner, attribute = name.rsplit(".", 1)
                call = getattr(importlib.import_module(owner), attribute)
                patch.setattr(name, killed_before(call))
            patch.setattr("shutil.rmtree", Mock())
            with suppress(Killed):
                save_fit(model, out, {"seed": steps})
                break
        before, seed = seed, read_split(Checkpoint.open(out))["seed"]
        assert seed in (before, steps)
        assert (out / "metrics.jsonl").is_file()
    assert steps > 20 and read_split(Checkpoint.open(out))["seed"] == steps


@pytest.mark.parametrize("slip", [("--from", "no-such-folder"), ("--device", "cuda:77")])
def test_overwrite_with_a_slip_keeps_the_folder(
    tables: Path, tmp_path: Path, slip: tuple[str, str]
) -> None:
    """Seen to fail with the folder emptied before the fit."""
    out = tmp_path / "model"
    assert fit(tables, out).exit_code == 0
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    assert fit(tables, out, "--overwrite", *slip).exit_code != 0
    assert before == {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    assert fit(tables, out, "--overwrite", "--seed", 1).exit_code == 0
    assert json.loads((out / "split.json").read_text())["seed"] == 1


PARTS = st.lists(st.sampled_from(["train", "val", "test", ""]), min_size=40, max_size=40)


@settings(max_examples=60, deadline=None)
@given(words=PARTS, left_out=st.sets(st.sampled_from(["train", "val", "test"]), max_size=3))
def test_given_parts_of_a_split_are_honoured(words: list[str], left_out: set[str]) -> None:
    """Seen to fail with a random split drawn where a part was missing."""
    graph = synthetic("mine", num_nodes=40, num_features=2)
    masks = {
        f"{part}_mask": torch.tensor([word == part for word in words])
        for part in ("train", "val", "test")
        if part not in left_out and part in words
    }
    graph = graph.replace(train_mask=None, val_mask=None, test_mask=None).replace(**masks)
    try:
        chosen = complete_split(graph, seed=0)
    except DataError as error:
        assert error.code == "GFM135" and "train_mask" not in masks
        return
    parts = [p for p in (chosen.train_mask, chosen.val_mask, chosen.test_mask) if p is not None]
    assert int(torch.stack(parts).sum(dim=0).max()) <= 1
    for name, mask in masks.items():
        assert torch.equal(getattr(chosen, name), mask)
    if not {"train_mask", "test_mask"} <= masks.keys():
        assert bool(torch.stack(parts).any(dim=0)[graph.labelled].all())


def test_split_column_with_test_and_blanks(tables: Path, tmp_path: Path) -> None:
    """The named nodes are the test nodes. Seen to fail with half of them in other parts."""
    folder = tmp_path / "tables"
    shutil.copytree(tables, folder)
    head, *rows = (folder / "nodes.csv").read_text().splitlines()
    rows = [f"{row},{'test' if i < 12 else ''}" for i, row in enumerate(rows)]
    (folder / "nodes.csv").write_text("\n".join([f"{head},split", *rows]) + "\n")
    done = fit(folder, tmp_path / "model")
    assert done.exit_code == 0, done.stderr
    assert "gives only test" in done.stderr
    nodes = json.loads((tmp_path / "model" / "split.json").read_text())["nodes"]
    assert sorted(nodes["test"]) == sorted(f"n{i}" for i in range(12))
    assert len(nodes["train"]) + len(nodes["val"]) == 38 and nodes["val"]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predictions_name_the_split(tables: Path, tmp_path: Path) -> None:
    """Labels are those of the most probable class. Seen to fail with the labels reversed."""
    out, preds = tmp_path / "model", tmp_path / "preds.csv"
    assert fit(tables, out).exit_code == 0
    asked = ("predict", "--model", out, "--graph", tables)
    assert run(*asked, "--out", preds, "--proba").exit_code == 0
    rows = read_csv(preds)
    nodes = json.loads((out / "split.json").read_text())["nodes"]
    part = {name: word for word, names in nodes.items() for name in names}
    assert [row["id"] for row in rows] == [f"n{i}" for i in range(60)]
    assert [row["split"] for row in rows] == [part.get(r["id"], "unlabelled") for r in rows]
    assert sum(row["split"] == "unlabelled" for row in rows) == 10
    model = GraphFMClassifier.load(out)
    predicted = model.predict(tables).tolist()
    assert [row["label"] for row in rows] == predicted and len(set(predicted)) == 2
    for row in rows:
        assert row["label"] == max("ab", key=lambda name: float(row[f"p_{name}"]))
    only = tmp_path / "only.csv"
    assert run(*asked, "--out", only, "--only", "unlabelled").exit_code == 0
    kept = [{k: row[k] for k in ("id", "label", "probability", "split")} for row in rows]
    assert read_csv(only) == [row for row in kept if row["split"] == "unlabelled"]


def test_score_never_reads_nodes_of_the_fit(tables: Path) -> None:
    """Seen to fail with all labelled nodes scored: training nodes among them."""
    model = GraphFMClassifier("random", tune="probe").fit(tables, target="label")
    for again in (None, tables):
        with pytest.raises(DataError, match="that the fit did not use"):
            model.score(again)
    known = model.graph_
    assert known is not None
    test = torch.arange(60) < 15
    own = GraphFMClassifier("random", tune="probe").fit(known, train_mask=known.labelled & ~test)
    assert own.score() == own.score(mask=test) == own.compare()["graphfm"].main


def test_fit_reads_no_label_of_validation_or_test_nodes(tables: Path) -> None:
    """The closed form does not change with test labels, nor with validation labels.

    Validation labels move the offset and the sharpness of the head, not its weights. Seen to
    fail with the estimator trained on validation and test nodes of a graph without a train mask,
    and with validation nodes learned from that were split off.
    """
    graph = read_graph(tables, target="label", task="classify").graph
    assert graph.y is not None
    test = (torch.arange(60) < 10) & graph.labelled
    graph = graph.replace(train_mask=None, val_mask=None, test_mask=test)
    train, val = fit_masks(graph, None, None, seed=0)
    assert int(val.sum()) >= 8 and not bool((train & (val | test)).any())

    def weights(*flipped: torch.Tensor, **masks: torch.Tensor) -> dict[str, torch.Tensor]:
        y = graph.y.clone()
        for mask in flipped:
            y[mask] = 1 - y[mask]
        fitted = GraphFMClassifier("random", tune="probe").fit(graph.replace(y=y), **masks)
        return fitted.model_.state_dict()

    default = weights()
    other_test, other_val = weights(test), weights(val, train_mask=train, val_mask=val)
    for name, weight in default.items():
        assert torch.equal(weight, other_test[name]), name
        assert ".score." not in name or torch.equal(weight, other_val[name]), name


def test_refit_learns_from_every_label_at_the_chosen_depth(tables: Path, tmp_path: Path) -> None:
    """Scores are those of the fit before. Seen to fail with scores of the second fit."""
    outs = [tmp_path / name for name in ("split", "all")]
    asked = ("--tune", "decoder", "--max-steps", 3, "--json")
    runs = [fit(tables, outs[0], *asked), fit(tables, outs[1], *asked, "--refit-all")]
    before, after = (json.loads(done.stdout) for done in runs)
    assert "not calibrated" not in runs[1].stderr and "fitted again on all 50" in runs[1].stderr
    for name in ("depth", "best_step", "test", "metric", "temperature", "verdict", "val_score"):
        assert before[name] == after[name], name
    split, every = (GraphFMClassifier.load(out) for out in outs)
    assert split.tune_ == every.tune_ and split.best_step_ == every.best_step_
    assert len(every.split_["train"]) == 50 and not every.split_["val"] + every.split_["test"]
    assert len(split.split_["train"]) < 50
    refused = run("evaluate", "--model", outs[1], "--graph", tables)
    assert refused.exit_code != 0 and "--refit-all" in refused.stderr
    done = run("predict", "--model", outs[1], "--graph", tables, "--out", tmp_path / "preds.csv",
               "--only", "unlabelled")  # fmt: skip
    assert done.exit_code == 0 and "--on all" in done.stderr
    rows = read_csv(tmp_path / "preds.csv")
    assert [row["id"] for row in rows] == [f"n{i}" for i in range(50, 60)]
    graph = read_graph(tables, target="label").graph
    assert graph.y is not None
    flipped = graph.y.clone()
    test = [graph.ids().index(name) for name in split.split_["test"]]
    flipped[test] = 1 - flipped[test]
    masks = [torch.tensor([i in split.split_[p] for i in graph.ids()]) for p in ("train", "val")]
    probas = []
    for refit in (False, True):
        for y in (graph.y, flipped):
            model = GraphFMClassifier("random", tune="probe", refit=refit)
            model.fit(graph.replace(y=y), train_mask=masks[0], val_mask=masks[1])
            probas.append(model.predict_proba())
    with pytest.raises(DataError, match="that the fit did not use"):
        model.score()  # of the last one, which learned from every label
    assert np.array_equal(probas[0], probas[1]) and not np.allclose(probas[2], probas[3])
