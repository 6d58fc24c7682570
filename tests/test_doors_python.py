"""Tables, arrays and labels that an estimator takes as a user has them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import igraph
import networkx as nx
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from torch_geometric.data import Data, HeteroData, InMemoryDataset
from typer.testing import CliRunner

from graphfm.cli.main import app
from graphfm.errors import DataError
from graphfm.estimator import GraphFMClassifier, GraphFMRegressor
from graphfm.graphs.graph import Graph
from graphfm.graphs.inputs import read_graph
from graphfm.graphs.masks import read_mask
from graphfm.graphs.readers.options import Reading, ReadOptions
from tests.graphs import small_model, synthetic, three_graphs


@pytest.fixture(scope="module")
def trunk() -> Any:
    return small_model(three_graphs())


@pytest.fixture(scope="module")
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Edges and nodes with text ids, two columns and a label."""
    graph = synthetic("mine", num_nodes=60, num_classes=2, seed=3)
    assert graph.y is not None and graph.x is not None
    ids = np.array([f"n{i}" for i in range(60)])
    source, target = graph.edge_index.numpy()
    edges = pd.DataFrame({"source": ids[source], "target": ids[target]})
    nodes = pd.DataFrame({"id": ids, "size": np.asarray(graph.x)[:, 0]})
    nodes["side"] = np.where(graph.y.numpy() == 1, "east", "west")
    nodes["risk"] = np.array(["low", "high"])[graph.y.numpy()]
    return edges, nodes


def test_tables_are_fitted_as_files_are(
    trunk: Any, tables: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    """Failed: "requires y to be passed"."""
    edges, nodes = tables
    for table, name in ((edges, "edges.csv"), (nodes, "nodes.csv")):
        table.to_csv(tmp_path / name, index=False)
    by_file = GraphFMClassifier(trunk, tune="probe").fit(tmp_path, target="risk")
    model = GraphFMClassifier(trunk, tune="probe").fit(edges, nodes=nodes, target="risk")
    expected = by_file.predict_proba()
    np.testing.assert_allclose(model.predict_proba(), expected, atol=1e-5)
    # New tables are read as those of the fit were, whatever they lack or add.
    new = nodes.drop(columns="risk").assign(more=1.0)
    for kind in (lambda t: t, pl.from_pandas):
        found = model.predict_proba(kind(edges), nodes=kind(new))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    swapped = model.predict_proba(edges, nodes=new.assign(side="middle"))
    assert not np.allclose(swapped, expected, atol=1e-3)
    model.save(tmp_path / "model")
    loaded = GraphFMClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(edges, nodes=new), expected, atol=1e-5)


def test_arrays_are_fitted_as_a_graph_is(trunk: Any) -> None:
    """Failed: no such keywords; a SciPy adjacency was taken for rows of features."""
    graph = synthetic("mine", num_nodes=40, num_classes=2, seed=3)
    assert graph.y is not None and graph.x is not None
    edges, y = graph.edge_index.numpy(), graph.y.numpy()
    x = np.asarray(graph.x)
    model = GraphFMClassifier(trunk, tune="probe")
    expected = model.fit(graph).predict_proba()
    for pairs in (edges, edges.tolist(), torch.from_numpy(edges)):
        model.fit(edge_index=pairs, x=x, y=y)
        np.testing.assert_allclose(model.predict_proba(), expected, atol=1e-5)
        found = model.predict_proba(edge_index=pairs, x=x)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert model.embed(edge_index=edges, x=x).shape[0] == 40
    assert model.score(edge_index=edges, x=x, y=y, mask=np.ones(40, bool)) > 0.4
    ones = (np.ones(len(edges.T), np.float32), edges)
    dense = sparse.coo_matrix(ones, shape=(40, 40)).toarray()
    for matrix in (sparse.csr_array(ones, shape=(40, 40)), dense,
                   torch.from_numpy(dense).to_sparse_csr()):  # fmt: skip
        model.fit(adjacency=matrix, x=x, y=y)
        np.testing.assert_allclose(model.predict_proba(), expected, atol=1e-5)
    with pytest.raises(DataError, match=r"GFM105(.|\n)*adjacency=A(.|\n)*toarray"):
        model.fit(sparse.csr_array(ones, shape=(40, 40)), y)
    with pytest.raises(DataError, match=r"GFM116.*y has 39"):
        model.fit(edge_index=edges, x=x, y=y[:-1])
    ends = pd.DataFrame(edges.T, columns=["source", "target"])
    with pytest.raises(DataError, match=r"GFM105(.|\n)*\{id: label\}(.|\n)*to_numpy"):
        model.fit(ends, y)
    assert len(model.fit(ends, dict(enumerate(y))).predict()) == 40
    with pytest.raises(DataError, match="GFM102.*got nothing"):
        model.fit(nodes=ends)
    for wrong in ({"graph": graph, "x": x}, {"node_ids": y}, {"edge_index": edges, "adjacency": x}):
        with pytest.raises(DataError, match="GFM105"):
            model.fit(**wrong)
    with pytest.raises(TypeError, match="targets"):
        model.predict(graph, targets="y")
    with pytest.raises(DataError, match=r"GFM105(.|\n)*edges, nodes"):
        model.predict(nodes=ends)


