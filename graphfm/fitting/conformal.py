"""Sets of classes that hold the true one as often as was asked for.

Split conformal prediction (Papadopoulos et al. 2002; Vovk et al. 2005) with the scores 1 - p, which
give the smallest sets on average (Sadinle, Lei, Wasserman 2019, arXiv 1609.00451), smoothed over
neighbors (Zargarbashi, Antonelli, Bojchevski 2023, ICML, "Conformal prediction sets for graph
neural networks"). If calibration nodes and the nodes asked about are exchangeable, a set holds the
class of its node with at least the coverage, on average over draws of the calibration nodes.

Shapes:
    Q  nodes   U  nodes with scores   n  calibration nodes   C  classes   T  neighbor slots
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphfm.errors import DataError

SMOOTHINGS = (0.0, 0.25, 0.5, 0.75)  # shares of the neighbors that the choice is made from
CHOICE_COVERAGE = 0.9  # at which it is made; what is chosen holds for every coverage
SLACK = 1e-6  # logits of a node differ by about this between batches; a tie must stay in the set


def check_coverage(coverage: float) -> float:
    """The coverage, if it can be one.

    Raises:
        DataError: GFM180 unless 0 < coverage < 1.
    """
    if not 0 < coverage < 1:
        raise DataError(
            "GFM180",
            f"coverage must be a share between 0 and 1, got {coverage}",
            why="1 would need every class in every set",
            fix="0.9 means that 9 of 10 sets hold the true class",
        )
    return coverage


def nodes_needed(coverage: float) -> int:
    """Calibration nodes from which on sets can be smaller than all classes.

    >>> [nodes_needed(c) for c in (0.5, 0.8, 0.9, 0.95)]
    [1, 4, 9, 19]
    """
    return next(n for n in range(1, 1 << 30) if rank_of(coverage, n) <= n)


def rank_of(coverage: float, count: int) -> int:
    """Which of the ascending scores is the threshold, from 1: ceil((n + 1) coverage).

    A relative 1e-12 is forgiven: 100 * 0.55 is 55.00000000000001, and must not become 56.
    """
    return math.ceil((count + 1) * coverage * (1 - 1e-12))


def threshold(scores: Tensor, coverage: float) -> float:
    """The score up to which a class belongs to a set; infinite with too few nodes.

    Args:
        scores: (n,) scores of the true classes of calibration nodes, in any order.
        coverage: Share of sets that shall hold the true class.
    """
    rank = rank_of(check_coverage(coverage), len(scores))
    return float(scores.sort().values[rank - 1]) if rank <= len(scores) else math.inf


def class_scores(proba: Tensor) -> Tensor:
    """How unlike each class is, in double precision: (U, C) -> (U, C), 1 - p."""
    return 1 - proba.double()


def smooth(scores: Tensor, rows: Tensor, neighbors: Tensor, mask: Tensor, share: float) -> Tensor:
    """Scores mixed with the mean of the neighbors': (1 - share) own + share mean.

    No label is read and all nodes are treated alike, so that exchangeable nodes stay so.

    Args:
        scores: (U, C).
        rows: (Q,) places in ``scores``.
        neighbors: (Q, T) places in ``scores``.
        mask: (Q, T) bool, True = a neighbor that is there; a node without any keeps its own.
        share: Of the neighbors.

    Returns:
        (Q, C).
    """
    own = scores[rows]
    if share == 0:
        return own
    sums = torch.zeros_like(own)
    for slot in range(neighbors.shape[1]):  # (Q, T, C) at once is 3 GB for 1M nodes of 47 classes
        sums += scores[neighbors[:, slot]] * mask[:, slot, None]
    count = mask.sum(dim=1, keepdim=True)
    mean = torch.where(count > 0, sums / count.clamp(min=1), own)
    return (1 - share) * own + share * mean


def true_scores(scores: Tensor, y: Tensor) -> Tensor:
    """The score at which a node's set becomes right: (Q, C) -> (Q,).

    Args:
        scores: (Q, C).
        y: (Q,) classes, or (Q, C) labels of 0 and 1: then the worst of the labels that a node has,
            so that the set holds all of them; 0 for a node that has none.
    """
    if y.ndim == 2:
        return torch.where(y == 1, scores, 0.0).amax(dim=1)
    return scores.gather(1, y[:, None])[:, 0]


def sets_of(scores: Tensor, bound: float, *, fill: bool) -> Tensor:
    """Classes with a score up to the bound: (Q, C) -> (Q, C) bool.

    Args:
        scores: (Q, C).
        bound: As :func:`threshold` gives it.
        fill: Whether an empty set gets the likeliest class, which can only add to the coverage.
    """
    chosen = scores <= bound + SLACK
    if fill:
        empty = ~chosen.any(dim=1)
        chosen[empty, scores[empty].argmin(dim=1)] = True
    return chosen


def choose_smoothing(
    scores: Tensor, rows: Tensor, neighbors: Tensor, mask: Tensor, y: Tensor
) -> float:
    """The share of the neighbors that gives the smallest sets at :data:`CHOICE_COVERAGE`.

    On nodes that calibrate nothing: a choice made on the calibration nodes would be paid for with
    coverage. Of equals the smaller; 0 where the nodes are too few to tell.

    Args:
        scores: (U, C).
        rows: (Q,) places in ``scores``.
        neighbors: (Q, T) places in ``scores``.
        mask: (Q, T) bool.
        y: (Q,) classes or (Q, C) labels of these nodes.
    """
    sizes = {}
    for share in SMOOTHINGS:
        mixed = smooth(scores, rows, neighbors, mask, share)
        bound = threshold(true_scores(mixed, y), CHOICE_COVERAGE)
        sizes[share] = float(sets_of(mixed, bound, fill=y.ndim == 1).sum(dim=1).double().mean())
    return min(sizes, key=lambda share: sizes[share])
