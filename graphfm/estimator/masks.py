"""Masks of an estimator: training and validation nodes of a fit, nodes to predict.

Shapes:
    N  nodes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.masks import read_mask
from graphfm.graphs.splits import stratified_split

VAL_SHARE = 0.2  # share of the training nodes to validate on, for a graph without validation nodes
MIN_TO_SPARE = 10  # training nodes; with fewer, none is taken for validation
# Labels a class, on average. Up to here none is taken for validation: keeping all of them for the
# pool of experts gained 1.6 points at 3 a class and 1.7 at 10 (10 graphs, 2 seeds).
FEW_A_CLASS = 10


def mask_of(given: Any, graph: Graph, own: Tensor | None, default: Tensor | None = None) -> Tensor:
    """Return the given mask, else the graph's own, else the default, else all nodes; (N,) bool.

    Args:
        given: Mask that the user passed, or positions or ids of nodes; None for none.
        graph: The graph.
        own: The graph's own mask; None if it has none.
        default: Mask if neither is there. Default: all nodes.

    Raises:
        DataError: See :func:`graphfm.graphs.masks.read_mask`.
    """
    if given is None:
        if own is not None:
            return own
        return default if default is not None else torch.ones(graph.num_nodes, dtype=torch.bool)
    return read_mask(given, graph.num_nodes, where=graph.name, ids=graph.node_ids)


def fit_masks(graph: Graph, train: Any, val: Any, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return the training and the validation nodes of a fit, (N,) bool each, without overlap.

    Without validation nodes, :data:`VAL_SHARE` of the training nodes is split off, unless there are
    few.

    Args:
        graph: The graph; its test nodes are in neither mask.
        train: Training mask that the user passed; None uses the graph's own, or all labelled nodes
            that are not in its other masks.
        val: Validation mask that the user passed; None uses the graph's own.
        seed: Seed of the split.

    Raises:
        DataError: GFM116 for a mask that is not (N,) bool, GFM135 if the masks overlap.
    """
    no_node = torch.zeros(graph.num_nodes, dtype=torch.bool)
    all_nodes = ~no_node
    if train is None and graph.train_mask is None:
        others = [m for m in (graph.val_mask, graph.test_mask) if m is not None]
        all_nodes = ~torch.stack([no_node, *others]).any(dim=0)
    chosen = mask_of(train, graph, graph.train_mask, default=all_nodes) & graph.labelled
    if val is None and train is None and graph.val_mask is not None:
        return chosen, graph.val_mask
    if val is not None:
        stop = mask_of(val, graph, None, default=no_node)
        if (stop & chosen).any():
            raise DataError("GFM135", "train_mask and val_mask overlap", where=graph.name)
        return chosen, stop
    if graph.y is None or int(chosen.sum()) < MIN_TO_SPARE:
        return chosen, no_node
    if graph.has_classes and int(chosen.sum()) <= FEW_A_CLASS * len(graph.y[chosen].unique()):
        return chosen, no_node
    y = graph.y.clone()
    y[~chosen] = torch.nan if y.is_floating_point() else -1
    parts = stratified_split(y, (1 - VAL_SHARE, VAL_SHARE, 0.0), seed=seed, ids=graph.ids())
    return parts[0], parts[1]


def split_ids(graph: Graph, train: Tensor, val: Tensor) -> dict[str, list[str]]:
    """Return the ids of the labelled nodes in each part of the split of a fit.

    Args:
        graph: Graph of the fit. Its test nodes are the test nodes; without a test mask, all nodes
            that the fit did not use.
        train: Training nodes of the fit, (N,) bool.
        val: Validation nodes of the fit, (N,) bool.
    """
    test = mask_of(None, graph, graph.test_mask) & ~train & ~val
    ids = graph.ids()
    return {
        part: [ids[i] for i in (mask & graph.labelled).nonzero().flatten().tolist()]
        for part, mask in (("train", train), ("val", val), ("test", test))
    }


def parts_of_nodes(graph: Graph, split: Mapping[str, Sequence[str]]) -> list[str | None]:
    """Return the part of a split of each node, found by id; ``unlabelled`` without a label.

    A labelled node that is in no part has None.

    Args:
        graph: Any graph.
        split: Ids of the nodes in each part; see :func:`split_ids`.
    """
    part = {name: word for word, names in split.items() for name in names}
    return [
        part.get(name, None if labelled else "unlabelled")
        for name, labelled in zip(graph.ids(), graph.labelled.tolist(), strict=True)
    ]


def nodes_to_score(graph: Graph, mask: Any, parts: Sequence[str | None] | None) -> Tensor:
    """Return the labelled nodes to score, (N,) bool: without a mask, never nodes of the fit.

    Args:
        graph: Graph with labels.
        mask: Mask that the user passed. None takes the test nodes of the fit; in another graph its
            own test nodes, or all.
        parts: Part of each node in the split of the fit, (N,); None for another graph.

    Raises:
        DataError: GFM116 for a mask that is not (N,) bool, GFM133 if there is no such node.
    """
    chosen = graph.labelled & mask_of(mask, graph, None)
    if mask is None and parts is not None and "test" in parts:
        chosen &= torch.tensor([part == "test" for part in parts])
    elif mask is None:
        chosen &= mask_of(None, graph, graph.test_mask)
        if parts is not None:
            chosen &= torch.tensor([part not in ("train", "val") for part in parts])
    if not bool(chosen.any()):
        raise DataError(
            "GFM133",
            "there is no labelled node to score on that the fit did not use",
            where=graph.name,
            fix="keep test nodes: fit(graph, train_mask=...), or a split from with_split(graph); "
            "score(mask=...) scores the nodes that you name",
        )
    return chosen


def split_to_compare(graph: Graph, given: tuple[Tensor, Tensor] | None) -> Graph:
    """Return the graph with the split on which models are compared.

    Args:
        graph: A graph with labels.
        given: Training and validation nodes of the fit, if the user passed masks. The test nodes
            are then the graph's own, or all other labelled nodes. None uses the graph's own split.

    Raises:
        DataError: GFM133 if there are no training nodes or no test nodes.
    """
    if given is not None:
        train, val = given
        test = graph.labelled if graph.test_mask is None else graph.test_mask
        graph = graph.replace(train_mask=train, val_mask=val, test_mask=test & ~train & ~val)
    for part, mask in (("training", graph.train_mask), ("test", graph.test_mask)):
        if mask is None or not (mask & graph.labelled).any():
            raise DataError(
                "GFM133",
                f"there are no labelled {part} nodes to compare on",
                where=graph.name,
                fix="pass train_mask to fit(), or give the graph a split: with_split(graph)",
            )
    return graph
