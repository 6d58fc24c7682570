"""Estimators compare, report and give importances, as the command line does after a fit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from graphfm.errors import DataError, OutputError
from graphfm.estimator import GraphFMClassifier, GraphFMRegressor
from graphfm.fitting.fitted import FitSummary
from graphfm.graphs.graph import Graph
from graphfm.graphs.splits import with_split
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from tests.graphs import small_model, synthetic


@pytest.fixture(scope="module")
def model() -> GraphFM:
    return small_model([])


@pytest.fixture(scope="module")
def whole() -> Graph:
    return synthetic("mine", num_nodes=200, num_features=5, feature_signal=2.0, seed=5)


@pytest.fixture(scope="module")
def graph(whole: Graph) -> Graph:
    return with_split(whole, seed=0)


@pytest.fixture(scope="module")
def fitted(model: GraphFM, graph: Graph) -> GraphFMClassifier:
    return GraphFMClassifier(model, tune="probe").fit(graph)


def test_compare_scores_the_model_first_and_baselines(
    fitted: GraphFMClassifier, graph: Graph
) -> None:
    """On the test nodes of the graph; predictions that are passed are not made again."""
    found = fitted.compare(max_gcn_seconds=0.0)
    assert list(found)[:2] == ["graphfm", "majority"] and "GCN" not in found
    assert found["graphfm"].main == pytest.approx(fitted.score())
    assert found["graphfm"].num_nodes == int(graph.test_mask.sum())
    again = fitted.compare(predictions=fitted.answer(), max_gcn_seconds=0.0)
    assert again["graphfm"] == found["graphfm"]


def test_compare_numbers_classes_as_the_model_does(fitted: GraphFMClassifier, graph: Graph) -> None:
    """Seen to fail with the labels as the graph numbers them."""
    order = torch.tensor([2, 0, 1])
    turned = graph.replace(
        y=order[graph.y], class_names=tuple(graph.class_names[i] for i in order.argsort())
    )
    one, other = (fitted.compare(g, max_gcn_seconds=0.0)["graphfm"] for g in (graph, turned))
    assert one.main == pytest.approx(other.main)


def test_masks_of_the_fit_leave_the_other_nodes_to_test(model: GraphFM, whole: Graph) -> None:
    train = torch.zeros(200, dtype=torch.bool)
    train[::2] = True
    fitted = GraphFMClassifier(model, tune="probe").fit(whole, train_mask=train)
    found = fitted.compare(max_gcn_seconds=0.0)
    assert found["graphfm"].num_nodes == found["majority"].num_nodes == 100


def test_a_graph_without_test_nodes_cannot_be_compared(model: GraphFM, whole: Graph) -> None:
    fitted = GraphFMClassifier(model, tune="probe").fit(whole)
    with pytest.raises(DataError, match="(?s)GFM133.*with_split"):
        fitted.compare()


def test_numbers_are_compared_too(model: GraphFM, graph: Graph) -> None:
    numbers = graph.replace(y=graph.x[:, 0].double(), class_names=())
    fitted = GraphFMRegressor(model, tune="probe").fit(numbers)
    found = fitted.compare()
    assert list(found) == ["graphfm", "mean", "features-only ridge regression"]
    assert found["graphfm"].r2 == pytest.approx(fitted.score(), abs=1e-6)


def test_importances_find_the_columns_that_matter(model: GraphFM, whole: Graph) -> None:
    """One of five columns is related to the classes, and comes first."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(200, 5, generator=rng)
    x[:, 3] += 4.0 * whole.y
    graph = with_split(whole.replace(x=x), seed=0)
    fitted = GraphFMClassifier(model, tune="probe").fit(graph)
    found = fitted.importances(max_seconds=60.0)
    assert found.columns[0].name == "column 4"
    assert found.num_columns == 5 and found.num_nodes == int(graph.val_mask.sum())
    with pytest.raises(DataError, match="GFM133"):
        fitted.importances(mask=torch.zeros(200, dtype=torch.bool))


def test_a_report_is_written(fitted: GraphFMClassifier, graph: Graph, tmp_path: Path) -> None:
    """From the graph of the fit, and from a loaded model with a graph."""
    fitted.report(tmp_path / "one.html", max_seconds=0.0)
    fitted.save(tmp_path / "fit")
    loaded = GraphFMClassifier.load(tmp_path / "fit")
    loaded.report(tmp_path / "two.html", graph, max_seconds=0.0)
    for name in ("one.html", "two.html"):
        page = (tmp_path / name).read_text(encoding="utf-8")
        assert "label propagation" in page and "mine" in page
    with pytest.raises(OutputError, match="GFM402"):
        fitted.report(tmp_path / "one.pdf")


def test_the_bank_of_the_fitted_graph_is_built_once(
    model: GraphFM, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not kept in a pickle, nor for another graph."""
    built = []
    make = GraphBank.__init__

    def counted(self: GraphBank, *args: object, **options: object) -> None:
        built.append(self)
        make(self, *args, **options)

    fitted = GraphFMClassifier(model, tune="probe").fit(graph)
    monkeypatch.setattr(GraphBank, "__init__", counted)
    first = fitted.predict_proba()
    assert np.array_equal(fitted.predict_proba(), first) and len(built) == 1
    fitted.embed()
    assert len(built) == 1
    fitted.predict_proba(graph.replace(name="other"))
    assert len(built) == 2
    again = pickle.loads(pickle.dumps(fitted))
    assert again._bank is None and fitted._bank is not None
    np.testing.assert_allclose(again.predict_proba(), first, atol=1e-6)
    assert np.array_equal(fitted.fit(graph).predict_proba(), first)


def test_a_summary_survives_json_and_missing_keys(fitted: GraphFMClassifier) -> None:
    """Keys of other parts of the file are ignored; those of a later version get the default."""
    saved = fitted.summary_.to_json()
    assert FitSummary.from_json({**saved, "graph": "mine"}) == fitted.summary_
    del saved["far_states"], saved["members"]
    old = FitSummary.from_json(saved)
    assert old.far_states is None and old.members == 1 and old.tune == fitted.tune_