def test_a_graph_is_made_of_arrays_and_lists() -> None:
    """Failed: AttributeError, ndarray has no attribute is_floating_point."""
    parts = {"x": np.arange(3.0)[:, None], "y": np.array([0, 1, -1], np.int32),
             "train_mask": [True, False, False], "class_names": ("a", "b")}  # fmt: skip
    graph = Graph.from_edges([[0, 1], [1, 2]], num_nodes=3, **parts)
    assert graph.x is not None and graph.x.dtype == torch.float32
    assert graph.y is not None and graph.y.dtype == torch.int64
    options = ReadOptions(nodes={"id": ["0", "1"], "size": [1, 2]})
    assert read_graph({"source": [0], "target": [1]}, options=options).graph.num_features == 1


def test_a_table_named_by_nodes_on_both_sides_is_an_adjacency_matrix(trunk: Any) -> None:
    """Failed: two of its columns were taken for the ends of edges."""
    graph = nx.karate_club_graph()
    table = nx.to_pandas_adjacency(graph)
    read = read_graph(table).graph
    assert (read.num_nodes, read.num_edges, read.directed) == (34, 156, False)
    labels = {node: graph.nodes[node]["club"] for node in graph}
    by_id = GraphFMClassifier(trunk, tune="probe").fit(table, labels)
    by_place = GraphFMClassifier(trunk, tune="probe").fit(table, list(labels.values()))
    np.testing.assert_array_equal(by_id.predict_proba(), by_place.predict_proba())
    square = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 12)))
    assert GraphFMClassifier(trunk, tune="probe").fit(square, [0, 1] * 6).n_features_in_ == 12


def test_all_methods_take_the_same_keywords() -> None:
    for kind in (GraphFMClassifier, GraphFMRegressor):
        for name in ("fit", "predict", "answer", "embed", "score", "compare"):
            assert "given" in inspect.signature(getattr(kind, name)).parameters, name


LABELS: dict[str, Any] = {f"n{i}": label for i, label in enumerate(["a", "b", None, "a", "b"])}


def test_features_beside_edges_may_be_a_table() -> None:
    edges, table = np.array([[0, 1], [1, 2]]), {"id": ["0", "1", "2"], "side": ["a", "b", "a"]}
    for x in (pd.DataFrame(table).set_index("id"), pl.DataFrame(table).drop("id")):
        read = read_graph({"edge_index": edges, "x": x})
        assert [c.name for c in read.plan or ()][-1] == "side"
        assert np.asarray(read.graph.x)[:, -2:].tolist() == [[1, 0], [0, 1], [1, 0]]


EDGE_TABLE = {"source": ["a", "b"], "target": ["b", "c"]}


