"""Write datasets/synthetic.yaml: 72 graphs with properties that real graphs lack.

    GRAPHFM_DATA=... python tools/synthetic_catalog.py > datasets/synthetic.yaml   # 5 minutes

Each real graph whose files are here, without evaluation graphs, is measured in six coordinates
(``graphs/catalog/landscape.py``), each from 0 to 1. Candidates of three generators are built and
measured in the same way. Then the candidate farthest from all real and all chosen graphs is chosen,
72 times. So the first n graphs fill the empty regions, for each n.
"""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.stats import qmc

from graphfm.errors import DataError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.catalog.landscape import RANGES, measure
from graphfm.graphs.catalog.sources import cabam, lfr, synthetic
from graphfm.graphs.catalog.sources.synthetic import DrawnConfig, class_sizes
from graphfm.graphs.graph import Graph

NUM_GRAPHS = 72
NUM_CANDIDATES = 1200  # of each generator
MIN_REAL = 60  # fewer real graphs leave nearly all regions empty
NODES = (20_000, 130_000)  # the first n have at most NODES[0] + n / 72 * NODES[1] nodes
EDGES = (300_000, 2_700_000)  # and so for edges; an undirected edge counts twice
SMALLEST = 5  # least number of nodes of the smallest class
ROOM = 0.3  # largest share of the possible edges, within and between classes, of a block model
KINDS = (synthetic, lfr, cabam)
PLURALS = {"synthetic": "block models", "lfr": "of LFR communities", "cabam": "grown ones (CABAM)"}
BEFORE = (0.485, 1.143)  # coverage with the block models along a Halton sequence
TITLES = {"synthetic": "Block model", "lfr": "LFR communities", "cabam": "Grown graph (CABAM)"}
CITATIONS = {
    "synthetic": "GraphWorld, arXiv 2203.00112",
    "lfr": "Lancichinetti, Fortunato, Radicchi 2008, arXiv 0805.4770",
    "cabam": "Shah 2020, CABAM, Workshop on Mining and Learning with Graphs",
}
HEAD = """\
# 72 synthetic graphs, in the manner of GraphWorld (Palowitch, Tsitsulin, Mayer, Perozzi, KDD 2022):
# {kinds}.
# {nodes:,} nodes and {edges:,} edges in all (an undirected edge counts twice).
#
# Written by tools/synthetic_catalog.py. It chose, 72 times, the one of {candidates:,} candidates
# that is farthest from {real} real graphs (without evaluation graphs) and from those chosen before.
# So the first n graphs fill the empty regions, for each n. The coordinates, each from 0 to 1:
# adjusted homophily, degree tail, log nodes, log classes, feature signal, imbalance, as measured by
# graphfm/graphs/catalog/landscape.py. Distance from a point of that cube to the nearest graph,
# over 20,000 points:
{coverage}
datasets:
"""


@dataclass(frozen=True)
class Candidate:
    """A graph that can be chosen: its fields, its counts, and its coordinates, (6,)."""

    config: DrawnConfig
    num_nodes: int
    num_edges: int
    place: np.ndarray


def between(share: float, low: float, high: float, *, log: bool = False) -> float:
    """Interpolate from low (share 0) to high (share 1)."""
    return float(low * (high / low) ** share) if log else low + share * (high - low)


def choose(kind: Any, point: np.ndarray, seed: int) -> DrawnConfig | None:
    """Return the fields of a graph for a point of the unit cube, (10,); None if it has no room."""
    size, mix, tail, degree, classes, features, signal, imbalance, smallest, span = point
    fields: dict[str, Any] = {
        "seed": seed,
        "num_nodes": int(round(between(size**1.3, 300, 20_000, log=True), -1)),
        "num_classes": round(between(classes, 1.6, 20.4, log=True)),
        "degree_exponent": round(1 + 1 / between(tail, 0.12, 0.92), 2),
        "num_features": max(0, round(features * 72) - 8),  # one graph in nine has none
        "feature_signal": round(between(signal, 0, 6), 2),
        "imbalance": round(between(imbalance, 1, 60, log=True), 1),
    }
    sizes = class_sizes(fields["num_nodes"], fields["num_classes"], fields["imbalance"], "")
    if sizes.min() < SMALLEST:
        return None
    if kind is lfr:
        least = round(between(smallest, 8, 40, log=True))
        fields |= {
            "mixing": round(between(mix, 0.02, 0.98), 2),
            "min_community": least,
            "max_community": round(least * between(span, 2, 16, log=True)),
        }
    else:
        fields["homophily"] = round(between(mix, 0.02, 0.98), 2)
    mean_degree = between(degree, 2, 40, log=True)
    while mean_degree >= 2:
        config: DrawnConfig = kind.Config(mean_degree=round(mean_degree, 1), **fields)
        if kind is not synthetic or fits(config, sizes):
            return config
        mean_degree *= 0.9
    return None


def fits(config: Any, sizes: np.ndarray) -> bool:
    """Return true if the classes have room for the edges, with a margin."""
    within = (sizes**2).sum() / 2
    edges = config.num_nodes * config.mean_degree / 2
    return bool(
        edges * config.homophily <= ROOM * within
        and edges * (1 - config.homophily) <= ROOM * (config.num_nodes**2 / 2 - within)
    )


