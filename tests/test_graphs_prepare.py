"""Preparing: cached, independent of labels, the same with one process or two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.features import position
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from graphfm.graphs.graph import Graph
from graphfm.graphs.prepare_many import prepare_many

FIELDS = ("rowptr", "col", "x", "pe")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAPHFM_HOME", str(tmp_path))
    return tmp_path


def some_graph(seed: int = 0, num_nodes: int = 40) -> Graph:
    rng = torch.Generator().manual_seed(seed)
    return Graph.from_edges(
        torch.randint(num_nodes, (2, 90), generator=rng),
        num_nodes=num_nodes,
        x=torch.randn(num_nodes, 5, generator=rng),
        y=torch.randint(3, (num_nodes,), generator=rng),
        class_names=("a", "b", "c"),
    )


def assert_same(one: PreparedGraph, other: PreparedGraph) -> None:
    for field in FIELDS:
        assert torch.equal(getattr(one, field), getattr(other, field)), field


def test_the_second_time_comes_from_the_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail (positions were encoded again) with the folder's name made random."""
    graph = some_graph()
    first = prepare(graph)
    monkeypatch.setattr(position, "encode_positions", None)
    assert_same(prepare(graph), first)
    assert len(list((home / "prepared").iterdir())) == 2


def test_without_cache_nothing_is_written(home: Path) -> None:
    assert_same(prepare(some_graph(), cache=False), prepare(some_graph(), cache=False))
    assert not list(home.iterdir())


def test_labels_and_splits_change_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what is read from the cache; seen to fail with the graph's fingerprint as key."""
    graph = some_graph()
    first = prepare(graph)
    monkeypatch.setattr(position, "encode_positions", None)
    garbled = prepare(graph.replace(y=2 - graph.y, train_mask=torch.ones(40, dtype=torch.bool)))
    assert_same(garbled, first)
    assert not torch.equal(garbled.y, first.y)


def test_structure_or_features_that_differ_are_prepared_anew(home: Path) -> None:
    graph = some_graph()
    first = prepare(graph)
    other = prepare(graph.replace(x=graph.x + torch.randn(5) * torch.arange(40)[:, None]))
    assert not torch.equal(other.x, first.x)
    assert torch.equal(other.pe, first.pe)
    directed = some_graph(seed=1)
    assert prepare(directed).col.tolist() == directed.neighbors[1].tolist()


def test_a_given_transform_is_applied(home: Path) -> None:
    """Seen to fail with a transform fitted on the new rows."""
    graph = some_graph()
    fitted = prepare(graph)
    new = some_graph(seed=3)
    prepared = prepare(new, transform=fitted.transform)
    assert torch.equal(prepared.x, fitted.transform.apply(new.x))
    assert not torch.equal(prepared.x, prepare(new).x)


def test_a_graph_without_features_has_none(home: Path) -> None:
    prepared = prepare(some_graph().replace(x=None))
    assert prepared.x.shape == (40, 0)
    assert prepared.pe.shape == (40, position.position_dim())
    assert prepare(some_graph().replace(x=None), transform=prepared.transform).num_features == 0
    assert prepared.spec.num_features == 0


def test_the_cached_transform_is_the_fitted_one(home: Path) -> None:
    graph = some_graph()
    first, second = prepare(graph), prepare(graph)
    rows = torch.randn(7, 5)
    assert torch.equal(first.transform.apply(rows), second.transform.apply(rows))


def test_a_damaged_cache_is_made_again(home: Path) -> None:
    first = prepare(some_graph())
    for file in home.rglob("prepared.safetensors"):
        file.write_bytes(file.read_bytes()[:50])
    assert_same(prepare(some_graph()), first)


def test_two_processes_give_what_one_gives(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And in the order that was asked for; seen to fail with the order of the processes."""
    catalog = Catalog.read()
    ids = ["karate-club", "iris", "davis-women"]
    two = prepare_many(ids, catalog, jobs=2)
    monkeypatch.setenv("GRAPHFM_HOME", str(home / "other"))
    one = prepare_many(ids, catalog)
    assert [p.name for p in two] == ids
    for a, b in zip(one, two, strict=True):
        assert_same(a, b)
