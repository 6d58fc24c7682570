"""Synthetic graphs of many communities, with power laws of degrees and community sizes (LFR).

Source: Lancichinetti, Fortunato, Radicchi (2008), arXiv 0805.4770. Each node has the share
``mixing`` of its edges outside its community. Communities are grouped into classes: a class is many
small communities, and not one block as in the block model. The paper rewires edges until they fit;
here all pairs are drawn at once, and the few pairs that cannot be edges are swapped.

Shapes:
    N  nodes   M  edges, each counted once   C  classes   K  communities
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from graphfm.errors import DataError
from graphfm.graphs.catalog.sources.synthetic import (
    UNIT,
    DrawnConfig,
    check_loss,
    class_sizes,
    pareto,
)

SHIFT = 32  # fractional bits of an expected degree
MOST = 2.0**14  # largest weight over the smallest, so that products fit 62 bits
# Size of a community over the largest number of neighbors that a member has in it. At 1 hubs lack
# distinct neighbors, and up to 6% of the edges are lost.
SPARE = 2
TRIES = 64  # swaps tried for a pair that cannot be an edge, before it is left out
FIX = "lower mean_degree, or raise max_community"


class Config(DrawnConfig):
    """Fields of one graph of communities."""

    kind: Literal["lfr"] = "lfr"
    mean_degree: float = Field(ge=1)
    """Mean number of neighbors; each node has at least one."""
    mixing: float = Field(ge=0, le=1)
    """Share of a node's edges that leave its community; adjusted homophily is about 1 - mixing."""
    degree_exponent: float | None = Field(default=2.5, gt=2, allow_inf_nan=True)
    """Exponent of the power law of degrees; None or infinity = equal degrees."""
    community_exponent: float = Field(default=1.5, ge=1, le=10)
    """Exponent of the power law of community sizes."""
    min_community: int = Field(default=20, ge=2)
    """Size of the smallest community; left-over nodes are added to all communities."""
    max_community: int = Field(default=100, ge=2)
    """Size of the largest community."""

    @model_validator(mode="after")
    def _in_order(self) -> Config:
        if self.min_community > self.max_community:
            raise ValueError("min_community must not be above max_community")
        return self

    def nodes(self, rng: np.random.Generator, name: str) -> tuple[np.ndarray, Plan]:
        """Return the class of each node, (N,), and the plan of its edges."""
        sizes = self._community_sizes(rng, name)
        degree = self._degrees(sizes, rng, name)
        # Rounded at random, so that small degrees have the right share inside on average
        inside = _dithered(degree << 16, round((1 - self.mixing) * UNIT), SHIFT, rng)
        outside = degree - inside
        slots = np.sort(sizes)[::-1]
        order = np.argsort(-inside, kind="stable")
        limit = (np.repeat(slots, slots) - 1) // SPARE
        fits = np.minimum(
            inside[order], limit
        )  # the t-th largest degree gets the t-th largest place
        check_loss(int(inside.sum()) // 2, int(fits.sum()) // 2, name, fix=FIX)
        inside[order] = fits
        community = np.empty(self.num_nodes, dtype=np.int64)
        community[order] = _places(fits, slots, rng)
        _even(inside, outside, community)
        y = _grouped(slots, class_sizes(self.num_nodes, self.num_classes, self.imbalance, name))
        return y[community], Plan(inside, outside, community)

    def edges(self, y: np.ndarray, wiring: Plan, rng: np.random.Generator, name: str) -> np.ndarray:
        """Return about round(N * mean_degree / 2) distinct edges, (2, M)."""
        home = wiring.community
        within = _matched(wiring.inside, home, np.arange(self.num_nodes), rng)
        between = _matched(wiring.outside, np.zeros_like(home), home, rng)
        for wanted, found in ((wiring.inside, within), (wiring.outside, between)):
            check_loss(int(wanted.sum()) // 2, found.shape[1], name, fix=FIX)
        return np.concatenate([within, between], axis=1)

    def _community_sizes(self, rng: np.random.Generator, name: str) -> np.ndarray:
        """Return the sizes of the communities, which sum to N, (K,)."""
        values = np.arange(self.min_community, self.max_community + 1)
        weight = np.rint((values / values[0]) ** -self.community_exponent * 2**40).astype(np.int64)
        ends = np.cumsum(weight)
        number = self.num_nodes // self.min_community
        drawn = values[np.searchsorted(ends, rng.integers(0, ends[-1], size=number), side="right")]
        sizes: np.ndarray = drawn[np.cumsum(drawn) <= self.num_nodes]
        if len(sizes) < self.num_classes:
            raise DataError(
                "GFM146",
                f"{self.num_classes} classes need as many communities, but there are {len(sizes)}",
                where=name,
                fix="raise num_nodes, or lower max_community or num_classes",
            )
        rest, extra = divmod(self.num_nodes - int(sizes.sum()), len(sizes))
        return sizes + rest + (np.arange(len(sizes)) < extra)

    def _degrees(self, sizes: np.ndarray, rng: np.random.Generator, name: str) -> np.ndarray:
        """Return power-law degrees of at least 1 with the mean ``mean_degree``, (N,)."""
        weight = np.rint(np.minimum(pareto(rng, self.num_nodes, self.degree_exponent), MOST) * UNIT)
        weight = weight.astype(np.int64)
        # Two hubs must not be joined more than once on average, and a hub must not have more
        # neighbors in its community than that has nodes.
        most = int(np.sqrt(self.num_nodes * self.mean_degree))
        if self.mixing < 1:
            most = min(most, int((sizes.max() - 1) // SPARE / (1 - self.mixing)))
        wanted = round(self.num_nodes * self.mean_degree)
        noise = rng.integers(0, 2**SHIFT, size=self.num_nodes)

        def at(scale: int) -> np.ndarray:
            degree: np.ndarray = np.clip((weight * scale + noise) >> SHIFT, 1, max(1, most))
            return degree

        low, high = 0, int(2**62 // weight.max())  # bisection on the mean degree
        check_loss(wanted // 2, int(at(high).sum()) // 2, name, fix=FIX)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if at(middle).sum() <= wanted else (low, middle)
        return at(low)


class Plan(NamedTuple):
    """Number of edges inside and outside its community, and community, of each node: each (N,)."""

    inside: np.ndarray
    outside: np.ndarray
    community: np.ndarray


def _dithered(values: np.ndarray, factor: int, shift: int, rng: np.random.Generator) -> np.ndarray:
    """Return values * factor / 2 ** shift, rounded up or down at random, (N,) -> (N,)."""
    noise = rng.integers(0, 2**shift, size=len(values))
    return (values * factor + noise) >> shift


def _places(degree: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a community for each node that is large enough for its neighbors there, (N,).

    Args:
        degree: Number of edges inside the community, descending, (N,); the t-th largest fits the
            t-th largest place.
        sizes: Sizes of the communities, descending, (K,).
        rng: Random numbers; each node gets one of the free places that are large enough, with
            equal probability.
    """
    place = np.repeat(np.arange(len(sizes)), sizes)  # (N,), largest first
    room = (sizes[place] - 1) // SPARE
    opened = np.searchsorted(-room, -degree, side="right").tolist()
    words, places = rng.integers(0, 2**40, size=len(degree)).tolist(), place.tolist()
    free: list[int] = []
    taken = []
    done = 0
    for number, word in zip(opened, words, strict=True):
        free += places[done:number]
        done = max(done, number)
        spot = word * len(free) >> 40
        free[spot], free[-1] = free[-1], free[spot]
        taken.append(free.pop())
    return np.array(taken)


def _even(inside: np.ndarray, outside: np.ndarray, community: np.ndarray) -> None:
    """Make the number of edge ends even, in each community and outside, in place."""
    ends = np.bincount(community, weights=inside).astype(np.int64)
    order = np.lexsort((-inside, community))  # by community, the largest first
    first = order[np.searchsorted(community[order], np.flatnonzero(ends % 2))]
    inside[first] -= 1
    outside[first] += 1
    if outside.sum() % 2:
        outside[np.argmax(outside)] -= 1


def _grouped(sizes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return a class for each community, (K,): the class that lacks most nodes, largest first.

    Args:
        sizes: Sizes of the communities, descending, (K,).
        wanted: Sizes of the classes, (C,); each class gets at least one community.
    """
    lacks = wanted.astype(np.int64).copy()
    empty = np.ones(len(wanted), dtype=bool)
    chosen = []
    for i, size in enumerate(sizes.tolist()):
        must = int(empty.sum()) == len(sizes) - i
        cls = int(np.argmax(np.where(empty, lacks, np.iinfo(np.int64).min) if must else lacks))
        lacks[cls] -= size
        empty[cls] = False
        chosen.append(cls)
    return np.array(chosen)


def _matched(
    degree: np.ndarray, group: np.ndarray, apart: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return distinct random edges with given degrees, (N,) -> (2, M).

    Edge ends are paired at random. A pair that is not allowed, or occurs twice, then swaps an end
    with another pair of its group, if that gives two allowed and new edges.

    Args:
        degree: Number of edges of each node, (N,); the sum over a group is even.
        group: Group of each node, (N,); both ends of an edge have the same group.
        apart: Second key of each node, (N,); the ends of an edge have different keys.
        rng: Random numbers.
    """
    num_nodes = len(degree)
    ends = rng.permutation(np.repeat(np.arange(num_nodes), degree))
    ends = ends[np.argsort(group[ends], kind="stable")]
    pairs = ends.reshape(-1, 2).T  # (2, M)
    keys = pairs.min(axis=0) * num_nodes + pairs.max(axis=0)
    good = np.zeros(len(keys), dtype=bool)
    good[np.unique(keys, return_index=True)[1]] = True  # the first of equal pairs
    good &= apart[pairs[0]] != apart[pairs[1]]
    bad = np.flatnonzero(~good)
    of = group[pairs[0]]
    low, high = (np.searchsorted(of, of[bad], side=side) for side in ("left", "right"))
    swaps = _Swaps(pairs, keys, good, apart, num_nodes)
    for place, first, width in zip(bad.tolist(), low.tolist(), (high - low).tolist(), strict=True):
        # An odd number reverses the partner.
        for word in rng.integers(0, 2 * width, size=TRIES).tolist():
            if swaps.swap(place, first + word // 2, turned=word % 2 == 1):
                break
    return swaps.edges()


class _Swaps:
    """Pairs of nodes, with a mark for those that are edges: allowed, and distinct."""

    def __init__(
        self,
        pairs: np.ndarray,
        keys: np.ndarray,
        good: np.ndarray,
        apart: np.ndarray,
        num_nodes: int,
    ):
        # Lists and a set: one item of an array takes ten times as long
        self.u, self.v = pairs.tolist()
        self.good, self.apart = good.tolist(), apart.tolist()
        self.there = set(keys[good].tolist())
        self.num_nodes = num_nodes

    def key(self, u: int, v: int) -> int:
        """Return one number for a pair in either order."""
        return u * self.num_nodes + v if u < v else v * self.num_nodes + u

    def swap(self, i: int, j: int, *, turned: bool) -> bool:
        """Swap ends of a bad pair i and a good pair j if both become edges; return true if so."""
        if not self.good[j]:
            return False
        a, b, c, d = self.u[i], self.v[i], self.u[j], self.v[j]
        if turned:
            c, d = d, c
        first, second = self.key(a, d), self.key(c, b)
        if (
            self.apart[a] == self.apart[d]
            or self.apart[c] == self.apart[b]
            or first == second
            or first in self.there
            or second in self.there
        ):
            return False
        self.there.remove(self.key(c, d))
        self.there |= {first, second}
        self.v[i], self.u[j], self.v[j] = d, c, b
        self.good[i] = True
        return True

    def edges(self) -> np.ndarray:
        """Return the pairs that are edges, (2, M)."""
        return np.array([self.u, self.v], dtype=np.int64)[:, np.array(self.good, dtype=bool)]
