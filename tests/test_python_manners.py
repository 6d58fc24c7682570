"""Estimators in a notebook: cross-validation over nodes, verbose, texts that fit a screen."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from graphfm import GraphFMClassifier, GraphFMRegressor, cross_val_predict_nodes
from graphfm.errors import DataError
from graphfm.estimator import cross_validation
from graphfm.graphs.splits import node_folds
from tests.graphs import synthetic
from tests.test_checkpoint_folder import relist


def test_no_fold_learns_from_its_own_labels(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other labels of a fold change no prediction of it, and a warning comes once.

    Seen to fail with folds that keep their labels, and with a warning a fold.
    """
    graph = synthetic("mine", num_nodes=60)
    assert graph.y is not None
    y = graph.y.clone()
    y[:6] = -1
    graph = graph.replace(y=y)
    estimator = GraphFMClassifier("random", tune="probe")
    with caplog.at_level(logging.WARNING, logger="graphfm"):
        found = cross_val_predict_nodes(estimator, graph, cv=3, method="predict_proba")
    assert found.shape == (60, graph.num_classes) and np.isfinite(found).all()
    assert not hasattr(estimator, "model_")
    texts = [record.getMessage() for record in caplog.records]
    assert sum("validation nodes: it stays near 1" in text for text in texts) == 1
    folds = node_folds(graph, 3, seed=0)
    for c in range(-1, graph.num_classes):
        counts = np.bincount(folds[(graph.y == c).numpy()], minlength=3)
        assert counts.max() - counts.min() <= 1
    monkeypatch.setattr(cross_validation, "node_folds", lambda *_, **__: folds)
    hidden = torch.from_numpy(folds == 0) & graph.labelled
    other = torch.where(hidden, (graph.y + 1) % graph.num_classes, graph.y)
    again = cross_val_predict_nodes(estimator, graph.replace(y=other), cv=3, method="predict_proba")
    np.testing.assert_allclose(again[folds == 0], found[folds == 0], atol=1e-6)
    assert not np.allclose(again[folds == 1], found[folds == 1])
    with pytest.raises(DataError, match="2 folds"):
        cross_val_predict_nodes(estimator, graph, cv=1)


def test_cross_validation_of_numbers_and_of_labels_beside_the_graph() -> None:
    graph = synthetic("mine", num_nodes=40)
    numbers = graph.x.to_dense()[:, 0].double().numpy()
    found = cross_val_predict_nodes(GraphFMRegressor("random", tune="probe"), graph, numbers, cv=2)
    assert found.shape == (40,) and np.isfinite(found).all()
    words = np.where(numbers > np.median(numbers), "high", "low")
    found = cross_val_predict_nodes(GraphFMClassifier("random", tune="probe"), graph, words, cv=2)
    assert set(found) <= {"high", "low"} and found.dtype == words.dtype


def test_verbose_shows_how_a_file_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the error stream is no terminal, as in a notebook. Seen to fail: nothing came."""
    rows = [f"n{i},{i % 5},{'ab'[i % 2]}" for i in range(30)]
    (tmp_path / "nodes.csv").write_text("\n".join(["id,x,label", *rows]) + "\n")
    edges = [f"n{i},n{(i + 1) % 30}" for i in range(30)]
    (tmp_path / "edges.csv").write_text("\n".join(["source,target", *edges]) + "\n")
    log = logging.getLogger("graphfm")
    monkeypatch.setattr(log, "handlers", [])  # a command that ran in this process leaves its own
    before = log.level, log.propagate, list(log.handlers)
    for verbose in (False, True):
        model = GraphFMClassifier("random", tune="adapter", max_steps=2, verbose=verbose)
        model.fit(tmp_path, target="label")
        shown = capsys.readouterr()
        assert ("become 1 features" in shown.out) == verbose
        assert ("adapter" in shown.err) == verbose
    assert before == (log.level, log.propagate, log.handlers)


def test_texts_fit_a_screen() -> None:
    """Seen to fail with arrays of probabilities, and with all fields of all scores."""
    graph = synthetic("mine", num_nodes=60)
    test = torch.arange(60) < 20
    model = GraphFMClassifier("random", tune="probe").fit(graph, train_mask=~test)
    for value in (model, graph, model.answer(coverage=0.8), model.compare(), model.reading_):
        text = repr(value)
        assert len(text.splitlines()) <= 10 and max(map(len, text.splitlines())) <= 200, text
    assert "best simple baseline" in repr(model.compare())


def test_a_folder_that_calls_the_seed_seed_is_loaded(tmp_path: Path) -> None:
    """Version 0.1.0 wrote ``seed`` in place of ``random_state``."""
    graph = synthetic("mine", num_nodes=40)
    GraphFMClassifier("random", tune="probe", random_state=3).fit(graph).save(tmp_path / "new")
    assert GraphFMClassifier.load(tmp_path / "new").random_state == 3
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    params = config["estimator"]["params"]
    params["seed"] = params.pop("random_state")
    del params["refit"]
    (tmp_path / "new" / "config.json").write_text(json.dumps(config))
    relist(tmp_path / "new", "config.json")
    loaded = GraphFMClassifier.load(tmp_path / "new")
    assert loaded.random_state == 3 and loaded.refit is False
