"""A continuous target: the fit, its intervals, its scores, and the command line around it."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from typer.testing import CliRunner, Result

from graphfm.baselines.numbers import features_only, mean
from graphfm.benchmark.number_scores import number_scores
from graphfm.cli.main import app
from graphfm.errors import DataError
from graphfm.estimator import GraphFMRegressor
from graphfm.graphs.convert import to_pyg
from graphfm.graphs.graph import Graph
from graphfm.graphs.inputs import as_graph
from graphfm.graphs.readers.export import write_tables
from graphfm.graphs.splits import with_split
from graphfm.model.graphfm import GraphFM
from tests.graphs import small_model, synthetic


@pytest.fixture(scope="module")
def model() -> GraphFM:
    return small_model([])


def numbered(
    seed: int = 0,
    n: int = 300,
    noise: float = 20.0,
    width: int = 5,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
) -> Graph:
    """A number that depends on a node's features and on its community; a tenth is not known."""
    graph = synthetic("income", num_nodes=n, num_features=width, seed=seed, homophily=0.9)
    rng = np.random.default_rng(seed)
    y = 1000 + 50 * graph.x[:, 0].double().numpy() + 100 * graph.y.numpy()
    y += noise * rng.normal(size=n)
    y[rng.permutation(n)[: n // 10]] = np.nan
    return with_split(graph.replace(y=torch.from_numpy(y), class_names=()), shares, seed=seed)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return numbered()


@pytest.fixture(scope="module")
def fitted(model: GraphFM, graph: Graph) -> GraphFMRegressor:
    return GraphFMRegressor(model, tune="probe").fit(graph)


def test_it_explains_what_the_features_and_the_neighbors_say(
    fitted: GraphFMRegressor, graph: Graph
) -> None:
    """R2 of 0.9 could be had with the community known; a node's own features alone give less."""
    own = number_scores(fitted.predict(), graph.y, graph.test_mask)
    floor = number_scores(mean(graph, graph.train_mask), graph.y, graph.test_mask)
    alone = number_scores(features_only(graph, graph.train_mask), graph.y, graph.test_mask)
    assert own.rmse < alone.rmse < floor.rmse
    assert own.r2 == pytest.approx(fitted.score()) and own.r2 > 0.7 > 0.01 > floor.r2


def test_the_unit_of_the_target_does_not_matter(model: GraphFM, graph: Graph) -> None:
    """Cents in place of euros, and an offset of 10^9: predictions follow, and R2 stays.

    Seen to fail with targets made float32 before they are centred: at 10^9 they are 64 apart.
    """
    for tune in ("probe", "decoder"):
        how = {"tune": tune, "max_steps": 3}
        first = GraphFMRegressor(model, **how).fit(graph).predict()
        other = graph.replace(y=100 * graph.y + 1e9)
        second = (GraphFMRegressor(model, **how).fit(other).predict() - 1e9) / 100
        np.testing.assert_allclose(second, first, atol=0.01)


def test_no_label_of_a_test_node_is_read(model: GraphFM, graph: Graph) -> None:
    y = torch.where(graph.test_mask, 3.0, graph.y)
    first, second = (
        GraphFMRegressor(model, tune="auto", max_steps=4).fit(g).answer(coverage=0.8)
        for g in (graph, graph.replace(y=y))
    )
    assert np.array_equal(first.values, second.values) and np.array_equal(first.low, second.low)


def test_intervals_keep_their_promise(model: GraphFM) -> None:
    """On average over 12 graphs of 200 test nodes, 0.8 within 4 points; seen: 0.81.

    Its own standard error is 2 points, of 75 calibration nodes a graph. Seen to fail with the
    residuals of the training nodes, which hold 0.53: 60 features and 150 nodes overfit.
    """
    kept = []
    for seed in range(12):
        graph = numbered(seed, n=500, noise=60.0, width=60, shares=(0.3, 0.3, 0.4))
        low, high = GraphFMRegressor(model, tune="probe").fit(graph).predict_interval(coverage=0.8)
        known = (graph.test_mask & graph.labelled).numpy()
        y = graph.y.numpy()
        kept.append(((low <= y) & (y <= high))[known].mean())
    assert abs(np.mean(kept) - 0.8) < 0.04


def test_too_few_validation_nodes_promise_nothing(
    model: GraphFM, graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    few = torch.zeros_like(graph.val_mask)
    few[graph.val_mask.nonzero().flatten()[:5]] = True
    with caplog.at_level(logging.WARNING):
        fitted = GraphFMRegressor(model, tune="probe").fit(
            graph, train_mask=graph.train_mask, val_mask=few
        )
        low, high = fitted.predict_interval()
    assert np.isinf(low).all() and np.isinf(high).all()
    assert "too few validation nodes to calibrate intervals" in caplog.text
    assert "at least 9 calibration nodes" in caplog.text
    with pytest.raises(DataError, match="GFM180"):
        fitted.predict_interval(coverage=1.0)


def test_an_ensemble_is_the_mean_and_is_saved(model: GraphFM, graph: Graph, tmp_path: Path) -> None:
    none = torch.zeros_like(graph.val_mask)  # so that the last step is kept
    masks = {"train_mask": graph.train_mask, "val_mask": none}
    how = {"tune": "decoder", "max_steps": 3}
    both = GraphFMRegressor(model, ensemble=2, **how).fit(graph, **masks)
    assert both.members_ == 2
    both.save(tmp_path / "fit")
    loaded = GraphFMRegressor.load(tmp_path / "fit")
    np.testing.assert_allclose(loaded.predict(graph), both.predict(), rtol=1e-6)
    one = GraphFMRegressor(model, **how).fit(graph, **masks).predict()
    assert 0 < np.abs(both.predict() - one).max() < 50


def test_all_targets_alike_are_refused(model: GraphFM, graph: Graph) -> None:
    with pytest.raises(DataError, match="GFM132.*number"):
        GraphFMRegressor(model).fit(graph.replace(y=torch.full_like(graph.y, 7.0)))
    with pytest.raises(DataError, match="GFM118.*float64"):
        graph.replace(y=torch.full_like(graph.y, torch.inf))
    assert as_graph(to_pyg(graph)).task.kind == "regress"


def test_scores_are_scikit_learns(graph: Graph) -> None:
    rng = np.random.default_rng(3)
    y = graph.y.numpy() + 1e6
    values = y + 30 * rng.normal(size=len(y))
    known = (graph.test_mask & graph.labelled).numpy()
    own = number_scores(values, torch.from_numpy(y), graph.test_mask)
    assert own.rmse == pytest.approx(root_mean_squared_error(y[known], values[known]))
    assert own.mae == pytest.approx(mean_absolute_error(y[known], values[known]))
    assert own.r2 == pytest.approx(r2_score(y[known], values[known]))
    assert own.num_nodes == known.sum()
    for name, (low, high) in own.bootstrap.items():
        assert low < getattr(own, name) < high
    low, high = own.bootstrap["mae"]  # a mean of n terms: 1.96 standard errors either side
    errors = np.abs(values - y)[known]
    assert high - low == pytest.approx(2 * 1.96 * errors.std() / len(errors) ** 0.5, rel=0.15)
    with pytest.raises(DataError, match="GFM131"):
        number_scores(values, torch.full_like(graph.y, torch.nan), graph.test_mask)


def ran(*args: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in args], prog_name="graphfm")
    assert result.exit_code == code, result.stderr
    return result


@pytest.fixture(scope="module")
def folder(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tables = tmp_path_factory.mktemp("tables") / "income"
    write_tables(graph, tables)
    return tables


@pytest.fixture(scope="module")
def saved(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("fit") / "model"
    args = ("finetune", "--graph", folder, "--target", "label", "--tune", "probe", "--out", out)
    return out, ran(*args)


def test_the_command_line_fits_a_number(saved: tuple[Path, Result]) -> None:
    out, output = saved
    lines = output.stdout.splitlines()
    assert lines[1].split() == ["method", "RMSE", "95%", "interval", "MAE", "R2"]
    first = [line.split("  ")[0] for line in lines[2:]]
    assert first == ["graphfm", "mean", "features-only ridge regression"]
    assert "a continuous target" in output.stderr and "(requested: 90%)" in output.stderr
    kept = json.loads((out / "split.json").read_text())
    own = json.loads((out / "config.json").read_text())["estimator"]
    assert own["input"]["task"] == "regress"
    assert kept["test"]["graphfm"]["rmse"] < kept["test"]["mean"]["rmse"] / 1.5


def test_predict_writes_intervals_and_evaluate_scores_them(
    saved: tuple[Path, Result], folder: Path, graph: Graph, tmp_path: Path
) -> None:
    """Predictions of the file are those that evaluate scores. Seen to fail with low for high."""
    out, _ = saved
    ran("predict", "--model", out, "--graph", folder, "--out", tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "prediction", "low", "high", "novelty", "split"]
    assert [row["id"] for row in rows] == list(graph.ids())
    low, value, high = (
        np.array([float(r[c]) for r in rows]) for c in ("low", "prediction", "high")
    )
    assert (low < value).all() and (value < high).all()
    output = json.loads(ran("evaluate", "--model", out, "--graph", folder, "--json").stdout)
    own = number_scores(value, graph.y, graph.test_mask)
    assert output["rmse"] == pytest.approx(own.rmse, rel=1e-4)
    assert output["mean"]["r2"] < 0.01 < output["r2"]
    assert output["intervals"]["coverage"] > 0.75
    text = ran("evaluate", "--model", out, "--graph", folder).stdout
    assert "predicting the mean" in text and "RMSE" in text


def test_the_task_may_be_said(saved: tuple[Path, Result], folder: Path, tmp_path: Path) -> None:
    """Fractions are no classes; whole numbers are classes unless --task regress is given."""
    out, _ = saved
    asked = ("finetune", "--graph", folder, "--target", "label", "--out", tmp_path / "m")
    refused = ran(*asked, "--task", "classify", code=3).stderr
    assert "GFM118" in refused and "--task regress" in refused and "line" in refused
    assert "GFM134" in ran("report", out, "--graph", folder, code=3).stderr
    done = ran("predict", "--model", out, "--graph", folder, "--out", tmp_path / "p.csv", "--proba",
               code=4)  # fmt: skip
    assert "needs a model of classes" in done.stderr
    nodes = (folder / "nodes.csv").read_text().splitlines()
    place = nodes[0].replace('"', "").split(",").index("label")
    for i, line in enumerate(nodes[1:], start=1):
        cells = line.split(",")
        cells[place] = str(round(float(cells[place]) / 50)) if cells[place] else ""
        nodes[i] = ",".join(cells)
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "nodes.csv").write_text("\n".join(nodes))
    (tmp_path / "whole" / "edges.csv").write_bytes((folder / "edges.csv").read_bytes())
    asked = ("finetune", "--graph", tmp_path / "whole", "--target", "label", "--dry-run")
    assert "classes" in ran(*asked).stdout
    assert "a number" in ran(*asked, "--task", "regress").stdout
    stats = ran("datasets", "stats", folder, "--target", "label").stdout
    assert "a number, known for 270 nodes" in stats
