"""The leakage audit: what it finds, and what it leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse

from graphfm.graphs.audit.audit import audit, audit_ids
from graphfm.graphs.audit.overlap import Comparison, compare
from graphfm.graphs.audit.signatures import signatures
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.convert import from_networkx
from graphfm.graphs.graph import Graph
from tests import audit_plants
from tests.graphs import synthetic

CLEAN = [  # pairs of the bundle that share nothing, small and of all kinds
    *[("polblogs", id) for id in ("wiki-chameleon", "webkb-texas", "planetoid-cora", "yeast-ppi")],
    *[("fb100-reed98", id) for id in ("fb100-caltech36", "wiki-chameleon", "yeast-ppi", "nba")],
    *[("tu-mutag", id) for id in ("tu-bzr", "tu-cox2", "tu-msrc-9", "planetoid-cora")],
    *[("acm-3025", id) for id in ("planetoid-cora", "citationfull-cora-ml", "wiki-tadw")],
    *[("twitch-ptbr", id) for id in ("twitch-ru", "twitch-zhtw")],
    ("karate", "les-miserables"),
    ("polbooks", "football-ncaa"),
    ("eies", "macaque-social"),
]


@pytest.fixture
def plants() -> ModuleType:
    return audit_plants


def texts(seed: int = 0, num_nodes: int = 600) -> Graph:
    """Papers with 15 words of 400 and a few very cited ones among them."""
    rng = np.random.default_rng(seed)
    edges = nx.powerlaw_cluster_graph(num_nodes, 3, 0.3, seed=seed).edges
    likely = np.arange(1, 401) ** -0.7
    words = [
        rng.choice(400, rng.poisson(15) + 1, p=likely / likely.sum()) for _ in range(num_nodes)
    ]
    x = sparse.lil_array((num_nodes, 400), dtype=np.float32)
    for node, chosen in enumerate(words):
        x[node, chosen] = 1
    return Graph.from_edges(
        np.array(edges).T,
        num_nodes=num_nodes,
        directed=False,
        name=f"texts-{seed}",
        x=sparse.csr_array(x),
        y=torch.from_numpy(rng.integers(0, 3, num_nodes)),
        class_names=("a", "b", "c"),
    )


def said(one: Graph, other: Graph) -> Comparison:
    return compare(signatures(one), signatures(other))


@pytest.mark.parametrize(
    ("plant", "kind", "share"),
    [
        ("renamed", "columns", 0.99),
        ("renamed", "whole", 0.99),
        ("30% of the nodes", "pairs", 0.9),
        ("30% of the nodes, columns in place", "rows", 0.9),
        ("5% of the edges rewired", "columns", 0.99),
        ("20% of the edges rewired", "pairs", 0.9),
        ("1% of the features moved, 5% of the edges", "hubs", 0.3),
        ("other edges, columns in place", "rows", 0.99),
        ("other features", "wl3", 0.5),
        ("other features, 5% of the edges rewired", "hubs", 0.3),
        ("other features, 10% of the edges rewired", "hubs", 0.3),
    ],
)
def test_a_planted_copy_is_found(plants: ModuleType, plant: str, kind: str, share: float) -> None:
    """By the evidence that survives it, and most of its nodes are matched.

    Seen to fail: `pairs` with the ends in the order of nodes and without `align`, `rows` with the
    column left out of the hash.
    """
    graph = texts()
    copy = plants.PLANTS[plant](graph, np.random.default_rng(3))
    result = said(graph, copy)
    assert kind in result.kinds, result
    assert result.shares[1] >= share
    assert result.jaccard is not None
    assert result.jaccard > (0.65 if "rewired" in plant or "of the edges" in plant else 0.95) or (
        "other edges" in plant and result.jaccard < 0.05
    )


def test_the_matched_nodes_are_the_right_ones(plants: ModuleType) -> None:
    """Of a 30% part with renamed nodes and columns: 9 of 10 nodes, each to itself.

    Seen to fail with keys that occur twice taken for one: wrong nodes.
    """
    from graphfm.graphs.audit.matching import align, by_group

    graph = texts()
    keep = plants.part(graph, np.random.default_rng(0))
    copy = plants.copy_of(graph, np.random.default_rng(1), keep=keep)
    place = np.random.default_rng(1).permutation(keep)
    a, b = signatures(graph), signatures(copy)
    match = align(a, b, by_group(a, b, "pairs"))
    assert len(match[0]) > 0.9 * len(keep)
    assert (place[match[1]] == match[0]).all()


def test_signatures_do_not_depend_on_the_order_of_nodes(plants: ModuleType) -> None:
    """Nor, but for `rows`, on that of columns. Seen to fail with the node's number in a hash."""
    graph = texts()
    a = signatures(graph)
    b = signatures(plants.copy_of(graph, np.random.default_rng(0)))
    for kind in a.once:
        same = np.array_equal(a.once[kind][0], b.once[kind][0])
        assert same == (kind != "rows"), kind
    for kind in a.groups:
        assert len(a.groups[kind].keys) and np.array_equal(a.groups[kind].keys, b.groups[kind].keys)
    assert a.whole == b.whole != ""


