"""Nodes of one graph matched to nodes of another, and how far their edges agree.

A signature proposes; edges decide. Chance makes nodes look alike, but nodes that look alike by
chance have no edges in common. What is expected by chance is counted with the degrees that the
matched nodes have among each other.

Shapes:
    N  nodes   M  matched nodes   P  pairs
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from graphfm.graphs.audit.signatures import SCALE, Groups, Signatures, mix, once, row_sums

Match = tuple[np.ndarray, np.ndarray]
"""(M,) nodes of the one graph and (M,) of the other; no node is there twice."""

MAX_PRODUCTS = 1_000_000  # pairs of neighbors looked at in one round; 0.1 s
MAX_ROWS = 400  # matched rows whose inner products are compared: 80,000 pairs
ROUNDS = 8
MIN_SEED_EDGES = 6
MIN_SEED_SCORE = 3.0  # standard deviations


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What two graphs have in common among matched nodes.

    Args:
        matched: M.
        edges: Edges among the matched nodes in the one graph, and in the other.
        common: Edges in both.
        expected: Edges in both, if only degrees agreed.
    """

    matched: int
    edges: tuple[int, int]
    common: int
    expected: float

    @property
    def jaccard(self) -> float:
        """Common edges over all edges of both."""
        return self.common / max(1, sum(self.edges) - self.common)

    @property
    def beyond_chance(self) -> float:
        """The Jaccard index with the expected edges taken off: 1 = equal, 0 = chance."""
        union = sum(self.edges) - self.common
        return (self.common - self.expected) / max(1.0, union - self.expected)

    @property
    def cycles(self) -> int:
        """Common edges beyond those of a tree, which any two graphs have in common somewhere."""
        return max(0, self.common - self.matched)


