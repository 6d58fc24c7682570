"""Rows of features without edges, as a graph that the encoder of a fit can read.

Shapes:
    N  new rows   M  rows kept from the fit   F  transformed feature columns
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.spec import TaskSpec


def join_rows(rows: Tensor, prepared: PreparedGraph) -> PreparedGraph:
    """Put the rows of a fit before those of a graph without edges.

    Args:
        rows: Transformed features of rows of the fit, (M, F).
        prepared: New rows, a graph of N nodes without edges.

    Returns:
        A graph of M + N nodes without edges or labels.
    """
    num_nodes = len(rows) + prepared.num_nodes
    pe = prepared.pe.new_zeros(num_nodes, prepared.pe.shape[1])  # as every node without an edge
    return PreparedGraph(
        name=prepared.name,
        rowptr=torch.zeros(num_nodes + 1, dtype=torch.int64),
        col=prepared.col,
        x=torch.cat([rows.to(prepared.x.dtype), prepared.x]),
        pe=pe,
        y=None,
        train_mask=None,
        val_mask=None,
        test_mask=None,
        task=TaskSpec(num_classes=0),
        class_names=(),
        node_ids=None,
        transform=prepared.transform,
        position_method=prepared.position_method,
    )
