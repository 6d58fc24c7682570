"""Grown graphs (CABAM): homophily, degrees and age are as asked, the same on every machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from graphfm.errors import DataError
from graphfm.graphs.catalog.sources.cabam import Config
from graphfm.graphs.graph import Graph

PLAIN: dict[str, Any] = {
    "seed": 1,
    "num_nodes": 4000,
    "mean_degree": 10,
    "num_classes": 4,
    "homophily": 0.6,
    "num_features": 16,
}
SEEDS = range(6)


def build(**fields: Any) -> Graph:
    return Config(**{**PLAIN, **fields}).build(name="drawn", data=Path())


def degrees(graph: Graph) -> np.ndarray:
    return graph.rowptr.diff().numpy()


def labels(graph: Graph) -> np.ndarray:
    assert graph.y is not None
    return graph.y.numpy()


def homophily(graph: Graph) -> float:
    u, v = graph.edge_index.numpy()
    return float((labels(graph)[u] == labels(graph)[v]).mean())


@pytest.mark.parametrize(
    "fields",
    [
        {"homophily": 0.05},
        {"homophily": 0.6},
        {"homophily": 0.95},
        {"homophily": 0.6, "imbalance": 8},
        {"homophily": 0.3, "degree_exponent": 2.2},
    ],
)
def test_homophily_is_as_asked(fields: dict[str, Any]) -> None:
    """Over seeds, within what drawing each edge by itself gives.

    Seen to fail with the target drawn by degree alone.
    """
    found = [homophily(build(**fields, seed=seed)) for seed in SEEDS]
    wanted = fields["homophily"]
    chance = np.sqrt(wanted * (1 - wanted) / (20_000 * len(SEEDS)))
    assert np.mean(found) == pytest.approx(wanted, abs=0.004 + 4 * chance)


@pytest.mark.parametrize("exponent", [2.3, 3.0, 4.0])
def test_degrees_follow_the_power_law(exponent: float) -> None:
    """By the likelihood of the tail, over seeds.

    The law holds from far beyond the smallest degree, and the graph is finite: hence the width.
    Seen to fail with every node chosen alike, and with the exponent one too large.
    """
    found = []
    for seed in range(3):
        degree = degrees(
            build(num_nodes=30_000, degree_exponent=exponent, num_features=0, seed=seed)
        )
        assert degree.min() >= 4
        tail = degree[degree >= 30]
        found.append(1 + 1 / np.log(tail / 29.5).mean())
    assert np.mean(found) == pytest.approx(exponent, abs=0.12 * exponent)


def test_every_new_node_brings_half_the_mean_degree() -> None:
    """So no node has less. Seen to fail without making up for the first nodes' edges."""
    for mean in (2, 7, 10.6, 40):
        degree = degrees(build(mean_degree=mean, num_nodes=1000))
        assert degree.mean() == pytest.approx(mean, abs=0.05)
        late = np.sort(degree)[40:]  # the first nodes had nobody to be joined to
        assert late.min() >= int(mean / 2)


def test_neither_age_nor_class_follows_the_node_order() -> None:
    """Seen to fail with nodes arriving in the order of their numbers."""
    graph = build(num_nodes=8000)
    degree = degrees(graph)
    assert degree[:4000].mean() == pytest.approx(degree[4000:].mean(), rel=0.1)
    assert np.bincount(labels(graph)[:2000], minlength=4).min() > 400


def test_features_without_signal_say_nothing() -> None:
    """Seen to fail with means that ignore the signal."""
    graph = build(feature_signal=0.0, num_nodes=20_000, mean_degree=2)
    assert graph.x is not None
    x, y = graph.x.double().numpy(), labels(graph)
    means = np.stack([x[y == c].mean(axis=0) for c in range(4)])
    assert np.abs(means).max() < 0.06  # 4 standard errors


def test_hubs_are_joined_to_hubs_as_in_no_block_model() -> None:
    """Old nodes know each other: what growing gives and drawing edges at once does not."""
    graph = build(num_nodes=5000)
    degree = degrees(graph)
    hubs = np.argsort(-degree)[:20]
    inside = np.isin(graph.edge_index.numpy(), hubs).all(axis=0).sum()
    assert inside > 20


def test_the_same_fields_give_the_same_graph_everywhere() -> None:
    """A golden hash. Seen to fail with nodes arriving in the order of their numbers."""
    assert build(num_nodes=800).fingerprint == GOLDEN
    assert build(num_nodes=800, seed=2).fingerprint != GOLDEN


@settings(deadline=None, max_examples=60)
@given(
    num_nodes=st.integers(1, 500),
    mean_degree=st.floats(2, 60),
    num_classes=st.integers(1, 8),
    share=st.floats(0, 1),
    exponent=st.floats(2, 100, exclude_min=True),
    imbalance=st.floats(1, 30),
    seed=st.integers(0, 2**40),
)
def test_whatever_is_asked_for_is_drawn_or_refused(
    num_nodes: int,
    mean_degree: float,
    num_classes: int,
    share: float,
    exponent: float,
    imbalance: float,
    seed: int,
) -> None:
    """No crash, no loop, no repeat, and not more edges lost than is allowed.

    Seen to fail with a class chosen that has no node yet.
    """
    try:
        graph = build(
            num_nodes=num_nodes,
            mean_degree=mean_degree,
            num_classes=num_classes,
            homophily=share,
            degree_exponent=exponent,
            imbalance=imbalance,
            seed=seed,
            num_features=0,
        )
    except DataError as refused:
        assert refused.code == "GFM146"
        return
    assert graph.num_self_loops == 0 and graph.num_duplicates == 0 and not graph.directed
    wanted = num_nodes * mean_degree / 2
    assert abs(wanted - graph.num_edges / 2) <= max(3, 0.06 * wanted, 4 * np.sqrt(num_nodes) / 2)
    assert np.bincount(labels(graph), minlength=num_classes).min() >= 1


@pytest.mark.parametrize(
    "fields", [{"num_nodes": 30, "mean_degree": 40}, {"num_nodes": 3, "mean_degree": 2}]
)
def test_what_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    """Seen to fail without the look at what was lost."""
    with pytest.raises(DataError, match="GFM146"):
        build(**fields)


@pytest.mark.parametrize("fields", [{"mean_degree": 1}, {"degree_exponent": 2.0}, {"mixing": 0.5}])
def test_fields_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        build(**fields)


def test_twenty_thousand_nodes_take_a_second() -> None:
    """400,000 directed edges: 0.5 s."""
    start = time.process_time()
    build(num_nodes=20_000, mean_degree=20)
    assert time.process_time() - start < 6


GOLDEN = "6d0b83bb23000279751e655081d9d91e22576ae5001662ed5968ffab767eb066"
