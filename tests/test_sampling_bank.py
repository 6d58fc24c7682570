"""GraphBank: its graphs end to end, on any device."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphfm.errors import DataError
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.features.transform import FeatureTransform
from graphfm.graphs.spec import TaskSpec
from graphfm.sampling.bank import GraphBank, stable_key
from tests.graphs import batch_of, three_graphs


def prepared(name: str, num_nodes: int, num_features: int, seed: int) -> PreparedGraph:
    """Random structure and random numbers: the bank checks neither."""
    rng = torch.Generator().manual_seed(seed)
    degree = torch.randint(0, 4, (num_nodes,), generator=rng)
    rowptr = torch.cat([torch.zeros(1, dtype=torch.int64), degree.cumsum(0)])
    return PreparedGraph(
        name=name,
        rowptr=rowptr,
        col=torch.randint(0, num_nodes, (int(rowptr[-1]),), generator=rng),
        x=torch.randn(num_nodes, num_features, generator=rng),
        pe=torch.randn(num_nodes, 6, generator=rng),
        y=None if seed % 3 == 0 else torch.randint(0, 2, (num_nodes,), generator=rng),
        train_mask=None,
        val_mask=None,
        test_mask=None,
        task=TaskSpec(num_classes=2),
        class_names=("0", "1"),
        node_ids=None,
        transform=FeatureTransform.fit(None),
    )


small_graphs = st.lists(
    st.tuples(st.integers(1, 30), st.integers(0, 5), st.integers(0, 99)), min_size=1, max_size=6
).map(lambda rows: [prepared(f"g{i}", *row) for i, row in enumerate(rows)])


@settings(max_examples=40, deadline=None)
@given(small_graphs)
def test_a_bank_is_its_graphs_end_to_end(graphs):
    """Seen to fail with the edges of earlier graphs left out of ``rowptr``."""
    bank = GraphBank(graphs)
    assert len(bank) == len(graphs) and bank.num_nodes == sum(g.num_nodes for g in graphs)
    assert bank.col.dtype == torch.int32
    for i, graph in enumerate(graphs):
        own = slice(bank.offset[i], bank.offset[i + 1])
        for v in range(graph.num_nodes):
            row = bank.col[bank.rowptr[own][v] : bank.rowptr[own.start + v + 1]]
            wanted = graph.col[graph.rowptr[v] : graph.rowptr[v + 1]]
            assert (row - bank.offset[i]).tolist() == wanted.tolist()
        assert torch.equal(bank.pe[own], graph.pe) and torch.equal(bank.x[graph.name], graph.x)
        assert (graph.name in bank.y) == (graph.y is not None)
        assert bank.keys[i] == int(bank.graph_key[i]) == stable_key(graph.name)
    tensors = [bank.rowptr, bank.col, bank.graph_key, bank.pe, *bank.x.values(), *bank.y.values()]
    assert bank.num_bytes == sum(t.numel() * t.element_size() for t in tensors)


def test_features_of_the_cache_are_not_copied():
    """In float32 on a CPU; seen to fail with ``x.clone()``."""
    graphs = three_graphs()
    bank = GraphBank(graphs)
    assert all(bank.x[g.name].data_ptr() == g.x.data_ptr() for g in graphs)


def test_names_must_differ():
    graph = three_graphs()[0]
    with pytest.raises(DataError, match="GFM119"):
        GraphBank([graph, graph])


def test_a_bank_moves_and_the_old_one_stays():
    """Every tensor moves. ``meta`` holds no values, so a forgotten tensor would be on the CPU."""
    bank = GraphBank(three_graphs())
    moved = bank.to("meta")
    for tensor in (moved.rowptr, moved.col, moved.pe, moved.graph_key, moved.x["alpha"]):
        assert tensor.is_meta
    assert moved.y["alpha"].is_meta and moved.nbytes == bank.nbytes
    assert not bank.x["alpha"].is_meta and bank.device.type == "cpu"


@pytest.mark.gpu
def test_a_batch_is_the_same_on_cuda():
    graphs = three_graphs()
    there = batch_of(GraphBank(graphs, device="cuda"), [0, 1, 2])
    here = batch_of(GraphBank(graphs), [0, 1, 2])
    assert there.ptr == here.ptr and there.pe.is_cuda and all(x.is_cuda for x in there.x)
    for got, wanted in zip((*there.x, there.pe), (*here.x, here.pe), strict=True):
        assert torch.equal(got.cpu(), wanted)
    assert torch.equal(there.neighbors.cpu(), here.neighbors)
