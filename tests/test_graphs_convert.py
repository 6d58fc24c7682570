"""PyG and NetworkX graphs come in whole, and go out as they came."""

from __future__ import annotations

import logging

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch_geometric.data import Data, HeteroData

from graphfm.errors import DataError
from graphfm.graphs.convert import features, from_networkx, from_pyg, to_pyg
from graphfm.graphs.graph import Graph
from graphfm.graphs.inputs import as_graph
from graphfm.graphs.labels import labels


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), num_nodes=st.integers(1, 30), num_edges=st.integers(0, 60))
def test_data_comes_back_as_it_was(seed: int, num_nodes: int, num_edges: int) -> None:
    """Edges sorted and unique, everything else equal; seen to fail with classes left compacted."""
    rng = np.random.default_rng(seed)
    edges = np.unique(rng.integers(num_nodes, size=(2, num_edges)), axis=1)
    data = Data(
        x=torch.from_numpy(rng.normal(size=(num_nodes, 3)).astype(np.float32)),
        edge_index=torch.from_numpy(edges),
        y=torch.from_numpy(rng.choice([-1, 0, 2, 11], num_nodes)),
        train_mask=torch.from_numpy(rng.random(num_nodes) < 0.5),
        num_nodes=num_nodes,
    )
    back = to_pyg(from_pyg(data))
    for field in ("x", "edge_index", "y", "train_mask"):
        assert torch.equal(back[field], data[field]), field
    assert back.num_nodes == num_nodes
    assert from_pyg(back).fingerprint == from_pyg(data).fingerprint


def test_direction_is_looked_at() -> None:
    both = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    assert not from_pyg(Data(edge_index=both, num_nodes=3)).directed
    assert from_pyg(Data(edge_index=both[:, :3], num_nodes=3)).directed


def test_isolated_nodes_at_the_end_are_kept() -> None:
    data = Data(edge_index=torch.tensor([[0], [1]]), num_nodes=5)
    assert from_pyg(data).num_nodes == 5
    assert from_pyg(Data(x=torch.rand(2, 2))).num_edges == 0


@pytest.mark.parametrize("storage", ["dense", "coo", "csr"])
def test_wide_features_of_zeros_become_csr(storage: str) -> None:
    """Seen to fail with SPARSE_COLUMNS above 300."""
    x = torch.zeros(10, 300)
    x[torch.arange(10), torch.arange(10) * 7] = 2.0
    given = {"dense": x, "coo": x.to_sparse(), "csr": sparse.csr_array(x.numpy())}[storage]
    found = features(given)
    assert isinstance(found, sparse.csr_array)
    assert (found.toarray() == x.numpy()).all()


def test_narrow_or_full_features_stay_dense() -> None:
    assert isinstance(features(torch.zeros(10, 3)), torch.Tensor)
    assert isinstance(features(sparse.csr_array(np.eye(10, 3))), torch.Tensor)
    assert isinstance(features(torch.rand(10, 300)), torch.Tensor)


@pytest.mark.parametrize("num_nodes", [3, 200])
def test_an_identity_matrix_is_no_feature(num_nodes: int) -> None:
    """Seen to fail with `_is_identity` returning False."""
    assert features(torch.eye(num_nodes)) is None
    assert features(torch.eye(num_nodes).to_sparse()) is None
    assert features(torch.eye(num_nodes).flip(0)) is not None
    assert features(torch.empty(4, 0)) is None


def test_several_labels_are_kept_as_such() -> None:
    y = torch.tensor([[0.0, 1.0], [1.0, 1.0], [float("nan"), 0.0]])
    graph = from_pyg(Data(edge_index=torch.empty(2, 0, dtype=torch.long), y=y, num_nodes=3))
    assert graph.task.kind == "multilabel"
    assert graph.y.tolist() == [[0, 1], [1, 1], [-1, 0]]
    assert graph.y.dtype == torch.int8


def test_labels_of_any_shape_and_type_are_classes() -> None:
    """Seen to fail with a column vector taken for one label of several."""
    for y in (torch.tensor([[3], [5], [3]]), torch.tensor([3.0, 5.0, 3.0]), np.array([3, 5, 3])):
        codes, names = labels(y)
        assert codes.tolist() == [0, 1, 0]
        assert names == ("3", "5")
    assert labels(torch.tensor([-100, 4]))[0].tolist() == [-1, 0]
    with pytest.raises(DataError, match="GFM118"):
        labels(torch.tensor([0.5, 1.0]), task="classify")


