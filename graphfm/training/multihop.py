"""Raw multi-hop features: what a head may read beside the state.

Shapes:
    N  nodes   F  transformed features   R  raw columns, 3 F + k + 2   k  eigenvectors
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphfm.graphs.features import hop_features
from graphfm.graphs.prepare import PreparedGraph

NUM_HOPS = 2


def multihop(graph: PreparedGraph) -> Tensor:
    """Features, their averages over one and two hops, and the positional encoding.

    Each block is scaled to a mean square of 1, so that a ridge penalty weighs them alike whatever
    averaging has shrunk; eigenvalues are left out, they are the same for a whole component.

    Returns:
        (N, R) float32.
    """
    num_eigenvectors = (graph.pe.shape[1] - 2) // 2
    eigenvectors = graph.pe[:, :num_eigenvectors].asinh()  # localised ones have entries above 100
    structure = graph.pe[:, 2 * num_eigenvectors :]
    blocks = [eigenvectors, (structure - structure.mean(dim=0))]
    if graph.num_features:
        hops = hop_features(graph.rowptr, graph.col, graph.x, num_hops=NUM_HOPS)
        blocks += list(hops.split(graph.num_features, dim=1))
    scales = [b.square().mean().sqrt().clamp(min=1e-6) for b in blocks]
    return torch.cat([b / s for b, s in zip(blocks, scales, strict=True)], dim=1)