@pytest.mark.parametrize("plant", ["30% of the nodes", "other features, 5% of the edges rewired"])
def test_the_order_of_two_graphs_does_not_matter(plants: ModuleType, plant: str) -> None:
    graph = texts()
    copy = plants.PLANTS[plant](graph, np.random.default_rng(3))
    there, back = said(graph, copy), said(copy, graph)
    assert set(there.kinds) == set(back.kinds)
    assert there.shares[0] == pytest.approx(back.shares[1], abs=0.05)


@pytest.mark.parametrize(
    "graph",
    [
        texts(),
        synthetic(),
        synthetic(num_features=0),
        from_networkx(nx.karate_club_graph(), name="karate"),
        from_networkx(nx.grid_2d_graph(12, 12), name="grid"),
        synthetic(num_features=0, mean_degree=0.0).replace(x=torch.randn(120, 12)),
    ],
    ids=repr,
)
def test_a_graph_is_found_in_itself(graph: Graph) -> None:
    """With and without features, edges, or anything that tells its nodes apart.

    Seen to fail on the grid without `whole`.
    """
    report = audit({"one": graph}, {"other": graph})
    assert not report.clean
    assert report.overlaps[0].relation == "the same nodes"


@pytest.mark.parametrize("fields", [{}, {"num_features": 0}, {"degree_exponent": 2.1}])
def test_graphs_drawn_alike_share_nothing(fields: dict[str, object]) -> None:
    """Same parameters, other seeds, 15 pairs. Seen to fail with no edges expected by chance."""
    drawn = {
        f"g{seed}": synthetic(f"g{seed}", seed=seed, num_nodes=600, mean_degree=6.0, **fields)
        for seed in range(6)
    }
    for one in drawn:
        others = {id: graph for id, graph in drawn.items() if id > one}
        report = audit({one: drawn[one]}, others)
        assert report.clean, report.overlaps


def test_a_graph_with_the_same_degrees_is_another_graph(plants: ModuleType) -> None:
    """Edges and rows drawn again: what is left is what every node shares by chance.

    Seen to fail with MIN_BEYOND = 0.3 and MIN_CYCLES = 1.
    """
    for seed in range(5):
        graph = texts(seed)
        assert not said(graph, plants.redrawn(graph, np.random.default_rng(seed))).kinds


def test_features_that_say_little_are_no_evidence() -> None:
    """One-hot rows, and positions on a grid: every row occurs once in each graph, in all of them.

    Seen to fail with MIN_PRODUCT_BITS = 0.
    """
    one_hot = torch.eye(5).repeat(45, 1)
    grid = torch.cartesian_prod(torch.arange(15.0), torch.arange(15.0)) + 1
    for x in (one_hot, grid):
        one, other = (
            synthetic(f"s{seed}", seed=seed, num_nodes=225, num_features=0).replace(x=x)
            for seed in (1, 2)
        )
        assert audit({"one": one}, {"other": other}).clean


