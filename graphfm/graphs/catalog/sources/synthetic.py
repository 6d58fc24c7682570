"""Synthetic graphs: a degree-corrected stochastic block model with features and labels.

The same fields give the same graph on every machine: edges are drawn with integers only, and
features are rounded, since the last bit of a power or a logarithm differs between processors.
What the generators (this one, ``lfr`` and ``cabam``) have in common is here.

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
LOSS = 0.05  # share of the edges that may be left out because no pair is left for them


class DrawnConfig(SourceConfig):
    """What every generator is told; each adds its fields, :meth:`nodes` and :meth:`edges`."""

    seed: int = Field(ge=0)
    """Another seed is another graph of the same kind."""
    num_nodes: int = Field(ge=1)
    """N."""
    mean_degree: float = Field(ge=0)
    """Mean number of neighbors."""
    num_classes: int = Field(ge=1)
    """C."""
    num_features: int = Field(default=0, ge=0)
    """F; 0 = none."""
    feature_signal: float = Field(default=1.0, ge=0)
    """Distance of two class means (root mean square), in standard deviations of one column."""
    imbalance: float = Field(default=1.0, ge=1)
    """Size of the largest class over that of the smallest; geometric between them."""
    labelled: float = Field(default=1.0, ge=0, le=1)
    """Share of nodes whose label is given."""

    def nodes(self, rng: np.random.Generator, name: str) -> tuple[np.ndarray, Any]:
        """Class of each node, (N,), and what else the edges depend on."""
        raise NotImplementedError

    def edges(self, y: np.ndarray, wiring: Any, rng: np.random.Generator, name: str) -> np.ndarray:
        """Distinct edges, each once: (N,) -> (2, M)."""
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
        """Class of each node in no order, (N,), with sizes as ``imbalance`` says."""
        sizes = class_sizes(self.num_nodes, self.num_classes, self.imbalance, name)
        return rng.permutation(np.repeat(np.arange(self.num_classes), sizes))

    def _features(self, y: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        """Class means in random directions plus unit noise: (N,) -> (N, F) float32."""
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
    """One graph of the block model; the blocks are the classes."""

    kind: Literal["synthetic"] = "synthetic"
    homophily: float = Field(ge=0, le=1)
    """Share of the edges that stay within a class; 1/C says nothing if classes are equal."""
    degree_exponent: float | None = Field(default=None, gt=2)
    """Expected degrees follow d ** -exponent; None or infinity = all the same."""

    def nodes(self, rng: np.random.Generator, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Classes, and integer weights in proportion to expected degrees: (N,), (N,)."""
        y = self.shuffled_classes(rng, name)
        draw = pareto(rng, self.num_nodes, self.degree_exponent)
        # No expected degree above sqrt(N * mean_degree): beyond it, two hubs would be joined
        # more than once on average, and the repeats that get dropped would distort all degrees.
        most = max(1.0, np.sqrt(self.num_nodes / max(self.mean_degree, 1.0))) * draw.mean()
        return y, np.rint(np.minimum(draw, most) * UNIT).astype(np.int64)

    def edges(
        self, y: np.ndarray, wiring: np.ndarray, rng: np.random.Generator, name: str
    ) -> np.ndarray:
        """Exactly round(N * mean_degree / 2) distinct edges: (2, M)."""
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
    """Nodes sorted by class, to draw from a class, or from all others, in proportion to weight."""

    def __init__(self, y: np.ndarray, weight: np.ndarray):
        self.order = np.argsort(y, kind="stable")
        self.ends = np.cumsum(weight[self.order])  # (N,), of each node's stretch of the line
        self.total = int(self.ends[-1])
        self.class_ends = self.ends[np.cumsum(np.bincount(y)) - 1]  # (C,)
        self.class_weights = np.diff(self.class_ends, prepend=0)

    def draw(self, num_edges: int, same: bool, rng: np.random.Generator) -> np.ndarray:
        """Pairs of nodes (2, R), each end by weight: both of one class, or of two."""
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
            second += np.where(second >= low, width, 0)  # step over the own class
        pairs: np.ndarray = self.order[np.searchsorted(self.ends, [first, second], side="right")]
        return pairs


def _distinct(blocks: _Blocks, wanted: int, same: bool, rng: np.random.Generator) -> np.ndarray:
    """Keys u * N + v, u < v, of distinct edges, (wanted,), ascending."""
    num_nodes = len(blocks.order)
    keys = np.zeros(0, dtype=np.int64)
    luck = 1.0
    while len(keys) < wanted:
        missing = wanted - len(keys)
        # As many as the last round's share of new edges asks for: with a fixed surplus, 3 million
        # edges at 80% of the room took 52 s instead of 11.
        drawn = int(1.05 * missing / luck) + 16
        u, v = np.sort(blocks.draw(drawn, same, rng), axis=0)
        fresh = np.setdiff1d((u * num_nodes + v)[u < v], keys)
        luck = max(len(fresh) / drawn, 0.1)
        if len(fresh) > missing:
            fresh = fresh[rng.permutation(len(fresh))[:missing]]
        keys = np.sort(np.concatenate([keys, fresh]))
    return keys


def class_sizes(num_nodes: int, num_classes: int, imbalance: float, name: str) -> np.ndarray:
    """Geometric class sizes, largest first, at least one node each: (C,).

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
    """Draws from 1 upwards with density x ** -exponent, (number,); None or infinity = all 1."""
    draw = rng.random(number)
    if exponent is None or np.isinf(exponent):
        return np.ones(number)
    drawn: np.ndarray = (1 - draw) ** (-1 / (exponent - 1))
    return drawn


def check_loss(wanted: int, found: int, name: str, *, fix: str) -> None:
    """Accept that a few edges found no place, and no more.

    Raises:
        DataError: GFM146 for more than :data:`LOSS` of them.
    """
    if wanted - found > max(2, LOSS * wanted):
        raise DataError(
            "GFM146",
            f"of {wanted:,} edges asked for, only {found:,} have room",
            where=name,
            fix=fix,
        )
