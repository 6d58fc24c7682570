"""TODO: graphfm/estimator/masks.py, from graphfm/estimator/base.py."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph

VAL_SHARE = 0.2  # of the training nodes, split off where a graph brings no validation nodes


MIN_TO_SPARE = 10  # training nodes; of fewer none is split off


def mask_of(given: Any, graph: Graph, own: Tensor | None, default: Tensor | None = None) -> Tensor:
    """A mask as given, else the graph's own, else the default, else all nodes.

    Raises:
        DataError: GFM116 for one that is not (N,) bool.
    """
    if given is None:
        if own is not None:
            return own
        return default if default is not None else torch.ones(graph.num_nodes, dtype=torch.bool)
    mask = torch.as_tensor(given)
    if mask.dtype != torch.bool or mask.shape != (graph.num_nodes,):
        raise DataError(
            "GFM116",
            f"a mask must be ({graph.num_nodes},) bool, got {tuple(mask.shape)} {mask.dtype}",
            where=graph.name,
        )
    return mask
