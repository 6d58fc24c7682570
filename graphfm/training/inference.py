"""Predict without learning: latents once for a graph, then its targets in tiles.

Shapes:
    Q  targets   D  width   K  latents   C  classes
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from graphfm.model import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import GraphBatch, make_batch, sample_context

TILE = 1024  # targets at once: at T = 16 and D = 96 their tokens take about 7 MB a layer


@torch.no_grad()
def decoded_tiles(
    model: GraphFM,
    bank: GraphBank,
    graph: int,
    nodes: Tensor,
    *,
    num_neighbors: int,
    max_context: int,
    seed: int,
    tile: int = TILE,
) -> Iterator[tuple[GraphBatch, Tensor]]:
    """Batches of targets of one graph with their states; each node's result is its own.

    Args:
        model: Put into evaluation mode.
        bank: Holds the graph.
        graph: Its place there.
        nodes: (Q,) places in the graph.
        num_neighbors: T.
        max_context: Nodes that the encoder reads.
        seed: Decides the context of a large graph and every node's neighbors.
        tile: Targets at once.

    Yields:
        The batch of a tile and its states (at most ``tile``, D).
    """
    model.eval()
    num_nodes = bank.offset[graph + 1] - bank.offset[graph]
    context = sample_context(num_nodes, max_context, seed=[seed, 0, 0])
    latents = None
    for part in nodes.split(tile):
        batch = make_batch(
            bank,
            [graph],
            [part],
            [context],
            num_neighbors=num_neighbors,
            seed=seed,
            epoch=0,
            with_labels=False,
        )
        tokens = model.embed(batch)
        if latents is None:
            latents = model.encode(batch, tokens)
            context = context[:0]  # read once; later tiles only decode
        yield batch, model.decode(batch, tokens, latents)


def node_states(model: GraphFM, bank: GraphBank, graph: int, nodes: Tensor, **sampling) -> Tensor:
    """States of nodes (Q, D); keywords as in :func:`decoded_tiles`."""
    return torch.cat([s for _, s in decoded_tiles(model, bank, graph, nodes, **sampling)])


def node_logits(model: GraphFM, bank: GraphBank, graph: int, nodes: Tensor, **sampling) -> Tensor:
    """Logits of nodes (Q, C); keywords as in :func:`decoded_tiles`."""
    tiles = decoded_tiles(model, bank, graph, nodes, **sampling)
    with torch.no_grad():
        return torch.cat([model.predict(batch, states)[0] for batch, states in tiles])