def test_fractions_are_a_continuous_target() -> None:
    """Seen to fail with float32, which has no 20231123.25, and with -1 taken for unlabelled."""
    y, names = labels(np.array([20231123.25, -1.0, np.nan]))
    assert y.tolist()[:2] == [20231123.25, -1.0] and bool(y[2].isnan()) and names == ()
    whole, _ = labels(np.array([3, 5, -1]), task="regress")
    assert whole.tolist() == [3.0, 5.0, -1.0]
    for bad in (np.array([[0.5, 1.0], [1.0, 0.0]]), np.array([0.5, np.inf])):
        with pytest.raises(DataError, match="GFM118"):
            labels(bad)


def test_one_of_several_splits_is_chosen() -> None:
    """Failed: such masks were dropped without a word, and a random split was reported."""
    data = Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2)
    data.train_mask = torch.zeros(2, 10, dtype=torch.bool)
    data.train_mask[1, 3] = True
    with pytest.raises(DataError, match=r"GFM135.*10 splits(.|\n)*split=0"):
        from_pyg(data)
    assert from_pyg(data, split=3).train_mask.tolist() == [False, True]
    with pytest.raises(DataError, match="no number 10"):
        from_pyg(data, split=10)
    data.train_mask = data.train_mask[:, 3:4]
    assert from_pyg(data).train_mask.tolist() == [False, True]


def test_heterogeneous_data_and_other_things_are_refused() -> None:
    data = HeteroData()
    data["a", "to", "a"].edge_index = torch.tensor([[0], [1]])
    for thing in (data, {"weights": {}}, object()):
        with pytest.raises(DataError, match="GFM102"):
            as_graph(thing)


def test_node_ids_survive() -> None:
    """Tuples, gaps, and 1 beside "1"; seen to fail with str() used for all."""
    grid = nx.grid_2d_graph(2, 3)
    assert from_networkx(grid).node_ids == tuple(str(node) for node in grid)
    gaps = nx.Graph([(10, 70), (70, -3)])
    graph = from_networkx(gaps)
    named = {(graph.ids()[a], graph.ids()[b]) for a, b in graph.edge_index.t().tolist()}
    assert named == {("10", "70"), ("70", "10"), ("70", "-3"), ("-3", "70")}
    assert from_networkx(nx.Graph([(1, "1")])).node_ids == ("1", "'1'")


def test_attributes_become_features_and_target(caplog: pytest.LogCaptureFixture) -> None:
    """A missing target is unlabelled; seen to fail with the target left among the features."""
    graph = nx.path_graph(4)
    nx.set_node_attributes(graph, {0: 1.0, 1: 3.0, 3: 5.0}, "age")
    nx.set_node_attributes(graph, {0: True, 1: False, 2: True, 3: True}, "member")
    nx.set_node_attributes(graph, dict.fromkeys(graph, "text"), "remark")
    nx.set_node_attributes(graph, {0: 7, 2: 12, 3: 7}, "team")
    with caplog.at_level(logging.WARNING):
        read = as_graph(graph, target="team")
    assert read.class_names == ("7", "12")
    assert read.y.tolist() == [0, -1, 1, 0]
    assert read.x.tolist() == [[1, 0, 1, 1], [3, 0, 0, 1], [3, 1, 1, 1], [5, 0, 1, 1]]
    assert "1 columns have missing values" in caplog.text and "age 25.0%" in caplog.text
    with pytest.raises(DataError, match=r"GFM104(.|\n)*age, member, remark, team"):
        as_graph(graph, target="colour")


def test_directed_and_multi_graphs() -> None:
    """Seen to fail with directed=False for every graph."""
    assert from_networkx(nx.DiGraph([(0, 1)])).edge_index.tolist() == [[0], [1]]
    assert from_networkx(nx.Graph([(0, 1)])).num_edges == 2
    multi = from_networkx(nx.MultiDiGraph([(0, 1), (0, 1), (1, 2)]))
    assert (multi.num_edges, multi.num_duplicates) == (2, 1)
    with pytest.raises(DataError, match="GFM101"):
        from_networkx(nx.Graph())


def test_as_graph_takes_what_users_have() -> None:
    graph = as_graph("karate-club")
    assert as_graph(graph) is graph
    assert as_graph(to_pyg(graph)).fingerprint == graph.fingerprint
    known = nx.karate_club_graph()
    assert isinstance(as_graph(known, target="club"), Graph)
    assert as_graph(known, target="club").fingerprint == graph.fingerprint
