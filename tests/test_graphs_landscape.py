"""The landscape: coordinates that mean what they say, and a picture of the graphs that are here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from scipy import sparse
from typer.testing import CliRunner, Result

from graphfm.cli.landscape import landscape
from graphfm.errors import DataError, GraphFMError, OutputError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.catalog.landscape import (
    RANGES,
    Spot,
    degree_tail,
    draw_landscape,
    feature_signal,
    measure,
    spots,
)
from graphfm.graphs.graph import Graph
from tests.graphs import synthetic

BUILT_IN = ("karate-club", "les-miserables", "iris", "synth-002", "synth-005")


def run(*args: object) -> Result:
    app = typer.Typer()
    app.command()(landscape)
    return CliRunner().invoke(app, [str(a) for a in args])


def graph_of(x: Any, y: list[int]) -> Graph:
    edges = np.array([range(len(y) - 1), range(1, len(y))])
    labels = torch.tensor(y)
    names = tuple(str(c) for c in range(int(labels.max()) + 1))
    return Graph.from_edges(edges, num_nodes=len(y), x=x, y=labels, class_names=names)


@pytest.mark.parametrize("exponent", [2.2, 3.0, 4.0])
def test_the_tail_of_a_power_law_is_that_of_its_exponent(exponent: float) -> None:
    """Seen to fail without the half step: 0.57 for 0.5."""
    u = np.random.default_rng(0).random(200_000)
    degree = np.floor(9.5 * (1 - u) ** (-1 / (exponent - 1)) + 0.5).astype(int)
    assert degree_tail(degree) == pytest.approx(1 / (exponent - 1), abs=0.02)


def test_the_tail_of_equal_degrees_is_short_and_isolated_nodes_do_not_count() -> None:
    assert degree_tail(np.full(50, 4)) == pytest.approx(np.log(4 / 3.5))
    assert degree_tail(np.array([0] * 100 + [4] * 50)) == degree_tail(np.full(50, 4))


@pytest.mark.parametrize(("distance", "right"), [(0.0, 0.5), (1.0, 0.691), (3.0, 0.933)])
def test_the_signal_is_what_the_nearest_mean_gets_right(distance: float, right: float) -> None:
    """Two normal classes, by hand: Phi(distance / 2). Seen to fail with columns not scaled."""
    rng = np.random.default_rng(1)
    y = rng.permutation(np.repeat([0, 1], [3000, 1000]))
    x = rng.standard_normal((4000, 3))
    x[:, 0] += distance * y
    x[:, 1] *= 100  # a column in other units, and one that is constant, change nothing
    x[:, 2] = 7
    found = feature_signal(graph_of(torch.tensor(x, dtype=torch.float32), y.tolist()))
    assert found == pytest.approx(2 * right - 1, abs=0.05)


def test_sparse_features_have_the_signal_of_the_same_dense_ones() -> None:
    """Seen to fail with the values of sparse features not squared for their deviation."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 600)
    x = (rng.random((600, 20)) < 0.1 + 0.2 * (np.arange(20) % 3 == y[:, None])) * rng.random(
        (600, 20)
    )
    x = x.astype(np.float32)
    dense = feature_signal(graph_of(torch.tensor(x), y.tolist()))
    assert 0.2 < dense < 0.9
    assert feature_signal(graph_of(sparse.csr_array(x), y.tolist())) == pytest.approx(dense)


def test_without_features_or_signal_there_is_none() -> None:
    """Seen to fail with the means taken from all nodes: many columns of noise then tell much."""
    assert feature_signal(graph_of(None, [0, 1, 0, 1])) == 0
    noise = synthetic(num_nodes=1000, feature_signal=0.0, num_features=60)
    assert feature_signal(noise) < 0.08


def test_coordinates_follow_what_a_graph_was_drawn_with() -> None:
    """Each axis by itself. Seen to fail with edge homophily in place of the adjusted one."""
    base = {"num_nodes": 2000, "mean_degree": 8.0}
    first = measure(synthetic(**base))
    assert first is not None
    assert first.homophily == pytest.approx((0.8 - 1 / 3) / (2 / 3), abs=0.01)
    assert first.log_nodes == pytest.approx(np.log(2000))
    assert first.log_classes == pytest.approx(np.log(3))
    assert first.imbalance == pytest.approx(0, abs=1e-3)
    heavy = measure(synthetic(**base, degree_exponent=2.2))
    uneven = measure(synthetic(**base, imbalance=8.0))
    clear = measure(synthetic(**base, feature_signal=5.0))
    assert heavy is not None and uneven is not None and clear is not None
    assert heavy.tail > first.tail + 0.2
    assert uneven.imbalance > 0.1
    assert clear.signal > first.signal + 0.3


