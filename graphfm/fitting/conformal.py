"""Prediction sets with a guaranteed coverage.

Split conformal prediction (Papadopoulos et al. 2002; Vovk et al. 2005) with the scores 1 - p, which
give the smallest sets on average (Sadinle, Lei, Wasserman 2019, arXiv 1609.00451), smoothed over
neighbors (Zargarbashi, Antonelli, Bojchevski 2023, ICML, "Conformal prediction sets for graph
neural networks"). If calibration nodes and the nodes to predict are exchangeable, a set contains
the class of its node with at least the coverage, on average over draws of the calibration nodes.

Shapes:
    Q  nodes   U  nodes with scores   n  calibration nodes   C  classes   T  neighbor slots
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphfm.errors import DataError

SMOOTHINGS = (0.0, 0.25, 0.5, 0.75)  # shares of the neighbors to choose from
CHOICE_COVERAGE = 0.9  # coverage at which the share is chosen; it is used for every coverage
SLACK = 1e-6  # logits of a node differ by about this between batches; a tie must stay in the set


def check_coverage(coverage: float) -> float:
    """Return the coverage if it is a share between 0 and 1.

    Raises:
        DataError: GFM180 if it is not.
    """
    if not 0 < coverage < 1:
        raise DataError(
            "GFM180",
            f"coverage must be a share between 0 and 1, got {coverage}",
            why="a coverage of 1 would need every class in every set",
            fix="pass a share such as 0.9: 9 of 10 sets then contain the true class",
        )
    return coverage


def nodes_needed(coverage: float) -> int:
    """Return the least number of calibration nodes for which sets need not contain all classes.

    >>> [nodes_needed(c) for c in (0.5, 0.8, 0.9, 0.95)]
    [1, 4, 9, 19]
    """
    return next(n for n in range(1, 1 << 30) if rank_of(coverage, n) <= n)


def rank_of(coverage: float, count: int) -> int:
    """Return the rank of the threshold among ascending scores, from 1: ceil((n + 1) coverage).

    The tolerance of 1e-12 keeps 100 * 0.55 = 55.00000000000001 from becoming 56.
    """
    return math.ceil((count + 1) * coverage * (1 - 1e-12))


def threshold(scores: Tensor, coverage: float) -> float:
    """Return the score up to which a class belongs to a set; infinite with too few nodes.

    Args:
        scores: Scores of the true classes of calibration nodes, (n,), in any order.
        coverage: Share of sets that contain the true class.
    """
    rank = rank_of(check_coverage(coverage), len(scores))
    return float(scores.sort().values[rank - 1]) if rank <= len(scores) else math.inf


def class_scores(proba: Tensor) -> Tensor:
    """Return the conformal score 1 - p of each class, in float64: (U, C) -> (U, C)."""
    return 1 - proba.double()


def smooth(scores: Tensor, rows: Tensor, neighbors: Tensor, mask: Tensor, share: float) -> Tensor:
    """Mix scores with the mean over neighbors: (1 - share) own + share mean.

    No label is read and all nodes are treated alike, so that exchangeable nodes stay exchangeable.

    Args:
        scores: Scores, (U, C).
        rows: Rows of ``scores`` of the nodes, (Q,).
        neighbors: Rows of ``scores`` of their neighbors, (Q, T).
        mask: True for real neighbors, (Q, T) bool. A node without any keeps its own scores.
        share: Share of the neighbors, between 0 and 1.

    Returns:
        Smoothed scores, (Q, C).
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
    """Return the least threshold at which each node's set contains the truth: (Q, C) -> (Q,).

    Args:
        scores: Scores, (Q, C).
        y: Classes (Q,), or labels of 0 and 1 (Q, C). For labels it is the largest score among those
            of the node, so that the set contains all of them; 0 for a node without labels.
    """
    if y.ndim == 2:
        return torch.where(y == 1, scores, 0.0).amax(dim=1)
    return scores.gather(1, y[:, None])[:, 0]


def sets_of(scores: Tensor, bound: float, *, fill: bool) -> Tensor:
    """Return the classes with a score up to the bound: (Q, C) -> (Q, C) bool.

    Args:
        scores: Scores, (Q, C).
        bound: Result of :func:`threshold`.
        fill: If true, an empty set gets the likeliest class, which can only raise the coverage.
    """
    chosen = scores <= bound + SLACK
    if fill:
        empty = ~chosen.any(dim=1)
        chosen[empty, scores[empty].argmin(dim=1)] = True
    return chosen


def choose_smoothing(
    scores: Tensor, rows: Tensor, neighbors: Tensor, mask: Tensor, y: Tensor
) -> float:
    """Choose the share of the neighbors that gives the smallest sets at :data:`CHOICE_COVERAGE`.

    The nodes must not be the calibration nodes, or the coverage would suffer. Ties go to the
    smaller share; with too few nodes it is 0.

    Args:
        scores: Scores, (U, C).
        rows: Rows of ``scores`` of the nodes, (Q,).
        neighbors: Rows of ``scores`` of their neighbors, (Q, T).
        mask: True for real neighbors, (Q, T) bool.
        y: Classes (Q,) or labels (Q, C) of the nodes.
    """
    sizes = {}
    for share in SMOOTHINGS:
        mixed = smooth(scores, rows, neighbors, mask, share)
        bound = threshold(true_scores(mixed, y), CHOICE_COVERAGE)
        sizes[share] = float(sets_of(mixed, bound, fill=y.ndim == 1).sum(dim=1).double().mean())
    return min(sizes, key=lambda share: sizes[share])