def shared(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Positions in ``a`` and in ``b`` of the keys that both have; keys ascend, each once."""
    if len(a[0]) > len(b[0]):
        second, first = shared(b, a)
        return first, second
    if not len(a[0]):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    at = np.searchsorted(b[0], a[0]).clip(max=len(b[0]) - 1)
    hit = b[0][at] == a[0]
    return np.flatnonzero(hit), at[hit]


def by_node(a: Signatures, b: Signatures, kind: str) -> Match:
    """Nodes whose signature occurs once in each graph."""
    if kind not in a.once or kind not in b.once:
        return _none()
    at = shared(a.once[kind], b.once[kind])
    return a.once[kind][1][at[0]], b.once[kind][1][at[1]]


def by_group(a: Signatures, b: Signatures, kind: str) -> Match:
    """Nodes of pairs or paths whose signature occurs once in each graph, but for contradictions."""
    one, other = a.groups[kind], b.groups[kind]
    at_a, at_b = shared((one.keys,), (other.keys,))
    left, right = one.nodes[:, at_a].ravel(), other.nodes[:, at_b].ravel()
    both = np.unique(left * b.num_nodes + right)
    left, right = both // b.num_nodes, both % b.num_nodes
    alone = np.bincount(left, minlength=1)[left] == 1
    alone &= np.bincount(right, minlength=1)[right] == 1
    return left[alone], right[alone]


def by_hubs(a: Signatures, b: Signatures) -> Match:
    """Structure alone, with some edges changed: hubs that look alike, and from there along edges.

    Empty where the hubs that look alike have no more edges in common than their degrees give.
    """
    if a.vectors.shape[0] < 2 or b.vectors.shape[0] < 2:
        return _none()
    size = [(v.vectors**2).sum(axis=1) for v in (a, b)]
    distance = size[0][:, None] + size[1] - 2 * a.vectors @ b.vectors.T
    there, back = distance.argmin(axis=1), distance.argmin(axis=0)
    mutual = np.flatnonzero(back[there] == np.arange(len(there)))
    seeds = a.hubs[mutual], b.hubs[there[mutual]]
    seen = agreement(a, b, seeds)
    score = (seen.common - seen.expected) / max(1.0, seen.expected) ** 0.5
    if seen.common < MIN_SEED_EDGES or score < MIN_SEED_SCORE:
        return _none()
    return _grow(a, b, seeds)


def agreement(a: Signatures, b: Signatures, match: Match, *, without: str = "") -> Agreement:
    """Edges that two graphs have in common among matched nodes.

    Args:
        a: The one.
        b: The other.
        match: Which nodes are taken for the same.
        without: Leave out edges that signatures of this kind are made of: they proposed the match.
    """
    num = len(match[0])
    one, other = _among(a, match[0]), _among(b, match[1])
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
    """Inner products of matched rows that are equal, beyond those of rows matched at random.

    Products that proposed the match (of two rows that share an edge) and those that are 0 in both
    graphs are not counted.

    Returns:
        Products that are equal, and their share of all, with chance taken off as in
        :attr:`Agreement.beyond_chance`.
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
        told = upper & ((products[0] != 0) | (right != 0))
        return int((told & (products[0] == right)).sum()), int(told.sum())

    equal, told = compare(products[1])
    turned = np.roll(np.arange(len(some)), 1)  # the same rows, each matched to another one
    by_chance, told_by_chance = compare(products[1][turned][:, turned])
    chance = by_chance / max(1, told_by_chance)
    return equal, (equal / max(1, told) - chance) / max(1e-9, 1 - chance)


def align(a: Signatures, b: Signatures, match: Match) -> Match:
    """Match further nodes by their rows, once the matched ones have told which column is which."""
    if a.scaled is None or b.scaled is None:
        return match
    for _ in range(ROUNDS):
        more = _aligned(a, b, match)
        if len(more[0]) == len(match[0]):
            break
        match = more
    return match


def _aligned(a: Signatures, b: Signatures, match: Match) -> Match:
    """One round: a column is known by the matched rows that have it, and their values there."""
    columns = []
    for side, nodes in ((a, match[0]), (b, match[1])):
        assert side.scaled is not None
        rows = side.scaled[nodes]
        place = np.repeat(np.arange(len(nodes)), np.diff(rows.indptr))
        entry = mix(mix(place) ^ mix(np.round(rows.data * SCALE).astype(np.int64)))
        keys = np.zeros(side.scaled.shape[1], dtype=np.uint64)
        np.add.at(keys, rows.indices, entry)
        columns.append(once(keys))
    at = shared(*columns)
    rows_by = []
    for side, (_, known), hit in zip((a, b), columns, at, strict=True):
        assert side.scaled is not None
        name = np.zeros(side.scaled.shape[1], dtype=np.uint64)
        name[known[hit]] = mix(np.arange(1, len(hit) + 1))
        x = side.scaled
        entry = mix(name[x.indices] ^ mix(np.round(x.data * SCALE).astype(np.int64)))
        entry[name[x.indices] == 0] = 0
        keys = row_sums(entry, x.indptr)
        rows_by.append(once(keys))
    at = shared(*rows_by)
    return _joined(match, (rows_by[0][1][at[0]], rows_by[1][1][at[1]]))


def extend(a: Signatures, b: Signatures, match: Match) -> Match:
    """Match further nodes whose neighbors are matched to each other, and keep what is matched."""
    for _ in range(ROUNDS // 2):
        common, most = _support(a, b, match)
        weight = np.sqrt(common / most) + 0.05
        left, right = _propose(a, b, match, weight)
        tried = _joined(match, (left, right))
        common, most = _support(a, b, tried)
        kept = (common >= 2) & (common / most >= 0.5)
        kept[: len(match[0])] = True
        if kept.sum() == len(match[0]):
            break
        match = tried[0][kept], tried[1][kept]
    return match


def _joined(match: Match, more: Match) -> Match:
    """A match and what another adds to it."""
    new = ~np.isin(more[0], match[0]) & ~np.isin(more[1], match[1])
    return np.concatenate([match[0], more[0][new]]), np.concatenate([match[1], more[1][new]])


def _grow(a: Signatures, b: Signatures, match: Match) -> Match:
    """Matches made again and again from those that agree best, from hubs to ever smaller nodes."""
    common, most = _support(a, b, match)
    good = common >= 1
    for step in range(ROUNDS):
        if good.sum() < 3:
            good[:] = True
        chosen = match[0][good], match[1][good]
        weight = np.sqrt(common / most)[good] + 0.05
        reach = 2 * len(a.hubs) * 2 ** (step // 2)
        match = _propose(a, b, chosen, weight, reach=reach)
        if not len(match[0]):
            break
        common, most = _support(a, b, match)
        good = (common >= 2) | ((common >= 1) & (common / most >= 0.5))
    return match[0][good[: len(match[0])]], match[1][good[: len(match[0])]]


def _propose(
    a: Signatures, b: Signatures, match: Match, weight: np.ndarray, *, reach: int | None = None
) -> Match:
    """Each node and the one that shares most matched neighbors with it, where both agree on that.

    Args:
        a: The one graph.
        b: The other.
        match: Nodes whose neighbors are proposed.
        weight: (M,) trust in each.
        reach: Only so many nodes of the highest degree.
    """
    cost = a.degree[match[0]].astype(float) * b.degree[match[1]]
    order = np.argsort(cost, kind="stable")  # the smallest say most, and cost least
    order = order[: max(1, int(np.searchsorted(np.cumsum(cost[order]), MAX_PRODUCTS)))]
    weight = weight[order] / np.log2(2 + np.sqrt(cost[order]))
    sides = []
    for side, nodes in ((a, match[0][order]), (b, match[1][order])):
        near = side.adjacency[nodes]
        if reach is not None and reach < side.num_nodes:
            floor = np.partition(side.degree, -reach)[-reach]
            near = near @ sparse.diags_array((side.degree >= floor).astype(float))
            near.eliminate_zeros()
        sides.append(sparse.csr_array(near))
    votes = (sides[0].T.tocsr() @ (sparse.diags_array(weight) @ sides[1])).tocoo()
    left, right = votes.row.astype(np.int64), votes.col.astype(np.int64)
    score = votes.data / np.sqrt(np.maximum(a.degree[left], b.degree[right]))
    there, back = _best(left, right, score, a.num_nodes), _best(right, left, score, b.num_nodes)
    chosen = np.flatnonzero(there >= 0)
    chosen = chosen[back[there[chosen]] == chosen]
    return chosen, there[chosen]


def _best(source: np.ndarray, target: np.ndarray, score: np.ndarray, num: int) -> np.ndarray:
    """Target of the highest score of each source, (num,); -1 where there is none."""
    best = np.full(num, -1)
    order = np.lexsort((score, source))  # the last of a source is its best
    best[source[order]] = target[order]
    return best


def _support(a: Signatures, b: Signatures, match: Match) -> tuple[np.ndarray, np.ndarray]:
    """Of each matched pair: common edges with other pairs, and the most there could be; (M,)."""
    num = len(match[0])
    one, other = _among(a, match[0]), _among(b, match[1])
    counts = [
        np.bincount(np.concatenate([codes // max(1, num), codes % max(1, num)]), minlength=num)
        for codes in (np.intersect1d(one, other, assume_unique=True), one, other)
    ]
    return counts[0], np.maximum(1, np.maximum(counts[1], counts[2]))


def _among(side: Signatures, nodes: np.ndarray) -> np.ndarray:
    """Edges among some nodes, each once, as ``position * M + position``."""
    place = np.full(side.num_nodes, -1)
    place[nodes] = np.arange(len(nodes))
    row, col = place[side.row], place[side.col]
    kept = (row >= 0) & (row < col)
    codes: np.ndarray = row[kept] * len(nodes) + col[kept]
    return codes


def _made_of(groups: Groups, num_nodes: int, nodes: np.ndarray) -> np.ndarray:
    """Edges of pairs and paths, as :func:`_among`."""
    place = np.full(num_nodes, -1)
    place[nodes] = np.arange(len(nodes))
    of = place[groups.nodes]
    ends = np.concatenate([of[[0, k]] for k in range(1, len(of))], axis=1)
    ends = np.sort(ends, axis=0)
    ends = ends[:, ends[0] >= 0]
    codes: np.ndarray = np.unique(ends[0] * len(nodes) + ends[1])
    return codes


def _none() -> Match:
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
