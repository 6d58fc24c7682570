"""Synthetic graphs by a degree-corrected stochastic block model, with features and labels.

The same fields give the same graph on every machine: edges are drawn with integers only, and
features are rounded, since the last bit of a power or a logarithm differs between processors.
This file also holds the common base of the generators ``synthetic``, ``lfr`` and ``cabam``.

Shapes:
    N  nodes   M  edges, each counted once   F  feature columns   C  classes   R  edges of a round
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from graphfm.errors import DataError
from graphfm.graphs.catalog.source import SourceConfig
from graphfm.graphs.graph import Graph

UNIT = 2.0**16  # weight of a node with the smallest expected degree
GRID = 2.0**-10  # features are multiples of this
FULL = 0.9  # share of all possible edges beyond which drawing new ones takes too long
LOSS = 0.05  # largest share of edges that may be left out for lack of pairs


class DrawnConfig(SourceConfig):
    """Base of all generators; each adds fields, :meth:`nodes` and :meth:`edges`."""

    seed: int = Field(ge=0)
    """Seed of the random numbers."""
    num_nodes: int = Field(ge=1)
    """Number of nodes, N."""
    mean_degree: float = Field(ge=0)
    """Mean number of neighbors."""
    num_classes: int = Field(ge=1)
    """Number of classes, C."""
    num_features: int = Field(default=0, ge=0)
    """Number of feature columns, F; 0 = no features."""
    feature_signal: float = Field(default=1.0, ge=0)
    """Distance of two class means (root mean square), in standard deviations of one column."""
    imbalance: float = Field(default=1.0, ge=1)
    """Size of the largest class over the smallest; sizes between them are geometric."""
    labelled: float = Field(default=1.0, ge=0, le=1)
    """Share of nodes with a label."""

    def nodes(self, rng: np.random.Generator, name: str) -> tuple[np.ndarray, Any]:
        """Return the class of each node, (N,), and further values that :meth:`edges` needs."""
        raise NotImplementedError

    def edges(self, y: np.ndarray, wiring: Any, rng: np.random.Generator, name: str) -> np.ndarray:
        """Return distinct edges, each once, (N,) -> (2, M)."""
        raise NotImplementedError

    def build(self, *, name: str, data: Path) -> Graph:
        """Draw the graph.

        Raises:
            DataError: GFM146 for more edges, classes or communities than there is room for.
        """
        rng = np.random.Generator(np.random.PCG64(self.seed))
        y, wiring = self.nodes(rng, name)
        x = self._features(y, rng)
        known = rng.permutation(self.num_nodes) < round(self.labelled * self.num_nodes)
        return Graph.from_edges(
            self.edges(y, wiring, rng, name),
            num_nodes=self.num_nodes,
            name=name,
            directed=False,
            x=None if x is None else torch.from_numpy(x),
            y=torch.from_numpy(np.where(known, y, -1)),
            class_names=tuple(str(c) for c in range(self.num_classes)),
        )

    def shuffled_classes(self, rng: np.random.Generator, name: str) -> np.ndarray:
        """Return the classes of nodes in random order, (N,), with sizes by ``imbalance``."""
        sizes = class_sizes(self.num_nodes, self.num_classes, self.imbalance, name)
        return rng.permutation(np.repeat(np.arange(self.num_classes), sizes))

    def _features(self, y: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """Return class means in random directions plus unit noise, (N,) -> (N, F) float32."""
        if self.num_features == 0:
            return None
        means = rng.standard_normal((self.num_classes, self.num_features))
        means -= means.mean(axis=0)
        # the mean squared distance of two of C centred points is 2 C / (C - 1) their mean square
        pairs = 2 * (means**2).sum() / max(self.num_classes - 1, 1)
        means *= self.feature_signal / np.sqrt(pairs) if pairs > 0 else 0.0
        x = means[y] + rng.standard_normal((self.num_nodes, self.num_features))
        rounded: np.ndarray = (np.rint(x / GRID) * GRID).astype(np.float32)
        return rounded


class Config(DrawnConfig):
    """Fields of one graph of the block model; the blocks are the classes."""

    kind: Literal["synthetic"] = "synthetic"
    homophily: float = Field(ge=0, le=1)
    """Share of the edges within a class; 1/C carries no information for equal classes."""
    degree_exponent: float | None = Field(default=None, gt=2, allow_inf_nan=True)
    """Exponent of the power law of expected degrees; None or infinity = equal degrees."""

    def nodes(self, rng: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return classes, (N,), and integer weights in proportion to expected degrees, (N,)."""
        y = self.shuffled_classes(rng, name)
        draw = pareto(rng, self.num_nodes, self.degree_exponent)
        # Above sqrt(N * mean_degree) two hubs would be joined more than once on average, and
        # dropping the repeats would distort all degrees.
        most = max(1.0, np.sqrt(self.num_nodes / max(self.mean_degree, 1.0))) * draw.mean()
        return y, np.rint(np.minimum(draw, most) * UNIT).astype(np.int64)

    def edges(
        self, y: np.ndarray, wiring: np.ndarray, rng: np.random.Generator, name: str
    ) -> np.ndarray:
        """Return exactly round(N * mean_degree / 2) distinct edges, (2, M)."""
        wanted = round(self.num_nodes * self.mean_degree / 2)
        within = round(wanted * self.homophily)
        sizes = np.bincount(y)
        room_within = int((sizes * (sizes - 1) // 2).sum())
        room_between = self.num_nodes * (self.num_nodes - 1) // 2 - room_within
        for kind, number, room in (
            ("within classes", within, room_within),
            ("between classes", wanted - within, room_between),
        ):
            if number > FULL * room:
                raise DataError(
                    "GFM146",
                    f"{number:,} edges {kind} asked for, but there is room for {room:,} at most, "
                    f"of which {FULL:.0%} can be used",
                    where=name,
                    fix="lower mean_degree, raise num_nodes, or change homophily",
                )
        blocks = _Blocks(y, wiring)
        keys = [
            _distinct(blocks, number, same, rng)
            for same, number in ((True, within), (False, wanted - within))
        ]
        return np.stack(np.divmod(np.concatenate(keys), self.num_nodes))


class _Blocks:
    """Nodes sorted by class, drawn from one class or from two in proportion to weight."""

    def __init__(self, y: np.ndarray, weight: np.ndarray):
        self.order = np.argsort(y, kind="stable")
        self.ends = np.cumsum(weight[self.order])  # (N,), cumulative weight up to each node
        self.total = int(self.ends[-1])
        self.class_ends = self.ends[np.cumsum(np.bincount(y)) - 1]  # (C,)
        self.class_weights = np.diff(self.class_ends, prepend=0)

    def draw(self, num_edges: int, same: bool, rng: np.random.Generator) -> np.ndarray:
        """Return random pairs of nodes, (2, R), of one class if ``same``, else of two classes."""
        # Within: class c in proportion to its weight, so that weights stay expected degrees.
        # Between: w_c (W - w_c) makes a pair as likely as the product of its two weights.
        share = self.class_weights / self.total
        share = share if same else share * (1 - share)
        share = np.rint(share / max(share.sum(), 1e-300) * 2**40).astype(np.int64)
        picks = rng.integers(0, max(int(share.sum()), 1), size=num_edges)
        block = np.searchsorted(np.cumsum(share), picks, side="right")
        low, width = self.class_ends[block] - self.class_weights[block], self.class_weights[block]
        first = low + rng.integers(0, width)
        if same:
            second = low + rng.integers(0, width)
        else:
            second = rng.integers(0, self.total - width)
            second += np.where(second >= low, width, 0)  # skip the own class
        pairs: np.ndarray = self.order[np.searchsorted(self.ends, [first, second], side="right")]
        return pairs


def _distinct(blocks: _Blocks, wanted: int, same: bool, rng: np.random.Generator) -> np.ndarray:
    """Return the keys u * N + v, u < v, of distinct edges, (wanted,), ascending."""
    num_nodes = len(blocks.order)
    keys = np.zeros(0, dtype=np.int64)
    share_new = 1.0  # share of the last round's edges that were new
    while len(keys) < wanted:
        missing = wanted - len(keys)
        # The number drawn follows share_new: with a fixed surplus, 3 million edges at 80% of all
        # possible edges took 52 s instead of 11.
        drawn = int(1.05 * missing / share_new) + 16
        u, v = np.sort(blocks.draw(drawn, same, rng), axis=0)
        fresh = np.setdiff1d((u * num_nodes + v)[u < v], keys)
        share_new = max(len(fresh) / drawn, 0.1)
        if len(fresh) > missing:
            fresh = fresh[rng.permutation(len(fresh))[:missing]]
        keys = np.sort(np.concatenate([keys, fresh]))
    return keys


def class_sizes(num_nodes: int, num_classes: int, imbalance: float, name: str) -> np.ndarray:
    """Return geometric class sizes, the largest first, at least one node each, (C,).

    Raises:
        DataError: GFM146 for fewer nodes than classes.
    """
    if num_nodes < num_classes:
        raise DataError(
            "GFM146",
            f"{num_classes} classes need at least as many nodes, got num_nodes={num_nodes}",
            where=name,
        )
    steps = np.arange(num_classes) / max(num_classes - 1, 1)
    share = imbalance**-steps
    exact = share / share.sum() * (num_nodes - num_classes)
    sizes: np.ndarray = 1 + np.floor(exact).astype(np.int64)
    rest = np.argsort(np.floor(exact) - exact, kind="stable")[: num_nodes - sizes.sum()]
    sizes[rest] += 1
    return sizes


def pareto(rng: np.random.Generator, number: int, exponent: float | None) -> np.ndarray:
    """Draw numbers from 1 upwards with density x ** -exponent, (number,); None = all 1."""
    draw = rng.random(number)
    if exponent is None or np.isinf(exponent):
        return np.ones(number)
    drawn: np.ndarray = (1 - draw) ** (-1 / (exponent - 1))
    return drawn


def check_loss(wanted: int, found: int, name: str, *, fix: str) -> None:
    """Refuse a graph that lacks too many of its edges.

    Raises:
        DataError: GFM146 if it lacks more than the share :data:`LOSS`.
    """
    if wanted - found > max(2, LOSS * wanted):
        raise DataError(
            "GFM146",
            f"of {wanted:,} edges asked for, only {found:,} have room",
            where=name,
            fix=fix,
        )
