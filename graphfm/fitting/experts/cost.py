"""What the experts of a fit will need: memory, arithmetic, and seconds that are none of it.

Shapes:
    N  nodes   E  edges, both directions   n  nodes that are fitted on   C  classes   F  features
    P  columns of one expert
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphfm.fitting.experts import trees
from graphfm.fitting.experts.columns import (
    DIFFUSION_STEPS,
    NARROW,
    NUM_WAVES,
    ROWS,
    SHARE_EXPERTS,
    TREE_COLUMNS,
    TREES,
)
from graphfm.fitting.experts.label_shares import FEW, NUM_FOLDS, REACHES, WALKS
from graphfm.fitting.experts.pool import MAX_FIT_NODES, too_large
from graphfm.fitting.experts.scaled_ridge import powers_for

if TYPE_CHECKING:
    from graphfm.fitting.sizes import Sizes

# Seconds on one core, beside what products of matrices take; fitted to the graphs of the table in
# tests/test_fit_cost.py, on the machine of docs/benchmark.md.
EDGE_SECONDS = 1.2e-9  # of a column of one edge in a mean over neighbors
NUMBER_SECONDS = 1.1e-7  # of a number that is told of a node, or said of it
TREE_SECONDS = 4e-4  # of growing one tree
TREE_COLUMN_SECONDS = 5.5e-6  # of one of its columns
CELL_SECONDS = 8e-10  # of one cell of what it is grown on
BIN_SECONDS = 2e-7  # of a cell that is sorted into a bin
READ_SECONDS = 6e-8  # of a row in one tree


def has_experts(sizes: Sizes) -> bool:
    """Whether a fit has experts: where they were asked for, and not on too large a graph."""
    return sizes.pool and not too_large(sizes.num_nodes, sizes.num_classes)


def widths(sizes: Sizes) -> dict[str, int]:
    """Columns P of each fitted expert."""
    told = sizes.num_features or sizes.num_raw
    found = {"kernel": 2 * NUM_WAVES}
    if sizes.num_features:
        found |= {"features": told, "smoothed": told, "diffused": 2 * told}
    labels = len(REACHES) * sizes.num_classes * (sizes.num_edges > 0)
    if sizes.num_edges:
        found["context"] = sizes.num_raw + labels
    if sizes.with_trees and trees.can_grow(sizes.num_train, sizes.num_classes):
        found[TREES] = labels + sum(min(told, m) for m in TREE_COLUMNS)
    return found


def num_experts(sizes: Sizes) -> int:
    """How many a fit has, its own ridge not counted."""
    if not has_experts(sizes):
        return 0
    # those of the labels in reach, and what neighbors are said to be
    return len(widths(sizes)) + (len(SHARE_EXPERTS) + 1) * (sizes.num_edges > 0)


def memory_of_experts(sizes: Sizes) -> tuple[int, dict[str, int]]:
    """Bytes that last, what they say; and those that pass, by what they are for."""
    if not has_experts(sizes):
        return 0, {}
    n, told = sizes.num_nodes, sizes.num_features or sizes.num_raw
    said = 4 * n * sizes.num_classes * num_experts(sizes)
    rows = min(sizes.num_train, MAX_FIT_NODES)
    wide = max(widths(sizes).values())
    # Three blocks scaled, one spread, what is in hand while they are made.
    blocks = 4 * n * (3 * sizes.num_features + 4 * told)
    ridge = 8 * (4 * rows * wide + 3 * min(rows, wide) ** 2)
    waves = 4 * min(n, ROWS) * (8 * told + 5 * NUM_WAVES)
    context = 4 * n * (sizes.num_classes + 1) * 4 * len(REACHES)
    return said, {"experts": said + blocks + max(ridge, waves, context)}


def flops_of_experts(sizes: Sizes) -> int:
    """Of products of matrices: the ridges, the waves, and their answers for all nodes."""
    if not has_experts(sizes):
        return 0
    total = 0
    rows = min(sizes.num_train, MAX_FIT_NODES)
    told = sizes.num_features or sizes.num_raw
    for name, width in widths(sizes).items():
        if name == TREES:
            continue
        small = min(rows, width)
        tries = len(powers_for(rows, sizes.num_features)) if name in NARROW else 1
        # Gram matrix, eigenvectors, left or right vectors; in double precision, at half the pace
        total += tries * 2 * (4 * rows * width * small + 10 * small**3)
        total += 2 * (rows + sizes.num_nodes) * width * sizes.num_classes
    return total + 2 * (rows + sizes.num_nodes) * 4 * told * NUM_WAVES


def seconds_of_experts(sizes: Sizes) -> float:
    """Of means over neighbors, trees and temperatures."""
    if not has_experts(sizes):
        return 0.0
    told, c = sizes.num_features or sizes.num_raw, sizes.num_classes
    folds = NUM_FOLDS if sizes.num_train > FEW else 2 * NUM_FOLDS
    walked = sum(steps for _, steps in WALKS) * (1 + folds) * (c + 1)
    means = (DIFFUSION_STEPS + 2 + 2) * told + walked
    seconds = EDGE_SECONDS * (sizes.num_edges + sizes.num_nodes) * means
    seconds += NUMBER_SECONDS * sizes.num_nodes * (told + c * num_experts(sizes))
    columns = widths(sizes).get(TREES)
    if columns is not None:
        grown = trees.TURNS * (1 if c == 2 else c)
        rows = min(sizes.num_train, trees.MAX_ROWS)
        cells = rows * columns
        a_tree = TREE_SECONDS + TREE_COLUMN_SECONDS * columns + CELL_SECONDS * cells
        seconds += (trees.NUM_FOLDS + 1) * (BIN_SECONDS * cells + grown * a_tree)
        seconds += READ_SECONDS * grown * (sizes.num_nodes + rows)
    return seconds
