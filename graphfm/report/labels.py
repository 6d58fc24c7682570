"""Labels and split of the graph, in the terms of the fitted model.

Shapes:
    N  nodes   Q  chosen nodes   C  classes of the model
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graphfm.graphs.graph import Graph, labelled_nodes

PARTS = ("train", "val", "test")


def labels_in_order(graph: Graph, classes: Sequence[str]) -> tuple[Tensor | None, list[str]]:
    """Number the labels of a graph as the model numbers its classes.

    A node of a class that the model was not fitted to becomes unlabelled.

    Args:
        graph: The graph.
        classes: Names of the model's classes, (C,).

    Returns:
        Labels, (N,) or (N, C), None if they cannot be matched; and names of unknown classes.
    """
    y, names = graph.y, list(graph.class_names)
    if y is None or names == list(classes):
        return y, []
    unknown = sorted(set(names) - set(classes))
    if y.ndim == 2:  # a column that is missing and a label that is missing look the same
        return None, unknown or names
    place = {name: i for i, name in enumerate(classes)}
    numbers = torch.tensor([place.get(name, -1) for name in names] + [-1])
    return numbers[y], unknown  # -1 reads the last entry


def split_masks(
    graph: Graph, node_ids: Mapping[str, Sequence[Any]] | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Find the nodes of each part of the split.

    Args:
        graph: The graph.
        node_ids: Ids of the nodes of each part at the fit. None or empty uses the graph's masks.

    Returns:
        Masks (N,) by part, and a sentence if some nodes of the fit are not in the graph.
    """
    if not node_ids:
        own = {part: getattr(graph, f"{part}_mask") for part in PARTS}
        return {part: mask for part, mask in own.items() if mask is not None}, []
    place = {name: i for i, name in enumerate(graph.ids())}
    split, lost = {}, 0
    for part in PARTS:
        ids = node_ids.get(part, [])
        found = [place[name] for name in ids if name in place]
        lost += len(ids) - len(found)
        split[part] = mask_of(graph, torch.tensor(found, dtype=torch.int64))
    if not lost:
        return split, []
    total = sum(len(ids) for ids in node_ids.values())
    return split, [
        f"{lost:,} of the {total:,} nodes of the fit are not in this graph: the graph has changed "
        "since the fit, or it is another one."
    ]


def known_nodes(graph: Graph, y: Tensor | None) -> Tensor:
    """Mask of the nodes to evaluate, (N,) bool; with several labels per node, all must be known."""
    if y is None:
        return torch.zeros(graph.num_nodes, dtype=torch.bool)
    return labelled_nodes(y) if y.ndim == 1 else (y >= 0).all(dim=1)


def mask_of(graph: Graph, nodes: Tensor) -> Tensor:
    """Mask (N,) of some nodes."""
    mask = torch.zeros(graph.num_nodes, dtype=torch.bool)
    mask[nodes] = True
    return mask


def label_texts(y: Tensor | None, nodes: Tensor, classes: Sequence[str]) -> list[str]:
    """Labels of some nodes (Q,) as text; empty for an unlabelled node."""
    if y is None:
        return [""] * len(nodes)
    rows = y[nodes].tolist()
    if y.ndim == 1:
        return [classes[c] if c >= 0 else "" for c in rows]
    return ["; ".join(c for c, v in zip(classes, r, strict=True) if v == 1) for r in rows]