def candidates() -> list[Candidate]:
    """Build and measure all candidates."""
    found = []
    for kind in KINDS:
        points = qmc.Halton(d=10, scramble=True, seed=3).random(NUM_CANDIDATES)
        refused = 0
        for point in points:
            config = choose(kind, point, seed=len(found) + 1)
            try:
                graph = config.build(name="candidate", data=Path()) if config else None
            except DataError:
                graph = None
            place = None if graph is None else measure(graph)
            if config is None or graph is None or place is None:
                refused += 1
                continue
            found.append(Candidate(config, graph.num_nodes, graph.num_edges, place.scaled))
        print(f"{kind.__name__}: {refused} of {len(points)} have no room", file=sys.stderr)
    return found


def real_places(catalog: Catalog) -> np.ndarray:
    """Return the coordinates of the real graphs here, without evaluation graphs, (P, 6).

    Raises:
        SystemExit: If fewer than MIN_REAL are here.
    """
    here = [
        entry.id
        for entry in catalog.entries.values()
        if not entry.synthetic and entry.role == "pretraining" and catalog.is_here(entry.id)
    ]
    if len(here) < MIN_REAL:
        raise SystemExit(
            f"only {len(here)} real graphs are here, but at least {MIN_REAL} are needed. Set "
            "GRAPHFM_DATA to the folder of their raw files."
        )
    places = [measure(catalog.load(id)) for id in here]
    return np.array([place.scaled for place in places if place is not None])


def pick(real: np.ndarray, among: list[Candidate], number: int) -> list[Candidate]:
    """Choose the farthest candidate repeatedly, within the budget of nodes and edges."""
    places = np.array([c.place for c in among])
    counts = np.array([[c.num_nodes, c.num_edges] for c in among])
    distance = cKDTree(real).query(places)[0] if len(real) else np.full(len(places), np.inf)
    chosen: list[int] = []
    spent = np.zeros(2)
    for n in range(1, number + 1):
        budget = np.array([start + n / NUM_GRAPHS * more for start, more in (NODES, EDGES)])
        within = (spent + counts <= budget).all(axis=1)
        best = int(np.argmax(np.where(within, distance, -1)))
        chosen.append(best)
        spent += counts[best]
        distance = np.minimum(distance, np.linalg.norm(places - places[best], axis=1))
    return [among[i] for i in chosen]


def coverage(places: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """Return the mean and largest distance from points (S, 6) to the nearest place (P, 6)."""
    distance = cKDTree(places).query(points)[0]
    return float(distance.mean()), float(distance.max())


def entry(number: int, config: DrawnConfig, graph: Graph) -> str:
    """Return the YAML of one entry, with the counts of its graph."""
    name = f"synth-{number:03d}"
    fields = config.model_dump(exclude={"labelled"})
    axis = "mixing" if "mixing" in fields else "homophily"
    title = f"{TITLES[config.kind]}, {axis} {fields[axis]}, {config.num_classes} classes"
    source = ", ".join(f"{key}:_{value}" for key, value in fields.items())  # never wrapped at _
    counts = ("num_nodes", "num_edges", "num_features", "num_classes")
    lines = [
        f'- {{id: {name}, title: "{title}",',
        *(s.replace(":_", ": ") for s in textwrap.wrap(f"source: {{{source}}},", width=97)),
        ", ".join(f"{count}: {getattr(graph, count)}" for count in counts) + ",",
        f"domain: synthetic, group: {name}, license: CC0-1.0,",
        f'citation: "{CITATIONS[config.kind]}"}}',
    ]
    return "\n   ".join(lines)


def main() -> None:
    """Print the whole file."""
    torch.set_num_threads(1)
    real = real_places(Catalog.read())
    among = candidates()
    chosen = pick(real, among, NUM_GRAPHS)
    points = np.random.default_rng(0).random((20_000, len(RANGES)))
    figures = [
        ("the real graphs alone", coverage(real, points)),
        ("with 72 block models of an earlier version", BEFORE),
        ("with these 72", coverage(np.concatenate([real, [c.place for c in chosen]]), points)),
        (
            f"with all {len(among):,} candidates at once",
            coverage(np.concatenate([real, [c.place for c in among]]), points),
        ),
    ]
    kinds = Counter(c.config.kind for c in chosen)
    print(
        HEAD.format(
            kinds=", ".join(f"{n} {PLURALS[kind]}" for kind, n in sorted(kinds.items())),
            nodes=sum(c.num_nodes for c in chosen),
            edges=sum(c.num_edges for c in chosen),
            candidates=len(among),
            real=len(real),
            coverage="\n".join(
                f"#   mean {mean:.2f}, largest {most:.2f}: {what}" for what, (mean, most) in figures
            ),
        )
    )
    for number, candidate in enumerate(chosen, start=1):
        graph = candidate.config.build(name="drawn", data=Path())
        print(entry(number, candidate.config, graph))


if __name__ == "__main__":
    main()