@pytest.mark.parametrize("kind", ["mapping", "series", "position", "series by position"])
def test_labels_by_id_or_by_position(kind: str) -> None:
    from graphfm.graphs.readers.given_labels import with_labels

    nodes = pd.DataFrame({"id": list(LABELS), "size": range(5)})
    graph = read_graph({"source": ["n0"], "target": ["n1"]}, nodes=nodes).graph
    turned = dict(reversed(LABELS.items()))
    y = {
        "mapping": turned,
        "series": pd.Series(turned),
        "position": list(LABELS.values()),
        "series by position": pd.Series(list(LABELS.values())),
    }[kind]
    found = with_labels(graph, y, task="classify")
    assert found.y is not None
    assert (found.y.tolist(), found.class_names) == ([0, 1, -1, 0, 1], ("a", "b"))
    if kind in ("mapping", "series"):
        turned.pop("n3")
        less = with_labels(graph, turned, task="classify").y
        assert less is not None and less.tolist() == [0, 1, -1, -1, 1]
        with pytest.raises(DataError, match=r"GFM118.*'q'"):
            with_labels(graph, {**turned, "q": "a"}, task="classify")


@pytest.mark.parametrize("gap", ["", "nan", "None", "NA", None, float("nan"), pd.NA])
def test_one_rule_of_missing_labels(gap: Any) -> None:
    """Failed: "", "nan" and "None" were classes."""
    graph = nx.path_graph(3)
    nx.set_node_attributes(graph, dict(enumerate(["a", gap, "b"])), "kind")
    by_attribute = read_graph(graph, target="kind").graph
    vertices = igraph.Graph(edges=[(0, 1), (1, 2)], vertex_attrs={"kind": ["a", gap, "b"]})
    table = {"id": ["0", "1", "2"], "kind": ["a", gap, "b"]}
    for found in (
        by_attribute,
        read_graph(vertices, target="kind").graph,
        read_graph({"source": [0, 1], "target": [1, 2]}, nodes=table, target="kind").graph,
        read_graph({"edge_index": [[0, 1], [1, 2]], "y": np.array(["a", gap, "b"], object)}).graph,
    ):
        assert found.y is not None
        assert (found.y.tolist(), found.class_names) == ([0, -1, 1], ("a", "b"))


def test_minus_one_is_no_label() -> None:
    """The rule of files. Failed: it was a class of NetworkX, and in files after "!x"."""
    graph = nx.path_graph(3)
    for values, classes in (([-1, 1, 2], ("1", "2")), (["!x", "-1", "b"], ("!x", "b"))):
        nx.set_node_attributes(graph, dict(enumerate(values)), "kind")
        found = read_graph(graph, target="kind").graph
        assert found.y is not None and int((found.y == -1).sum()) == 1
        assert found.class_names == classes


def test_attributes_of_networkx_are_those_of_its_graphml(tmp_path: Path) -> None:
    """Failed: arrays and text were dropped, and only an info line said so."""
    graph = nx.path_graph(6)
    for i in range(6):
        graph.nodes[i].update(colour=["red", "blue"][i % 2], weight=str(i / 2), rank=i)
    nx.write_graphml(graph, tmp_path / "g.graphml")
    mine, file = read_graph(graph), read_graph(tmp_path / "g.graphml")
    assert mine.plan == file.plan
    assert [(c.name, c.kind) for c in mine.plan or ()] == [
        ("colour", "category"), ("weight", "number"), ("rank", "number"),
    ]  # fmt: skip
    np.testing.assert_array_equal(np.asarray(mine.graph.x), np.asarray(file.graph.x))
    for i in range(6):
        graph.nodes[i]["x"] = np.array([i, -i], dtype=np.float32)
    assert [c.name for c in read_graph(graph).plan or ()][-2:] == ["x_0", "x_1"]
    graph.nodes[0]["x"] = np.zeros(3)
    assert "x_0" not in [c.name for c in read_graph(graph).plan or ()]


