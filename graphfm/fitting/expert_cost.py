"""Memory and operations of the experts of a fit, before it begins.

Shapes:
    N  nodes   E  edges, both directions   n  training nodes   C  classes   F  features
    B  columns of a neighbor block   P  columns of one expert
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphfm.experts import trees
from graphfm.experts.columns import (
    DIFFUSION_STEPS,
    NARROW,
    NUM_WAVES,
    ROWS,
    SHARE_EXPERTS,
    TREE_COLUMNS,
    TREES,
)
from graphfm.experts.label_shares import FEW, NUM_FOLDS, REACHES, WALKS
from graphfm.experts.pool import MAX_FIT_NODES, too_large
from graphfm.experts.scaled_ridge import powers_for

if TYPE_CHECKING:
    from graphfm.fitting.sizes import Sizes

# Floating point operations of a matrix product in the time in which one number is read from memory
# and added. The counts below are in such reads.
OPERATIONS_PER_READ = 30
READS_PER_PREDICTION = 110  # all temperatures of one class of one node
READS_PER_BIN = 200  # of a cell that is sorted into a bin
READS_PER_TREE = 60  # of a row that runs through one tree


def has_experts(sizes: Sizes) -> bool:
    """True if a fit has experts: they are asked for, and the graph is not too large."""
    return sizes.pool and not too_large(sizes.num_nodes, sizes.num_classes)


def widths(sizes: Sizes) -> dict[str, int]:
    """Return the number of columns P of each fitted expert."""
    block = _block_width(sizes)
    found = {"kernel": 2 * NUM_WAVES}
    if sizes.num_features:
        found |= {"features": block, "smoothed": block, "diffused": 2 * block}
    labels = len(REACHES) * sizes.num_classes * (sizes.num_edges > 0)
    if sizes.num_edges:
        found["context"] = sizes.num_raw + labels
    if sizes.with_trees and trees.can_grow(sizes.num_train, sizes.num_classes):
        found[TREES] = labels + sum(min(block, most) for most in TREE_COLUMNS)
    return found


def num_experts(sizes: Sizes) -> int:
    """Return the number of experts of a fit, without the ridge of the head."""
    if not has_experts(sizes):
        return 0
    # the label shares, and the predictions of neighbors
    return len(widths(sizes)) + (len(SHARE_EXPERTS) + 1) * (sizes.num_edges > 0)


def memory_of_experts(sizes: Sizes) -> tuple[int, dict[str, int]]:
    """Return the bytes of the predictions, which last, and the bytes that are given back."""
    if not has_experts(sizes):
        return 0, {}
    n, block = sizes.num_nodes, _block_width(sizes)
    log_probs = 4 * n * sizes.num_classes * num_experts(sizes)
    rows = min(sizes.num_train, MAX_FIT_NODES)
    wide = max(widths(sizes).values())
    # Three blocks scaled, one spread, and those in hand while they are made.
    blocks = 4 * n * (3 * sizes.num_features + 4 * block)
    ridge = 8 * (4 * rows * wide + 3 * min(rows, wide) ** 2)
    waves = 4 * min(n, ROWS) * (8 * block + 5 * NUM_WAVES)
    shares = 4 * n * (sizes.num_classes + 1) * 4 * len(REACHES)
    return log_probs, {"experts": log_probs + blocks + max(ridge, waves, shares)}


def flops_of_experts(sizes: Sizes) -> int:
    """Count the operations of matrix products: ridges, random features, scores of all nodes."""
    if not has_experts(sizes):
        return 0
    total = 0
    rows = min(sizes.num_train, MAX_FIT_NODES)
    for name, width in widths(sizes).items():
        if name == TREES:
            continue
        small = min(rows, width)
        tries = len(powers_for(rows, sizes.num_features)) if name in NARROW else 1
        # Gram matrix, eigenvectors, left or right vectors; in double precision, at half the rate
        total += tries * 2 * (4 * rows * width * small + 10 * small**3)
        total += 2 * (rows + sizes.num_nodes) * width * sizes.num_classes
    return total + 2 * (rows + sizes.num_nodes) * 4 * _block_width(sizes) * NUM_WAVES


def slow_operations(sizes: Sizes) -> int:
    """Count means over neighbors, temperatures and trees, in operations of a matrix product."""
    if not has_experts(sizes):
        return 0
    block, c = _block_width(sizes), sizes.num_classes
    folds = NUM_FOLDS if sizes.num_train > FEW else 2 * NUM_FOLDS
    walked = sum(steps for _, steps in WALKS) * (1 + folds) * (c + 1)
    reads = (sizes.num_edges + sizes.num_nodes) * ((DIFFUSION_STEPS + 4) * block + walked)
    reads += READS_PER_PREDICTION * sizes.num_nodes * (block + c * num_experts(sizes))
    columns = widths(sizes).get(TREES)
    if columns is not None:
        grown = trees.TURNS * (1 if c == 2 else c)
        rows = min(sizes.num_train, trees.MAX_ROWS)
        reads += (trees.NUM_FOLDS + 1) * rows * columns * (READS_PER_BIN + grown)
        reads += READS_PER_TREE * grown * (sizes.num_nodes + rows)
    return OPERATIONS_PER_READ * reads


def _block_width(sizes: Sizes) -> int:
    """Columns of a neighbor block: features, or all raw columns where there are none."""
    return sizes.num_features or sizes.num_raw
