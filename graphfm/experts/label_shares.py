"""Shares of known labels around each node; a node's own label is never counted.

A user's training labels are known when the other nodes are predicted. In a prototype, shares of
neighbors' labels beside the features gained 5 to 20 points where labels cluster.

Shapes:
    N  nodes   C  classes   P  columns   H  reaches: 1 hop, 2 hops, near, far
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphfm.graphs.features.neighbor_mean import averaging

REACHES = ("one-hop", "two-hops", "near", "far")
# Personalised PageRank: (probability to continue, steps). The tail cut off weighs 0.4% and 7%.
WALKS = ((0.5, 8), (0.9, 25))
PRIOR_NODES = 1.0  # the class frequencies count as one more labelled neighbor
NUM_FOLDS = 5
FEW = 200  # labelled nodes; with fewer there are twice as many folds
MAX_WALKED = 500_000  # numbers of the folds that walk side by side


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelShares:
    """Shares of the known labels around each node.

    Args:
        shares: Share of each class among the labels in reach, (N, H, C); rows sum to 1.
        prior: Class frequencies among all known labels, (C,): the share where no label is in reach.
    """

    shares: Tensor
    prior: Tensor


def label_shares(
    rowptr: Tensor, col: Tensor, known: Tensor, num_classes: int, *, seed: int
) -> LabelShares:
    """Compute the shares of the known labels around every node.

    A node's own label is left out. At one hop it is never in reach. At two hops the walk there and
    back is subtracted. The longer walks of a labelled node use only the labels of the other folds.

    Args:
        rowptr: CSR offsets, (N + 1,).
        col: Neighbors, (E,).
        known: Label of each node, (N,) int64, -1 = not known.
        num_classes: Number of classes C.
        seed: Seed of the folds.
    """
    rowptr, col, known = rowptr.cpu(), col.cpu(), known.cpu()
    nodes = (known >= 0).nonzero().flatten()
    start = torch.zeros(len(known), num_classes + 1)  # one-hot class, then 1 if labelled
    start[nodes, known[nodes]] = 1.0
    start[nodes, num_classes] = 1.0
    prior = start[nodes, :num_classes].mean(dim=0)
    mean = averaging(rowptr, col)
    degree = rowptr.diff().clamp(min=1).to(start.dtype)[:, None]
    one, back = mean(start), return_probability(mean, degree)
    reached = [one, two_hop_mean(mean, start, one, back), *_walk_folds(mean, start, nodes, seed)]
    paths = [degree, degree / back.clamp(min=1e-4)]  # number of labels a share may rest on
    paths += [degree / (1 - on) for on, _ in WALKS]
    shares = []
    for values, count in zip(reached, paths, strict=True):
        labelled = count * values[:, num_classes:]
        per_class = count * values[:, :num_classes]
        shares.append((per_class + PRIOR_NODES * prior) / (labelled + PRIOR_NODES))
    return LabelShares(shares=torch.stack(shares, dim=1), prior=prior)


def return_probability(mean: Callable[[Tensor], Tensor], degree: Tensor) -> Tensor:
    """Return the probability that two steps end where they began, (N, 1), for degrees (N, 1) >= 1.

    Args:
        mean: Mean over neighbors, (N, P) -> (N, P).
        degree: Degree of each node, at least 1.
    """
    return mean(1 / degree)


def two_hop_mean(
    mean: Callable[[Tensor], Tensor], values: Tensor, one: Tensor, back: Tensor
) -> Tensor:
    """Return the mean over walks of two steps, without those that come back, (N, P).

    Args:
        mean: Mean over neighbors, (N, P) -> (N, P).
        values: Values of each node, (N, P).
        one: Their mean over neighbors, (N, P).
        back: Result of :func:`return_probability`, (N, 1).
    """
    return (mean(one) - back * values).clamp(min=0)


def _walk_folds(
    mean: Callable[[Tensor], Tensor], start: Tensor, nodes: Tensor, seed: int
) -> list[Tensor]:
    """Random-walk means for each of WALKS, (N, C + 1); labelled nodes use the other folds."""
    num_folds = min(len(nodes), NUM_FOLDS if len(nodes) > FEW else 2 * NUM_FOLDS)
    order = np.random.default_rng(seed).permutation(len(nodes))
    fold = torch.from_numpy(order % max(1, num_folds))
    found = _walk(mean, start)
    # Folds side by side: on 1,000 nodes and edges a product costs as much for 50 columns as for 5.
    together = max(1, MAX_WALKED // start.numel())
    for folds in torch.arange(num_folds).split(together):
        without = start[:, None].repeat(1, len(folds), 1)
        for place, k in enumerate(folds.tolist()):
            without[nodes[fold == k], place] = 0.0
        for whole, parts in zip(found, _walk(mean, without.flatten(1)), strict=True):
            by_fold = parts.unflatten(1, (len(folds), -1))
            for place, k in enumerate(folds.tolist()):
                own = nodes[fold == k]
                whole[own] = by_fold[own, place]
    return found


def _walk(mean: Callable[[Tensor], Tensor], start: Tensor) -> list[Tensor]:
    """Random-walk means from all nodes for each of WALKS, (N, P)."""
    found = []
    for on, steps in WALKS:
        now, total = start, torch.zeros_like(start)
        for _ in range(steps):
            now = on * mean(now)
            total += now
        found.append((1 - on) * total)
    return found
