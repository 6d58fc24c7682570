"""Known labels as context: what is known of the nodes around a node, never of the node itself.

A user's training labels are known when the other nodes are predicted. In a prototype, shares of
neighbors' labels beside the features gained 5 to 20 points where labels cluster.

Shapes:
    N  nodes   C  classes   H  reaches: 1 hop, 2 hops, near, far
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphfm.graphs.features.neighbor_mean import averaging

REACHES = ("one-hop", "two-hops", "near", "far")
# Personalised PageRank: (share that walks on, steps); what is left out is below 0.4% and 7%.
WALKS = ((0.5, 8), (0.9, 25))
PRIOR_NODES = 1.0  # the classes' frequencies count as one more labelled neighbor
NUM_FOLDS = 5
FEW = 200  # labelled nodes; with fewer a fold is a tenth of them


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelContext:
    """What is known around each node.

    Args:
        shares: (N, H, C) share of each class among the labels in reach; rows sum to 1.
        prior: (C,) frequencies among the known labels: the shares where nothing is in reach.
    """

    shares: Tensor
    prior: Tensor


def label_context(
    rowptr: Tensor, col: Tensor, known: Tensor, num_classes: int, *, seed: int
) -> LabelContext:
    """Look at the known labels around every node.

    A node's own label is not in what it is told: at one hop it never is, at two the walk there and
    back is taken out, and the longer walks of a labelled node start from the other folds only.

    Args:
        rowptr: (N + 1,) CSR offsets.
        col: (E,) neighbors.
        known: (N,) int64, -1 = not known.
        num_classes: C.
        seed: Of the folds.
    """
    rowptr, col, known = rowptr.cpu(), col.cpu(), known.cpu()
    nodes = (known >= 0).nonzero().flatten()
    start = torch.zeros(len(known), num_classes + 1)  # classes, then whether it is labelled
    start[nodes, known[nodes]] = 1.0
    start[nodes, num_classes] = 1.0
    prior = start[nodes, :num_classes].mean(dim=0)
    mean = averaging(rowptr, col)
    degree = rowptr.diff().clamp(min=1).to(start.dtype)[:, None]
    one, back = mean(start), chance_back(mean, degree)
    reached = [one, beyond(mean, start, one, back), *_walks(mean, start, nodes, seed)]
    paths = [degree, degree / back.clamp(min=1e-4)]  # how many labels a share may rest on
    paths += [degree / (1 - on) for on, _ in WALKS]
    shares = []
    for values, count in zip(reached, paths, strict=True):
        labelled = count * values[:, num_classes:]
        told = count * values[:, :num_classes]
        shares.append((told + PRIOR_NODES * prior) / (labelled + PRIOR_NODES))
    return LabelContext(shares=torch.stack(shares, dim=1), prior=prior)


def chance_back(mean: Callable[[Tensor], Tensor], degree: Tensor) -> Tensor:
    """Chance that a walk of two steps is back where it began, (N, 1), of degrees >= 1 (N, 1)."""
    return mean(1 / degree)


def beyond(mean: Callable[[Tensor], Tensor], values: Tensor, one: Tensor, back: Tensor) -> Tensor:
    """What walks of two steps meet, but for those that came back: (N, P).

    Args:
        mean: The mean over neighbors.
        values: (N, P) what is met at each node.
        one: Their mean over neighbors.
        back: See :func:`chance_back`.
    """
    return (mean(one) - back * values).clamp(min=0)


def _walks(
    mean: Callable[[Tensor], Tensor], start: Tensor, nodes: Tensor, seed: int
) -> list[Tensor]:
    """Where random walks from each node find labels, (N, C + 1) for each of WALKS."""
    num_folds = min(len(nodes), NUM_FOLDS if len(nodes) > FEW else 2 * NUM_FOLDS)
    order = np.random.default_rng(seed).permutation(len(nodes))
    fold = torch.from_numpy(order % max(1, num_folds))
    found = _walk(mean, start)
    for k in range(num_folds):
        own = nodes[fold == k]
        without = start.clone()
        without[own] = 0.0
        for whole, part in zip(found, _walk(mean, without), strict=True):
            whole[own] = part[own]
    return found


def _walk(mean: Callable[[Tensor], Tensor], start: Tensor) -> list[Tensor]:
    found = []
    for on, steps in WALKS:
        now, total = start, torch.zeros_like(start)
        for _ in range(steps):
            now = on * mean(now)
            total += now
        found.append((1 - on) * total)
    return found
