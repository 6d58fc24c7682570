"""Agreement of two graphs among matched nodes: edges in common, and inner products of rows.

Shapes:
    N  nodes   M  matched nodes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphfm.graphs.audit.groups import Groups
from graphfm.graphs.audit.signatures import Signatures

Match = tuple[np.ndarray, np.ndarray]
"""(M,) nodes of the one graph and (M,) of the other; no node occurs twice."""

MAX_ROWS = 400  # matched rows whose inner products are compared: 80,000 pairs


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Edges that two graphs have in common among matched nodes.

    Args:
        matched: Number of matched nodes, M.
        edges: Number of edges among the matched nodes in the one graph, and in the other.
        common: Number of edges in both graphs.
        expected: Expected number of edges in both by chance, from the degrees of the nodes.
    """

    matched: int
    edges: tuple[int, int]
    common: int
    expected: float

    @property
    def jaccard(self) -> float:
        """Common edges over the edges of both graphs together."""
        return self.common / max(1, sum(self.edges) - self.common)

    @property
    def beyond_chance(self) -> float:
        """Jaccard index corrected for chance: 1 for equal edges, 0 for as many as expected."""
        union = sum(self.edges) - self.common
        return (self.common - self.expected) / max(1.0, union - self.expected)

    @property
    def cycles(self) -> int:
        """Number of common edges beyond those of a tree: any two graphs have a tree in common."""
        return max(0, self.common - self.matched)


def agreement(a: Signatures, b: Signatures, match: Match, *, without: str = "") -> Agreement:
    """Count the edges that two graphs have in common among matched nodes.

    Args:
        a: Signatures of the one graph.
        b: Signatures of the other.
        match: Matched nodes.
        without: Kind of signature whose edges are left out, because they proposed the match.
    """
    num = len(match[0])
    one, other = edges_among(a, match[0]), edges_among(b, match[1])
    if without in a.groups:
        used = np.intersect1d(
            _made_of(a.groups[without], a.num_nodes, match[0]),
            _made_of(b.groups[without], b.num_nodes, match[1]),
        )
        one, other = np.setdiff1d(one, used), np.setdiff1d(other, used)
    common = np.intersect1d(one, other, assume_unique=True)
    degree = np.bincount(np.concatenate([other // max(1, num), other % max(1, num)]), minlength=num)
    chance = 0.0
    if len(one) and len(other):
        product = degree[one // num] * degree[one % num] / (2 * len(other))
        chance = float(np.minimum(1.0, product).sum())
    return Agreement(matched=num, edges=(len(one), len(other)), common=len(common), expected=chance)


def rows_agree(a: Signatures, b: Signatures, match: Match) -> tuple[int, float]:
    """Count the equal inner products of matched feature rows.

    Left out are products of two rows that an edge joins, because they proposed the match, and
    products that are 0 in both graphs.

    Returns:
        The number of equal products; and their share of all products, corrected for chance as in
        :attr:`Agreement.beyond_chance`. Chance is the share when rows are matched wrongly.
    """
    if a.scaled is None or b.scaled is None or len(match[0]) < 3:
        return 0, 0.0
    some = np.random.default_rng(0).permutation(len(match[0]))[:MAX_ROWS]
    products, linked = [], []
    for side, nodes in ((a, match[0][some]), (b, match[1][some])):
        rows = side.scaled[nodes]  # type: ignore[index]
        products.append(np.round((rows @ rows.T).toarray() * 256).astype(np.int64))
        linked.append(side.adjacency[nodes][:, nodes].toarray() > 0)
    upper = np.triu(~(linked[0] | linked[1]), k=1)

    def compare(right: np.ndarray) -> tuple[int, int]:
        counted = upper & ((products[0] != 0) | (right != 0))
        return int((counted & (products[0] == right)).sum()), int(counted.sum())

    equal, total = compare(products[1])
    shifted = np.roll(np.arange(len(some)), 1)  # the same rows, each matched to a wrong one
    wrong, wrong_total = compare(products[1][shifted][:, shifted])
    chance = wrong / max(1, wrong_total)
    return equal, (equal / max(1, total) - chance) / max(1e-9, 1 - chance)


def edges_among(side: Signatures, nodes: np.ndarray) -> np.ndarray:
    """Return the edges among some nodes, each once, as ``position * M + position``."""
    place = np.full(side.num_nodes, -1)
    place[nodes] = np.arange(len(nodes))
    row, col = place[side.row], place[side.col]
    kept = (row >= 0) & (row < col)
    codes: np.ndarray = row[kept] * len(nodes) + col[kept]
    return codes


def _made_of(groups: Groups, num_nodes: int, nodes: np.ndarray) -> np.ndarray:
    """Return the edges of pairs and paths in the form of :func:`edges_among`."""
    place = np.full(num_nodes, -1)
    place[nodes] = np.arange(len(nodes))
    of = place[groups.nodes]
    ends = np.concatenate([of[[0, k]] for k in range(1, len(of))], axis=1)
    ends = np.sort(ends, axis=0)
    ends = ends[:, ends[0] >= 0]
    codes: np.ndarray = np.unique(ends[0] * len(nodes) + ends[1])
    return codes
