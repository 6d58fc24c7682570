"""Synthetic graphs by class-assortative preferential attachment (CABAM).

Source: Shah (2020), "Scale-Free, Attributed and Class-Assortative Graph Generation to Facilitate
Introspection of Graph Neural Networks". Nodes arrive one by one and attach to earlier nodes, with a
probability that grows with their degree and depends on their class. The paper's class compatibility
is given here by the homophily that results. Unlike in the block model, hubs are early nodes that
are joined to each other, and each node has an edge.

Shapes:
    N  nodes   M  edges, each counted once   C  classes
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from graphfm.graphs.catalog.sources.synthetic import UNIT, DrawnConfig, check_loss

HIT = int(UNIT)  # weight that an edge adds to its target
WORD = 63  # bits of a random integer; scaled to a range of 2 ** 40, its error is 2 ** -23 of a step
TRIES = 16  # targets tried in the wanted class, then in any class, before the edge is dropped


class Config(DrawnConfig):
    """Fields of one grown graph."""

    kind: Literal["cabam"] = "cabam"
    mean_degree: float = Field(ge=2)
    """Mean number of neighbors; each new node adds half as many edges, at least one."""
    homophily: float = Field(ge=0, le=1)
    """Share of the edges of a new node that go to its own class."""
    degree_exponent: float = Field(default=3.0, gt=2, le=100)
    """Exponent of the power law of degrees; 3 = attachment by degree (Barabasi-Albert)."""

    def nodes(self, rng: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of each node, (N,), and the order in which nodes arrive, (N,)."""
        return self.shuffled_classes(rng, name), rng.permutation(self.num_nodes)

    def edges(
        self, y: np.ndarray, wiring: np.ndarray, rng: np.random.Generator, name: str
    ) -> np.ndarray:
        """Return about round(N * mean_degree / 2) distinct edges, (2, M)."""
        # With m edges per new node, a target's weight is the number of edges it received plus
        # m (exponent - 2). That gives the exponent (Dorogovtsev, Mendes, Samukhin 2000); for 3 the
        # weight is the degree.
        num_new = self.mean_degree / 2
        base = max(1, round(num_new * (self.degree_exponent - 2) * HIT))
        bring = (round(num_new * HIT) + rng.integers(0, HIT, size=self.num_nodes)) // HIT
        bring = self._make_up(np.minimum(bring, np.arange(self.num_nodes)), rng)
        grown = _Growth(self.num_classes, base, round(self.homophily * HIT), _words(rng))
        classes, number = y[wiring].tolist(), bring.tolist()
        pairs = [
            (node, target)
            for node, own, links in zip(wiring.tolist(), classes, number, strict=True)
            for target in grown.add(node, own, links)
        ]
        wanted = round(self.num_nodes * num_new)
        fix = "lower mean_degree or raise num_nodes"
        check_loss(wanted, len(pairs), name, fix=fix)
        return np.array(pairs, dtype=np.int64).reshape(-1, 2).T

    def _make_up(self, bring: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move the edges for which the first nodes have no targets to later nodes, (N,) -> (N,)."""
        missing = round(self.num_nodes * self.mean_degree / 2) - int(bring.sum())
        late = np.flatnonzero(bring + 1 <= np.arange(self.num_nodes) // 2)
        if missing > 0 and len(late):
            chosen = late[rng.integers(0, len(late), size=missing)]
            np.add.at(bring, chosen, 1)
        most: np.ndarray = np.minimum(bring, np.arange(self.num_nodes))
        return most


class _Growth:
    """Nodes so far, by class, and their weights as targets."""

    def __init__(self, num_classes: int, base: int, homophily: int, words: Iterator[int]):
        self.base, self.homophily, self.words = base, homophily, words
        self.members: list[list[int]] = [[] for _ in range(num_classes)]
        self.hits: list[list[int]] = [[] for _ in range(num_classes)]  # once per received edge
        self.weights = [0] * num_classes
        self.total = 0

    def add(self, node: int, own: int, links: int) -> list[int]:
        """Add a node and return its distinct targets."""
        chosen: dict[int, int] = {}  # target -> its class
        for _ in range(links):
            same = next(self.words) >> (WORD - 16) < self.homophily
            for attempt in range(2 * TRIES):
                kind = own if attempt < TRIES else -1
                cls = self._class(kind, same)
                if cls < 0:
                    continue
                target = self._member(cls)
                if target not in chosen:
                    chosen[target] = cls
                    break
        for target, cls in chosen.items():
            self.hits[cls].append(target)
            self.weights[cls] += HIT
        self.members[own].append(node)
        self.weights[own] += self.base
        self.total += self.base + HIT * len(chosen)
        return list(chosen)

    def _class(self, own: int, same: bool) -> int:
        """Return a random class by weight: the own one or another, any if own = -1; -1 = none."""
        weight = self.weights[own] if own >= 0 else 0
        if own >= 0 and same:
            return own if weight else -1
        left = self.total - weight
        if not left:
            return -1
        spot = next(self.words) * left >> WORD
        for cls, width in enumerate(self.weights):
            if cls == own:
                continue
            if spot < width:
                return cls
            spot -= width
        raise AssertionError("the weights add up to the total")

    def _member(self, cls: int) -> int:
        """Return a random node of a class, by weight: ``base``, and HIT for each received edge."""
        hits = self.hits[cls]
        spot = next(self.words) * self.weights[cls] >> WORD
        if spot < HIT * len(hits):
            return hits[spot // HIT]
        return self.members[cls][(spot - HIT * len(hits)) // self.base]


def _words(rng: np.random.Generator) -> Iterator[int]:
    """Yield random integers below 2 ** 63; blocks of them are faster than single calls of numpy."""
    while True:
        yield from rng.integers(0, 2**WORD - 1, size=2**16, endpoint=True).tolist()
