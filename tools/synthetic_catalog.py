"""Write datasets/synthetic.yaml: 72 graphs that fill the space of the block model.

    python tools/synthetic_catalog.py > datasets/synthetic.yaml

A scrambled Halton sequence, so that the first n entries fill the space too, for every n. Seed 3 has
the least correlated first 16 points of seeds 0 to 5: at most 0.32 (Sobol: at least 0.73).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.stats import qmc

from graphfm.graphs.sources.synthetic import Config

NUM_GRAPHS = 72
ROOM = 0.3  # of all possible edges, within and between classes, an entry uses at most so many
HEAD = """\
# 72 synthetic graphs: degree-corrected stochastic block models, in the manner of GraphWorld.
# Written by tools/synthetic_catalog.py; the order is that of a Halton sequence, so that any first n
# of them fill the space: homophily 0.05-0.95, degree exponent 2.1-4, 300-20,000 nodes (log), mean
# degree 2-40 (log; less where the classes have no room), 2-12 classes, feature signal 0-2,
# imbalance 1-8, 0-64 feature columns (none in one of nine). An undirected edge counts twice.
#
# GraphWorld: Palowitch, Tsitsulin, Mayer, Perozzi, KDD 2022.
datasets:
"""


def between(share: float, low: float, high: float, *, log: bool = False) -> float:
    """The point at ``share`` of the way from low to high."""
    return float(low * (high / low) ** share) if log else low + share * (high - low)


def choose(point: np.ndarray, seed: int) -> Config:
    """One point of the unit cube (8,) as the fields of a graph."""
    size, homophily, exponent, degree, classes, signal, imbalance, features = point
    # size ** 1.55 leans towards small graphs: 72 log-uniform ones would have 340,000 nodes in all
    num_nodes = round(between(size**1.55, 300, 20_000, log=True), -1)
    fields = {
        "seed": seed,
        "num_nodes": int(num_nodes),
        "num_classes": min(12, 2 + int(classes * 11)),
        "homophily": round(between(homophily, 0.05, 0.95), 2),
        "degree_exponent": round(between(exponent, 2.1, 4.0), 2),
        "num_features": max(0, round(features * 72) - 8),  # one graph in nine has none
        "feature_signal": round(between(signal, 0, 2), 2),
        "imbalance": round(between(imbalance, 1, 8), 1),
    }
    mean_degree = between(degree, 2, 40, log=True)
    while True:
        config = Config(mean_degree=round(mean_degree, 1), **fields)
        if fits(config):
            return config
        mean_degree *= 0.9


def fits(config: Config) -> bool:
    """Whether the classes have room for the edges, with some to spare."""
    c = config.num_classes
    sizes = config.imbalance ** -(np.arange(c) / (c - 1))
    sizes = sizes / sizes.sum() * config.num_nodes
    within = (sizes**2).sum() / 2
    between_classes = config.num_nodes**2 / 2 - within
    edges = config.num_nodes * config.mean_degree / 2
    return bool(
        edges * config.homophily <= ROOM * within
        and edges * (1 - config.homophily) <= ROOM * between_classes
    )


def entry(number: int, config: Config) -> str:
    """The YAML of one entry, with its counts as they come out."""
    name = f"synth-{number:03d}"
    graph = config.build(name=name, data=Path())
    fields = config.model_dump(exclude={"labelled"})
    pairs = [f"{key}: {value}" for key, value in fields.items()]
    return f"""\
- {{id: {name}, title: "Block model, homophily {config.homophily}, {config.num_classes} classes",
   source: {{{", ".join(pairs[:5])},
   {", ".join(pairs[5:])}}},
   num_nodes: {graph.num_nodes}, num_edges: {graph.num_edges}, \
num_features: {graph.num_features}, num_classes: {graph.num_classes},
   domain: synthetic, group: {name}, license: CC0-1.0, citation: "GraphWorld, arXiv 2203.00112"}}"""


def main() -> None:
    """Print the whole file."""
    points = qmc.Halton(d=8, scramble=True, seed=3).random(NUM_GRAPHS)
    print(HEAD)
    for number, point in enumerate(points, start=1):
        print(entry(number, choose(point, seed=number)))


if __name__ == "__main__":
    main()
