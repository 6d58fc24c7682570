"""Matches between the nodes of two graphs, from equal signatures.

A signature proposes a match; :mod:`graphfm.graphs.audit.agreement` then counts its common edges.
Nodes whose signatures are equal by chance have few edges in common.

Shapes:
    N  nodes   M  matched nodes   P  edges or paths
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from graphfm.graphs.audit.agreement import Match, agreement, edges_among
from graphfm.graphs.audit.groups import unique_keys
from graphfm.graphs.audit.signatures import SCALE, Signatures, row_sums
from graphfm.graphs.hashing import splitmix64

MAX_PRODUCTS = 1_000_000  # pairs of neighbors that one round counts; 0.1 s
ROUNDS = 8
MIN_SEED_EDGES = 6
MIN_SEED_SCORE = 3.0  # standard deviations


def shared(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions in ``a`` and ``b`` of common keys; keys ascend and occur once."""
    if len(a[0]) > len(b[0]):
        second, first = shared(b, a)
        return first, second
    if not len(a[0]):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    at = np.searchsorted(b[0], a[0]).clip(max=len(b[0]) - 1)
    hit = b[0][at] == a[0]
    return np.flatnonzero(hit), at[hit]


def by_node(a: Signatures, b: Signatures, kind: str) -> Match:
    """Match nodes whose signature occurs once in each graph."""
    if kind not in a.once or kind not in b.once:
        return _none()
    at = shared(a.once[kind], b.once[kind])
    return a.once[kind][1][at[0]], b.once[kind][1][at[1]]


def by_group(a: Signatures, b: Signatures, kind: str) -> Match:
    """Match the nodes of edges or paths whose signature occurs once in each graph.

    A node that would have two partners is left out.
    """
    one, other = a.groups[kind], b.groups[kind]
    at_a, at_b = shared((one.keys,), (other.keys,))
    left, right = one.nodes[:, at_a].ravel(), other.nodes[:, at_b].ravel()
    both = np.unique(left * b.num_nodes + right)
    left, right = both // b.num_nodes, both % b.num_nodes
    single = np.bincount(left, minlength=1)[left] == 1
    single &= np.bincount(right, minlength=1)[right] == 1
    return left[single], right[single]


def by_hubs(a: Signatures, b: Signatures) -> Match:
    """Match hubs with similar degrees around them, then further nodes along edges.

    It reads structure alone and finds graphs of which some edges have changed. The match is empty
    if the matched hubs have no more edges in common than their degrees lead to by chance.
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


def align(a: Signatures, b: Signatures, match: Match) -> Match:
    """Match further nodes by their feature rows, after matching columns by the matched nodes."""
    if a.scaled is None or b.scaled is None:
        return match
    for _ in range(ROUNDS):
        more = _aligned(a, b, match)
        if len(more[0]) == len(match[0]):
            break
        match = more
    return match


def _aligned(a: Signatures, b: Signatures, match: Match) -> Match:
    """Match columns that hold the same values in the matched rows, then nodes with equal rows."""
    columns = []
    for side, nodes in ((a, match[0]), (b, match[1])):
        assert side.scaled is not None
        rows = side.scaled[nodes]
        place = np.repeat(np.arange(len(nodes)), np.diff(rows.indptr))
        entry = splitmix64(
            splitmix64(place) ^ splitmix64(np.round(rows.data * SCALE).astype(np.int64))
        )
        keys = np.zeros(side.scaled.shape[1], dtype=np.uint64)
        np.add.at(keys, rows.indices, entry)
        columns.append(unique_keys(keys))
    at = shared(*columns)
    rows_by = []
    for side, (_, known), hit in zip((a, b), columns, at, strict=True):
        assert side.scaled is not None
        name = np.zeros(side.scaled.shape[1], dtype=np.uint64)
        name[known[hit]] = splitmix64(np.arange(1, len(hit) + 1))
        x = side.scaled
        entry = splitmix64(name[x.indices] ^ splitmix64(np.round(x.data * SCALE).astype(np.int64)))
        entry[name[x.indices] == 0] = 0
        keys = row_sums(entry, x.indptr)
        rows_by.append(unique_keys(keys))
    at = shared(*rows_by)
    return _joined(match, (rows_by[0][1][at[0]], rows_by[1][1][at[1]]))


def extend(a: Signatures, b: Signatures, match: Match) -> Match:
    """Add nodes whose neighbors are matched to each other; matched nodes stay matched."""
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
    """Return a match with those of another that contradict nothing in it."""
    new = ~np.isin(more[0], match[0]) & ~np.isin(more[1], match[1])
    return np.concatenate([match[0], more[0][new]]), np.concatenate([match[1], more[1][new]])


def _grow(a: Signatures, b: Signatures, match: Match) -> Match:
    """Renew a match from its best pairs, round by round, from hubs to nodes of lower degrees."""
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
    """Match nodes that have the most matched neighbors in common with each other.

    Args:
        a: Signatures of the one graph.
        b: Signatures of the other.
        match: Matched nodes; their neighbors are candidates.
        weight: Weight of each matched pair, (M,).
        reach: Number of nodes of the highest degrees that are candidates. Default: all.
    """
    cost = a.degree[match[0]].astype(float) * b.degree[match[1]]
    order = np.argsort(cost, kind="stable")  # nodes of few neighbors identify best and cost least
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
    """Return the target of the highest score of each source, (num,); -1 if there is none."""
    best = np.full(num, -1)
    order = np.lexsort((score, source))  # the last of a source is its best
    best[source[order]] = target[order]
    return best


def _support(a: Signatures, b: Signatures, match: Match) -> tuple[np.ndarray, np.ndarray]:
    """Return each pair's number of common edges with other pairs, and its upper bound, (M,)."""
    num = len(match[0])
    one, other = edges_among(a, match[0]), edges_among(b, match[1])
    counts = [
        np.bincount(np.concatenate([codes // max(1, num), codes % max(1, num)]), minlength=num)
        for codes in (np.intersect1d(one, other, assume_unique=True), one, other)
    ]
    return counts[0], np.maximum(1, np.maximum(counts[1], counts[2]))


def _none() -> Match:
    """Return an empty match."""
    return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
