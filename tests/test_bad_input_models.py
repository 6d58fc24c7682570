"""Bad input, the rows about tensors, features and models: see test_bad_input_tables.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch_geometric.data import Batch, Data

from graphfm.errors import DataError
from graphfm.graphs.convert import from_pyg
from graphfm.graphs.features.transform import FeatureTransform
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.files import read_file
from graphfm.model.nn.attention import packed_attention
from graphfm.sampling.neighbors import row_keys, sample_neighbors
from tests.bad_input import Case, Row, estimator, refused, rows_of
from tests.graphs import synthetic

ROOT = Path(__file__).resolve().parents[1]


def made(edges: Any, num_nodes: int) -> Graph:
    return Graph.from_edges(np.array(edges), num_nodes=num_nodes)


def row_07_edge_beyond_the_nodes(case: Case) -> None:
    refused("GFM113", "num_nodes=3", "7 -> 1", call=lambda: made([[0, 7], [1, 1]], 3))


def row_08_negative_node(case: Case) -> None:
    refused("GFM114", "0 -> -1", call=lambda: made([[0, 1], [-1, 2]], 3))


def row_09_edge_index_on_its_side(case: Case) -> None:
    refused(
        "GFM115", "transposed", "edge_index.t()", call=lambda: made([[0, 1], [1, 2], [2, 0]], 3)
    )


def row_10_edge_index_of_fractions(case: Case) -> None:
    """Seen to fail with .long(), which made 0.5 a 0."""
    data = Data(edge_index=torch.tensor([[0.0], [1.0]]), num_nodes=2)
    assert from_pyg(data).edge_index.tolist() == [[0], [1]]
    case.said("edge_index holds torch.float32")
    for bad in (0.5, float("nan"), float("inf")):
        data = Data(edge_index=torch.tensor([[bad], [1.0]]), num_nodes=2)
        with pytest.raises(DataError, match="GFM11[45]"):
            from_pyg(data)


def row_19_one_node(case: Case) -> None:
    one = Graph.from_edges(
        np.empty((2, 0), dtype=np.int64), num_nodes=1, x=torch.rand(1, 6), y=torch.tensor([0]),
        class_names=("a",),
    )  # fmt: skip
    refused("GFM131", "at least 2 labelled", call=lambda: estimator().fit(one))
    fitted = estimator().fit(synthetic("many"))
    assert np.isfinite(fitted.predict_proba(one)).all()


def row_21_a_hub(case: Case) -> None:
    """A million neighbors: 16 are read, always the same, all of them real."""
    n = 1_000_001
    hub = Graph.from_edges(np.stack([np.zeros(n - 1, dtype=np.int64), np.arange(1, n)]),
                           num_nodes=n, directed=False)  # fmt: skip
    rowptr, col = hub.neighbors
    nodes = torch.tensor([0, 5])
    key = row_keys(nodes, torch.zeros(2, dtype=torch.int64), seed=0, epoch=0)
    found, mask = sample_neighbors(rowptr, col, nodes, key, 16)
    assert mask.sum(dim=1).tolist() == [16, 1] and len(found[0].unique()) == 16
    assert torch.equal(found, sample_neighbors(rowptr, col, nodes, key, 16)[0])


@pytest.mark.parametrize("width", [1, 7, 10_000])
def test_27_any_number_of_features(width: int) -> None:
    graph = synthetic("wide", num_nodes=60, num_features=6)
    x = np.random.default_rng(0).normal(size=(60, width)).astype(np.float32)
    fitted = estimator().fit(graph.replace(x=torch.from_numpy(x)))
    assert np.isfinite(fitted.predict_proba()).all()


def row_21_a_hub_in_a_file(case: Case) -> None:
    lines = [f"hub,n{i}" for i in range(100_000)]
    graph = case.read("\n".join(["source,target", *lines]), directed=False)
    assert graph.num_nodes == 100_001
    case.said("node 'hub' has 100,000 neighbors; the model reads a fixed sample of them")


def row_23_missing_features_in_arrays(case: Case) -> None:
    """Dense and sparse alike. Seen to fail with NaN left to Graph, which refuses it (GFM117)."""
    x = np.zeros((200, 200), dtype=np.float32)
    x[:, 0], x[3, 0], x[5, 7] = 2, np.nan, np.nan
    edges = np.array([[0, 1], [1, 2]])
    np.savez(case.folder / "dense.npz", edge_index=edges, x=x)
    csr = sparse.csr_array(x)
    np.savez(case.folder / "sparse.npz", edge_index=edges, x_data=csr.data, x_indices=csr.indices,
             x_indptr=csr.indptr, x_shape=csr.shape)  # fmt: skip
    dense, other = (read_file(case.folder / name).graph for name in ("dense.npz", "sparse.npz"))
    assert dense.num_features == 202 and (dense.x != other.x).nnz == 0
    row = dense.x[[3]].toarray()[0]
    assert row[0] == 2 and row[200] == 1 and row.sum() == 3
    case.said("0.0% of the feature values are missing", "2 columns mark them")


def row_28_a_million_sparse_columns(case: Case) -> None:
    """40 rows; dense this would be 160 MB, its covariance 8 TB."""
    rng = np.random.default_rng(0)
    rows, columns = np.repeat(np.arange(40), 30), rng.integers(10**6, size=1200)
    x = sparse.coo_array((np.ones(1200, np.float32), (rows, columns)), shape=(40, 10**6)).tocsr()
    out = FeatureTransform.fit(x).apply(x)
    assert out.shape[0] == 40 and out.shape[1] <= 40 and out.isfinite().all()
    np.savez(case.folder / "g.npz", edge_index=np.stack([np.arange(39), np.arange(1, 40)]),
             y=np.arange(40) % 2, x_data=x.data, x_indices=x.indices, x_indptr=x.indptr,
             x_shape=x.shape)  # fmt: skip
    graph = read_file(case.folder / "g.npz").graph
    assert graph.num_features == 10**6
    assert np.isfinite(estimator().fit(graph).predict_proba()).all()


def row_30_no_labels(case: Case) -> None:
    """Embedding a graph whose labels are all missing works; learning from it does not."""
    graph = synthetic("bare")
    refused("GFM131", call=lambda: estimator().fit(graph.replace(y=None, class_names=())))
    refused("GFM131", call=lambda: estimator().fit(graph.replace(y=torch.full((120,), -1))))
    fitted = estimator().fit(graph)
    bare = graph.replace(y=None, class_names=())
    assert np.array_equal(fitted.predict_proba(bare), fitted.predict_proba(graph))


def row_32_one_class(case: Case) -> None:
    graph = synthetic("one")
    refused("GFM132", call=lambda: estimator().fit(graph.replace(y=torch.zeros_like(graph.y))))


def row_37_empty_masks(case: Case) -> None:
    graph = synthetic("empty")
    none = torch.zeros(120, dtype=torch.bool)
    refused("GFM131", call=lambda: estimator().fit(graph, train_mask=none))
    fitted = estimator().fit(graph, train_mask=~none, val_mask=none)
    assert fitted.val_score_ is None
    refused("GFM133", call=lambda: fitted.score(graph, mask=none))


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_41_batched_graphs_without_features_stay_aligned(sizes: list[int], seed: int) -> None:
    """Isolated nodes at the end of each graph count. Seen to fail with num_nodes = max + 1."""
    rng = np.random.default_rng(seed)
    parts = []
    for size in sizes:
        edges = torch.from_numpy(rng.integers(max(size - 1, 1), size=(2, 3)))
        parts.append(Data(edge_index=edges, num_nodes=size, y=torch.arange(size)))
    graph = from_pyg(Batch.from_data_list(parts))
    assert graph.num_nodes == sum(sizes)
    start = np.cumsum([0, *sizes])
    pairs = {(int(a + s), int(b + s)) for p, s in zip(parts, start, strict=False)
             for a, b in p.edge_index.t().tolist()}  # fmt: skip
    found = {tuple(pair) for pair in graph.edge_index.t().tolist()}
    assert pairs <= found


def row_42_small_integers_do_not_overflow(case: Case) -> None:
    """Codes of 32 bits times N would: 3e9 > 2^31. Seen to fail with int32 keys."""
    graph = Graph.from_edges(np.array([[0, 70_000], [70_000, 0]], dtype=np.int32), num_nodes=70_001)
    assert graph.rowptr.dtype == graph.col.dtype == torch.int64
    lines = [f"{i},{i + 1},1" for i in range(70_000)]
    case.read("\n".join(["source,target,weight", *lines, "0,1,2"]))
    case.said("1 edges were listed with several weights")


def row_62_a_graph_without_a_token(case: Case) -> None:
    """Queries without keys give zeros and no NaN, and so do their gradients."""
    q = torch.randn(3, 2, 4, requires_grad=True)
    k = torch.randn(2, 2, 4, requires_grad=True)
    out = packed_attention(q, k, k, [0, 2, 3], [0, 2, 2])
    out.sum().backward()
    assert (out[2] == 0).all() and q.grad.isfinite().all() and k.grad.isfinite().all()


@pytest.mark.parametrize("row", rows_of(globals()))
def test_bad_input(row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row(Case(tmp_path, caplog))