@pytest.mark.parametrize(("num_shared", "is_found"), [(15, False), (25, True), (100, True)])
def test_two_percent_of_equal_rows_are_an_overlap(num_shared: int, is_found: bool) -> None:
    """Rows of much surprise in two graphs of 1,000 nodes that share no edge.

    Seen to fail with MIN_ROW_SHARE at 0.5 and at 0.01.
    """
    one, other = (
        synthetic(f"s{seed}", seed=seed, num_nodes=1000, num_features=0) for seed in (1, 2)
    )
    x = [torch.randn(1000, 30, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    x[1][-num_shared:] = x[0][:num_shared]
    result = said(one.replace(x=x[0]), other.replace(x=x[1]))
    assert bool(result.kinds) == is_found, result
    assert not is_found or result.matched == num_shared


def test_molecules_share_motifs_but_not_data() -> None:
    """Rings with tails from the same few shapes, in two collections.

    Seen to fail with neither the edges of a tree nor those of chance taken off.
    """

    def collection(seed: int) -> Graph:
        rng, parts = np.random.default_rng(seed), []
        for _ in range(150):
            part = nx.cycle_graph(int(rng.integers(5, 7)))
            for _ in range(int(rng.integers(2, 9))):
                part.add_edge(len(part), int(rng.integers(0, len(part))))
            parts.append(part)
        return from_networkx(nx.disjoint_union_all(parts), name=f"molecules-{seed}")

    report = audit({"one": collection(0)}, {"other": collection(1)})
    assert report.clean, report.overlaps


def test_labels_play_no_part(plants: ModuleType) -> None:
    """Garbled labels, the same report; no labels, the same report.

    Seen to fail with `y` mixed into the colours.
    """
    graph = texts()
    copy = plants.PLANTS["other features"](graph, np.random.default_rng(0))
    garbled = graph.replace(y=2 - graph.y)
    bare = graph.replace(y=None, class_names=())
    assert said(graph, copy) == said(garbled, copy) == said(bare, copy)


def test_a_part_is_told_from_the_whole(plants: ModuleType) -> None:
    """Seen to fail with the shares swapped."""
    graph = texts()
    part = plants.PLANTS["30% of the nodes"](graph, np.random.default_rng(0))
    report = audit({"part": part}, {"whole": graph})
    assert report.overlaps[0].relation == "part is a part of whole"
    raw = report.to_json()["overlaps"][0]
    assert raw["share_of_judged_graph"] == pytest.approx(0.3, abs=0.03)
    assert json.loads(json.dumps(report.to_json()))["clean"] is False


@pytest.mark.realdata
def test_the_karate_clubs_are_one(catalog: Catalog) -> None:
    """34 nodes, no features, no hint.

    Seen to fail without `whole`: 23 nodes with 31 common edges beyond a tree, 19 of them by chance.
    """
    found = audit_ids(["karate-club"], ["karate"], catalog, use_declared=False)
    assert [o.kinds for o in found.overlaps] and "whole" in found.overlaps[0].kinds


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.read()


@pytest.fixture(scope="module")
def signed(catalog: Catalog) -> Callable[[str], object]:
    import functools

    return functools.cache(lambda id: signatures(catalog.load(id)))


@pytest.mark.realdata
@pytest.mark.parametrize(("one", "other"), CLEAN)
def test_twenty_real_pairs_are_clean(signed: Callable, one: str, other: str) -> None:
    """Seen to fail (acm ~ tadw: cliques) with neither tree nor chance taken off."""
    assert compare(signed(one), signed(other)).kinds == ()


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("acm-3025", "heco-acm", "pairs"),
        ("webkb-cornell", "webkb-texas", "rows"),
        ("physicians", "physicians-peoria", "wl2"),
        ("celegans-herm", "celegans-male", "hubs"),
        ("lazega-advice", "lazega-cowork", "fields"),
        ("tu-msrc-9", "tu-msrc-21c", "wl2"),
    ],
)
def test_what_the_bundle_shares(signed: Callable, one: str, other: str, kind: str) -> None:
    """Each seen in the data alone; docs/audit.md says what it means."""
    assert kind in compare(signed(one), signed(other)).kinds


@pytest.mark.realdata
@pytest.mark.parametrize("id", ["wiki-chameleon", "het-minesweeper", "polbooks"])
def test_real_graphs_are_found_again(plants: ModuleType, catalog: Catalog, id: str) -> None:
    """Chameleon without its duplicates, as the issue asks; the others with other features."""
    graph = catalog.load(id)
    plant = "without duplicates" if id == "wiki-chameleon" else "other features"
    copy = plants.PLANTS[plant](graph, np.random.default_rng(0))
    assert said(graph, copy).kinds
    if id == "wiki-chameleon":
        assert copy.num_nodes < 0.5 * graph.num_nodes
