"""Raw columns of a node for a linear model: positions, and features averaged over hops.

Shapes:
    N  nodes   F  transformed features   R  raw columns, 3 F + k + 2   k  eigenvectors
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphfm.graphs.features.neighbor_mean import hop_features
from graphfm.graphs.features.prepare import PreparedGraph

NUM_HOPS = 2

Scaling = dict[str, Tensor]
"""``center`` of degree and return probability, (2,), and ``scale`` of each block of columns."""


def num_multihop(graph: PreparedGraph) -> int:
    """Return the number of raw columns of a graph, R."""
    return (NUM_HOPS + 1) * graph.num_features + (graph.pe.shape[1] - 2) // 2 + 2


def multihop(graph: PreparedGraph) -> Tensor:
    """Return the raw columns of all nodes, (N, R) float32; see :func:`scaled_multihop`."""
    return scaled_multihop(graph)[0]


def scaled_multihop(graph: PreparedGraph, like: Scaling | None = None) -> tuple[Tensor, Scaling]:
    """Return [asinh(eigenvectors), degree and return probability, x, M x, M^2 x] and its scaling.

    M averages over neighbors, which shrinks values. Each block is therefore divided by the root of
    its mean square, so that a ridge penalty treats all blocks alike. Eigenvalues are left out:
    they are constant over a component.

    Args:
        graph: The graph.
        like: Scaling of the graph that a head was fitted to, so that the columns have the same
            units here. Default: the scaling of this graph.

    Returns:
        (N, R) float32, and the scaling that was applied.
    """
    num_eigenvectors = (graph.pe.shape[1] - 2) // 2
    structure = graph.pe[:, 2 * num_eigenvectors :]
    center = structure.mean(dim=0) if like is None else like["center"]
    widths = [num_eigenvectors, 2, *[graph.num_features] * (NUM_HOPS + 1)]
    out = torch.empty(graph.num_nodes, sum(widths))  # filled in place, to hold it once in memory
    # localised eigenvectors have entries above 100
    torch.asinh(graph.pe[:, :num_eigenvectors], out=out[:, :num_eigenvectors])
    torch.sub(structure, center, out=out[:, num_eigenvectors : num_eigenvectors + 2])
    if graph.num_features:
        out[:, num_eigenvectors + 2 :] = hop_features(
            graph.rowptr, graph.col, graph.x, num_hops=NUM_HOPS
        )
    blocks = out.split([width for width in widths if width], dim=1)
    if like is None:
        scale = torch.stack([b.square().mean().sqrt().clamp(min=1e-6) for b in blocks])
    else:
        scale = like["scale"]
    for block, by in zip(blocks, scale, strict=True):
        block /= by
    return out, {"center": center, "scale": scale}