def test_what_is_not_read_is_named(caplog: pytest.LogCaptureFixture) -> None:
    data = Data(x=torch.rand(3, 2), edge_index=torch.tensor([[0], [1]]), pos=torch.rand(3, 2))
    read_graph(data)
    assert "1 fields are not read: pos" in caplog.text
    graph = nx.Graph([(0, 1, {"since": 2020, "id": 3})])
    graph.nodes[0]["tags"] = {"a": 1}
    read_graph(graph)
    assert "1 edge attributes are not read: since" in caplog.text
    assert "lists of several lengths, objects or bytes and are not read: tags" in caplog.text
    read_graph({"edge_index": [[0], [1]], "time": [1]})
    assert "1 arrays are not read: time" in caplog.text
    for thing in (data, {"edge_index": [[0], [1]]}):
        with pytest.raises(DataError, match="GFM104"):
            read_graph(thing, target="y")
        with pytest.raises(DataError, match="GFM105"):
            read_graph(thing, options=ReadOptions(features="a"))


class Dataset(InMemoryDataset):  # type: ignore[misc]
    def __init__(self, *graphs: Data) -> None:
        super().__init__(None)
        self.data, self.slices = self.collate(list(graphs))


def test_a_dataset_of_one_graph_is_this_graph() -> None:
    data = Data(x=torch.rand(3, 2), edge_index=torch.tensor([[0], [1]]))
    assert read_graph(Dataset(data)).graph.fingerprint == read_graph(data).graph.fingerprint
    with pytest.raises(DataError, match=r"GFM102.*2 graphs(.|\n)*dataset\[0\]"):
        read_graph(Dataset(data, data))
    with pytest.raises(DataError, match=r"GFM102.*HeteroData"):
        hetero = HeteroData()
        hetero["a", "to", "a"].edge_index = torch.tensor([[0], [1]])
        read_graph(hetero)
    with pytest.raises(DataError, match=r"GFM118(.|\n)*y=labels"):
        read_graph(Data(edge_index=data.edge_index, y=["a", "b", "a"], num_nodes=3))


@pytest.mark.parametrize(
    "form",
    [
        [True, False, True, False],
        np.array([1, 0, 1, 0]),
        torch.tensor([[True], [False], [True], [False]]),
        [0, 2],
        ["a", "c"],
        pd.Series([True, False, True, False]),
        pd.array([True, False, True, False], dtype="boolean"),
    ],
)
def test_masks_in_every_form(form: Any) -> None:
    mask = read_mask(form, 4, ids=("a", "b", "c", "d"))
    assert mask.tolist() == [True, False, True, False]


def test_masks_that_cannot_be_understood() -> None:
    ids = ("3", "2", "1", "0")
    assert read_mask([7, 9], 4, ids=("7", "8", "9", "10")).tolist() == [True, False, True, False]
    for form, code in (([3, 2], "GFM116"), (["x"], "GFM135"), ([0.5], "GFM116"),
                        ([9], "GFM116"), (np.ones((4, 3), bool), "GFM135")):  # fmt: skip
        with pytest.raises(DataError, match=code):
            read_mask(form, 4, ids=ids)


def test_one_of_several_splits_of_a_file(tmp_path: Path) -> None:
    """Failed: such masks were dropped without a word, and a random split was reported."""
    masks = np.zeros((4, 10), dtype=bool)
    masks[2, 3] = True
    parts = {"edge_index": np.array([[0, 1], [1, 2]]), "y": np.array([0, 1, 0, 1])}
    np.savez(tmp_path / "g.npz", **parts, train_mask=masks, val_mask=masks[:, :1])
    tensors = {key: torch.from_numpy(value) for key, value in parts.items()}
    data = {**tensors, "num_nodes": 4, "train_mask": torch.from_numpy(masks)}
    torch.save(data, tmp_path / "g.pt")
    for name in ("g.npz", "g.pt"):
        path = tmp_path / name
        with pytest.raises(DataError, match=r"GFM135.*10 splits(.|\n)*--split 0 to 9"):
            read_graph(path)
        graph = read_graph(path, options=ReadOptions(split=3)).graph
        assert graph.train_mask is not None and graph.train_mask.tolist() == masks[:, 3].tolist()
        done = CliRunner().invoke(app, ["datasets", "stats", str(path), "--split", "3", "--json"])
        assert json.loads(done.stdout)["splits"]["train"] == 1
        assert read_graph(path, like=Reading(options=ReadOptions())).graph.num_nodes == 4
    with pytest.raises(DataError, match="GFM105"):
        read_graph(EDGE_TABLE, options=ReadOptions(split=3))
