"""Decision whether two graphs overlap, from their data.

Each kind of signature proposes a match of nodes. The match proves an overlap if its nodes have far
more edges in common, or far more equal feature rows, than chance gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphfm.graphs.audit.agreement import Agreement, Match, agreement, rows_agree
from graphfm.graphs.audit.matching import align, by_group, by_hubs, by_node, extend
from graphfm.graphs.audit.signatures import NODE_KINDS, Signatures

# Thresholds. 5,024 pairs of real graphs that share nothing, and 103 graphs drawn again with the
# same degrees and columns, stay below them, hints included (docs/audit.md).
MIN_BITS = 64.0  # surprise of a matched row: with a million nodes on each side 2^-64 is no chance
MIN_ROWS = 10  # matched rows of that surprise
MIN_SHORT_ROW_SHARE = 0.5  # share of the smaller graph that must match, for rows of less surprise
MIN_FIELDS = 2  # equal columns; one may be a rank or a position
MIN_ANCHORS = 3
MIN_ROW_SHARE = 0.02  # of the smaller graph: fewer equal rows can be texts that occur everywhere
MIN_CYCLES = 30  # common edges beyond a tree and beyond chance
MIN_BEYOND = 0.75  # Jaccard index of edges, corrected for chance
MIN_BEYOND_WIDE = 0.5  # the same, if at least this share of the smaller graph is matched:
WIDE = 0.3
MIN_PRODUCTS = 50  # equal inner products of rows
MIN_PRODUCTS_BEYOND = 0.5
MIN_PRODUCT_BITS = 20.0  # median surprise of matched rows: two images have the same pixel positions
HUB_RATIO = 2.5  # hubs of graphs whose sizes differ by more are not compared


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Comparison of the data of two graphs.

    Args:
        kinds: Kinds of signatures that prove an overlap; none = no overlap. See
            :mod:`graphfm.graphs.audit.signatures`.
        matched: Number of nodes that the best kind matches.
        shares: Matched share of the nodes of each graph.
        jaccard: Edges in both graphs over edges in either, among matched nodes.
        hint: Evidence that does not prove an overlap, in words; empty if there is none.
    """

    kinds: tuple[str, ...] = ()
    matched: int = 0
    shares: tuple[float, float] = (0.0, 0.0)
    jaccard: float | None = None
    hint: str = ""


def compare(a: Signatures, b: Signatures) -> Comparison:
    """Compare the data of two graphs by each kind of signature."""
    proofs: list[tuple[str, Match, Agreement]] = []
    hints: list[tuple[float, str]] = []
    for kind in (*NODE_KINDS, *a.groups, "hubs"):
        match = _match(a, b, kind)
        if len(match[0]) < MIN_ANCHORS:
            continue
        proved = False
        if kind in a.groups:
            equal, beyond = rows_agree(a, b, match)
            long = np.median(a.bits["rows"][match[0]]) >= MIN_PRODUCT_BITS
            proved = bool(long) and equal >= MIN_PRODUCTS and beyond >= MIN_PRODUCTS_BEYOND
            if beyond >= MIN_PRODUCTS_BEYOND:
                match = align(a, b, match)
        seen = agreement(a, b, match, without=kind)
        proved |= _edges_prove(a, b, seen)
        if kind in a.bits:
            proved |= _rows_prove(a, b, kind, match)
        if proved:
            proofs.append((kind, match, seen))
        elif _spare(seen) >= MIN_CYCLES / 3 and seen.beyond_chance >= MIN_BEYOND_WIDE:
            why = f"{seen.common} edges in common among {seen.matched} nodes matched by {kind}"
            hints.append((seen.beyond_chance, why))
    kinds = tuple(kind for kind, _, _ in proofs)
    if len(np.intersect1d(a.fields, b.fields)) >= MIN_FIELDS:
        kinds = (*kinds, "fields")
    if a.whole and a.whole == b.whole:
        return Comparison(
            kinds=(*kinds, "whole"), matched=a.num_nodes, shares=(1.0, 1.0), jaccard=1.0
        )
    if not kinds:
        return Comparison(hint=max(hints)[1] if hints else "")
    if not proofs:  # whole columns are equal: the nodes are the same, but they are not matched
        num = min(a.num_nodes, b.num_nodes)
        return Comparison(kinds=kinds, matched=num, shares=(num / a.num_nodes, num / b.num_nodes))
    match, seen = _best(a, b, proofs)
    num = len(match[0])
    return Comparison(
        kinds=kinds,
        matched=num,
        shares=(num / a.num_nodes, num / b.num_nodes),
        jaccard=seen.jaccard,
    )


def _match(a: Signatures, b: Signatures, kind: str) -> Match:
    """Match nodes by one kind of signature."""
    if kind in a.groups:
        return by_group(a, b, kind)
    if kind == "hubs":
        ratio = a.num_nodes / b.num_nodes
        if not 1 / HUB_RATIO < ratio < HUB_RATIO:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        return by_hubs(a, b)
    return by_node(a, b, kind)


def _spare(seen: Agreement) -> float:
    """Return the number of common edges beyond a tree and beyond chance."""
    return seen.common - seen.matched - seen.expected


def _edges_prove(a: Signatures, b: Signatures, seen: Agreement) -> bool:
    """Return true if the matched nodes have enough edges in common."""
    if _spare(seen) < MIN_CYCLES:
        return False
    wide = seen.matched >= WIDE * min(a.num_nodes, b.num_nodes)
    return seen.beyond_chance >= (MIN_BEYOND_WIDE if wide else MIN_BEYOND)


def _rows_prove(a: Signatures, b: Signatures, kind: str, match: Match) -> bool:
    """Return true for equal rows of much surprise, or for more equal rows than chance gives."""
    surprising = int((a.bits[kind][match[0]] >= MIN_BITS).sum())
    small = min(a.num_nodes, b.num_nodes)
    if surprising >= max(MIN_ROWS, MIN_ROW_SHARE * small):
        return True
    # One row of little surprise finds an equal row by chance; half of all rows do not.
    unique = a.once[kind][1]
    chance = np.minimum(1.0, b.num_nodes * 2.0 ** -a.bits[kind][unique]).sum()
    return bool(len(match[0]) >= max(MIN_ROWS + 5 * chance, MIN_SHORT_ROW_SHARE * small))


def _best(
    a: Signatures, b: Signatures, proofs: Sequence[tuple[str, Match, Agreement]]
) -> tuple[Match, Agreement]:
    """Return the largest match, extended by rows and along edges, and its agreement."""
    kind, match, seen = max(proofs, key=lambda proof: proof[2].matched)
    if kind in a.bits:
        match = align(a, b, match)
    if seen.beyond_chance >= MIN_BEYOND_WIDE:
        match = extend(a, b, match)
    return match, agreement(a, b, match)
