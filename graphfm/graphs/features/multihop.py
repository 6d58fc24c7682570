"""Raw multi-hop features: what a head may read beside the state.

Shapes:
    N  nodes   F  transformed features   R  raw columns, 3 F + k + 2   k  eigenvectors
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.features.transform import hop_features

NUM_HOPS = 2

Scaling = dict[str, Tensor]  # center (2,) of degree and return probability; scale of each block


def num_multihop(graph: PreparedGraph) -> int:
    """R, the raw columns of a graph."""
    return (NUM_HOPS + 1) * graph.num_features + (graph.pe.shape[1] - 2) // 2 + 2


def multihop(graph: PreparedGraph) -> Tensor:
    """Raw columns of all nodes, (N, R) float32; see :func:`scaled_multihop`."""
    return scaled_multihop(graph)[0]


def scaled_multihop(graph: PreparedGraph, like: Scaling | None = None) -> tuple[Tensor, Scaling]:
    """Features, their averages over one and two hops, and the positional encoding.

    Each block is scaled to a mean square of 1, so that a ridge penalty weighs them alike whatever
    averaging has shrunk; eigenvalues are left out, they are the same for a whole component.

    Args:
        graph: The graph.
        like: That of the graph that a head was fitted to: a number then means the same here, in a
            graph of ten nodes too. None = this graph's own.

    Returns:
        (N, R) float32, and the scaling that was used.
    """
    num_eigenvectors = (graph.pe.shape[1] - 2) // 2
    structure = graph.pe[:, 2 * num_eigenvectors :]
    center = structure.mean(dim=0) if like is None else like["center"]
    widths = [num_eigenvectors, 2, *[graph.num_features] * (NUM_HOPS + 1)]
    out = torch.empty(graph.num_nodes, sum(widths))  # filled in place: it is made once, not thrice
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
