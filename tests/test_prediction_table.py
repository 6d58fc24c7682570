"""Predictions as a table: ids, parts of the split, labels in the type that they came in."""

import csv
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from torch_geometric.data import Data

from graphfm.cli.output import write_table
from graphfm.errors import DataError
from graphfm.estimator import GraphFMClassifier, GraphFMRegressor
from graphfm.estimator.tables import class_table
from graphfm.fitting.answers import Answers
from tests.graphs import synthetic

NUM = 40
EDGES = torch.tensor([list(range(NUM)), [(i + 1) % NUM for i in range(NUM)]])
X = torch.arange(NUM * 3).reshape(NUM, 3).float() % 7
LABELS = {
    "ints": np.where(np.arange(NUM) % 3, 17, 4),
    "int16": (np.arange(NUM) % 2).astype(np.int16),
    "bools": np.arange(NUM) % 3 == 0,
    "text": np.where(np.arange(NUM) % 3, "yes", "no"),
    "objects": np.array([None if i < 5 else i % 2 for i in range(NUM)], dtype=object),
}


def table_of(names: list[str], labels: list[str]) -> pa.Table:
    """A table of made predictions: node i has the class i."""
    eye = np.eye(len(names), dtype=np.float32)
    found = Answers(proba=eye, uncalibrated=eye, novelty=np.full(len(names), np.nan))
    classes = np.array(labels)
    return class_table(names, found, classes, several=False, proba=False, parts=None)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.text("ab=+@\r\n,\"' \udc80", min_size=1), min_size=2, max_size=6, unique=True)
)
def test_as_many_rows_as_nodes(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, names: list[str]
) -> None:
    """Ids and labels come back from the file, one row per node.

    Seen to fail with a bare carriage return in an id, and with text that UTF-8 cannot hold.
    """
    out = tmp_path_factory.mktemp("preds") / f"preds{suffix}"
    wanted = [name.replace("\udc80", r"\udc80") for name in names]
    labels = [f"class {i}" for i in range(len(names))]
    write_table(out, table_of(names, labels))
    if suffix == ".csv":
        with out.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = parquet.read_table(out).to_pylist()
    assert [row["id"] for row in rows] == wanted and [row["label"] for row in rows] == labels


@given(name=st.text(min_size=1, max_size=4).filter(str.isprintable))
@settings(max_examples=40, deadline=None)
def test_safe_csv_has_no_formula(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Seen to fail without the quote."""
    out = tmp_path_factory.mktemp("safe") / "preds.csv"
    for cell in (name, f"={name}", f"@{name}", f"+{name}", f"-{name}"):
        write_table(out, table_of([cell, "other"], ["=1", "b"]), safe=True)
        with out.open(newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file))
        assert row["id"][0] not in "=+-@" and row["id"].lstrip("'") == cell.lstrip("'")
        assert row["label"] == "'=1" and row["probability"] == "1"


@pytest.mark.parametrize("kind", LABELS)
def test_labels_come_back_as_they_came(kind: str, tmp_path: Path) -> None:
    """In classes_, predict, the table and after a save. Seen to fail with text for all of them."""
    y = LABELS[kind]
    graph = Data(x=X, edge_index=EDGES, num_nodes=NUM)
    model = GraphFMClassifier("random", tune="probe").fit(graph, y)
    known = np.array([label is not None for label in y.tolist()])
    wanted = np.array(y[known].tolist()) if kind == "objects" else y
    for fitted in (model, again(model, tmp_path)):
        predicted = fitted.predict(graph)
        assert fitted.classes_.dtype == predicted.dtype == wanted.dtype
        assert fitted.classes_.tolist() == sorted(set(wanted.tolist()))
        assert 0.5 < (predicted == y)[known].mean() <= 1
        table = fitted.predict_table(graph)
        assert table["label"].to_pylist() == predicted.tolist()
        parquet.write_table(table, tmp_path / "preds.parquet")
        assert parquet.read_table(tmp_path / "preds.parquet").equals(table)
        fitted.score(graph, LABELS["text"], mask=np.ones(NUM, dtype=bool))
        assert fitted.classes_.dtype == wanted.dtype  # seen to fail: score(y) changed classes_


def again(model: Any, folder: Path) -> Any:
    model.save(folder / "model")
    return type(model).load(folder / "model")


@pytest.mark.parametrize("kind", ["ints", "bools"])
def test_labels_of_data_and_networkx_keep_their_type(kind: str) -> None:
    """The case of CASES.md: fit(Data(x, edge_index, y)), then predict()."""
    y = LABELS[kind]
    data = Data(x=X, edge_index=EDGES, y=torch.from_numpy(y))
    named = nx.Graph([(f"n{i}", f"n{(i + 1) % NUM}") for i in range(NUM)])
    nx.set_node_attributes(named, {f"n{i}": y[i].item() for i in range(NUM)}, "label")
    for model in (
        GraphFMClassifier("random", tune="probe").fit(data),
        GraphFMClassifier("random", tune="probe").fit(named, target="label"),
    ):
        assert model.classes_.tolist() == sorted(set(y.tolist()))
        assert 0.5 < (model.predict() == y).mean() <= 1


def test_score_is_of_test_nodes_before_and_after_a_save(tmp_path: Path) -> None:
    """Without test nodes it is refused. Seen to fail with training nodes scored after load()."""
    graph = synthetic("mine", num_nodes=60)
    test = torch.arange(60) < 20
    model = GraphFMClassifier("random", tune="probe").fit(graph, train_mask=~test)
    own = model.score(mask=test)
    assert model.score() == own == model.compare()["graphfm"].main
    parts = model.predict_table()["split"].to_pylist()
    assert [part == "test" for part in parts] == test.tolist() and "val" in parts
    loaded = again(model, tmp_path)
    assert loaded.score(graph) == own and loaded.predict_table(graph)["split"].to_pylist() == parts
    every = GraphFMClassifier("random", tune="probe").fit(graph)
    for fitted in (every, again(every, tmp_path / "all")):
        with pytest.raises(DataError, match="that the fit did not use"):
            fitted.score(graph)


def test_a_table_of_numbers_has_intervals_and_a_split() -> None:
    """A number that is not known is null. Seen to fail with NaN in the column novelty."""
    y = X[:, 0].double().clone()
    y[:5] = torch.nan
    data = Data(x=X, edge_index=EDGES, y=y)
    model = GraphFMRegressor("random", tune="probe").fit(data)
    table = model.predict_table(coverage=0.8)
    names = ["id", "prediction", "low", "high", "novelty", "split"]
    assert table.column_names == names and table.num_rows == NUM
    assert table["split"].to_pylist()[:5] == ["unlabelled"] * 5
    np.testing.assert_allclose(table["prediction"].to_numpy(), model.predict())
    chosen = np.arange(NUM) % 4 == 0
    part = model.predict_table(mask=chosen)
    assert part["id"].to_pylist() == [str(i) for i in range(0, NUM, 4)]