def test_a_scaled_place_is_in_the_unit_cube() -> None:
    """Graphs beyond the axes count as at the border."""
    tiny = measure(synthetic(num_nodes=20, homophily=1.0))
    assert tiny is not None and len(RANGES) == 6
    assert tiny.scaled.shape == (6,) and tiny.scaled[2] == 0
    assert ((tiny.scaled >= 0) & (tiny.scaled <= 1)).all()


def test_a_graph_without_homophily_has_no_place() -> None:
    assert measure(graph_of(None, [0, 0, 0, 0])) is None
    several = torch.tensor([[0, 1], [1, 1], [1, 0]], dtype=torch.int8)
    graph = Graph.from_edges(
        np.array([[0, 1], [1, 2]]), num_nodes=3, y=several, class_names=("a", "b")
    )
    assert measure(graph) is None


def test_spots_say_where_graphs_are_from_and_what_they_are_for() -> None:
    """Seen to fail with edge homophily in place of the adjusted one: 0.87 for karate-club."""
    catalog = Catalog.read()
    found = spots(catalog, BUILT_IN)
    assert [s.id for s in found] == list(BUILT_IN)
    karate = found[0]
    assert (karate.domain, karate.num_nodes, karate.judged) == ("social", 34, False)
    assert karate.adjusted_homophily == pytest.approx(0.718, abs=0.001)
    assert [s.synthetic for s in found] == [False, False, False, True, True]


def some(number: int, **fields: Any) -> list[Spot]:
    return [
        Spot(
            **{
                "id": f"a-{i}",
                "domain": f"domain {i % 14}",
                "num_nodes": 10 + i,
                "adjusted_homophily": i / number,
                "synthetic": i % 3 == 0,
                "judged": i % 5 == 1,
                **fields,
            }
        )
        for i in range(number)
    ]


def test_the_picture_tells_every_kind_of_graph_apart(tmp_path: Path) -> None:
    """Each legend line counts its graphs. Seen to fail with rare domains left out."""
    out = tmp_path / "picture.svg"
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):  # words stay words
        draw_landscape(some(60), out)
    text = out.read_text()
    assert "40 real and 20 synthetic graphs" in text and "synthetic (20)" in text
    assert "evaluation graphs (12)" in text and "other (" in text
    shown = [int(n) for n in re.findall(r"(?:domain \d+|other) \((\d+)\)", text)]
    assert len(shown) == 10 and sum(shown) == 40


def test_the_picture_is_wide_enough_to_read_and_the_same_again(tmp_path: Path) -> None:
    from matplotlib.image import imread

    first, second = tmp_path / "a.png", tmp_path / "b.png"
    for out in (first, second):
        draw_landscape(some(30), out)
    assert imread(first).shape[1] == 1200
    assert first.read_bytes() == second.read_bytes()


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="GFM125"):
        draw_landscape([], tmp_path / "a.png")
    assert not any(tmp_path.iterdir())


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog of a few graphs, one of which is not here."""
    whole = Catalog.read()
    wanted = {id: whole.entries[id] for id in (*BUILT_IN, "planetoid-cora")}
    part = Catalog(entries=wanted, mixtures={"two": {"include": list(BUILT_IN[:2])}})
    monkeypatch.setattr(Catalog, "read", classmethod(lambda cls: part))
    monkeypatch.setenv("GRAPHFM_DATA", str(tmp_path))
    return tmp_path


def test_the_command_draws_and_counts_what_is_not_here(small: Path) -> None:
    """Seen to fail without the question whether a graph is here: it would be fetched."""
    out = small / "a.png"
    done = run("--out", out, "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert [g["id"] for g in facts["graphs"]] == list(BUILT_IN)
    assert (facts["not_here"], facts["without_homophily"]) == (1, 0)
    assert out.stat().st_size > 10_000 and list(small.glob(".*")) == []
    assert "1 graphs are left out" in done.stderr


def test_the_command_takes_a_mixture_and_replaces_only_when_told(small: Path) -> None:
    out = small / "a.png"
    assert run("--out", out, "--mixture", "two").stdout == f"{out}: 2 graphs\n"
    refused = run("--out", out)
    assert isinstance(refused.exception, OutputError) and "GFM402" in str(refused.exception)
    assert run("--out", out, "--mixture", "two", "--overwrite").exit_code == 0


def test_a_format_that_cannot_be_written_is_refused_first(small: Path) -> None:
    """Seen to fail without the look at the suffix: matplotlib's own error, after a minute."""
    refused = run("--out", small / "a.doc")
    assert isinstance(refused.exception, GraphFMError) and "GFM403" in str(refused.exception)
    assert not any(small.glob("*.doc"))
