"""Predictions without training: latents once per graph, then its targets in tiles.

Shapes:
    Q  targets   U  targets and their neighbors   T  neighbors   D  width   C  classes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphfm.errors import CheckpointError
from graphfm.fitting.ensemble import Ensemble, member_seed, members_of
from graphfm.machine import one_thread_if_small
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import GraphBatch, make_batch, sample_context
from graphfm.sampling.neighbors import row_keys, sample_neighbors

TILE = 1024  # targets per tile: at T = 16 and D = 96 their tokens take about 7 MB a layer


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
    num_context: int | None = None,
    tile: int = TILE,
) -> Iterator[tuple[GraphBatch, Tensor]]:
    """Decode targets of one graph in tiles; the result of a node does not depend on its tile.

    Args:
        model: Model; it is put into evaluation mode.
        bank: Bank that holds the graph.
        graph: Index of the graph in the bank.
        nodes: Indices of the targets in the graph, (Q,).
        num_neighbors: Number of sampled neighbors T.
        max_context: Largest number of nodes that the encoder reads.
        seed: Seed of the context of a large graph and of every node's neighbors.
        num_context: The encoder reads only among this many first nodes. Default: among all.
        tile: Number of targets in a tile.

    Yields:
        The batch of a tile and its states, (at most ``tile``, D).
    """
    model.eval()
    num_nodes = bank.offset[graph + 1] - bank.offset[graph]
    of = num_nodes if num_context is None else num_context
    keys = None if bank.sample_keys is None else bank.sample_keys[:of]
    context = sample_context(of, max_context, seed=[seed, 0, 0], keys=keys)
    if not model.encoder.num_latents:
        context = context[:0]  # the model has no encoder that reads it
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
        tokens = model.tokens(batch)
        if latents is None:
            latents = model.encode(batch, tokens)
            context = context[:0]  # encoded once; later tiles only decode
        yield batch, model.decode(batch, tokens, latents)


def predicted_tiles(
    model: GraphFM | Ensemble, bank: GraphBank, graph: int, nodes: Tensor, *, seed: int, **sampling
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (q, C) and states (q, D) of tiles; keywords as in :func:`decoded_tiles`.

    Each member of an ensemble samples its own neighbors and context. States are averaged; logits
    are those of the mean probabilities.
    """
    members = members_of(model)
    tiles = [
        decoded_tiles(member, bank, graph, nodes, seed=member_seed(seed, place), **sampling)
        for place, member in enumerate(members)
    ]
    for together in zip(*tiles, strict=True):
        with torch.no_grad():
            logits = [
                member.predict(batch, states)[0]
                for member, (batch, states) in zip(members, together, strict=True)
            ]
        if len(members) == 1:
            yield logits[0], together[0][1]
        else:
            pooled = model.head(bank.names[graph]).ensemble_logits(torch.stack(logits))
            yield pooled, torch.stack([states for _, states in together]).mean(dim=0)


@one_thread_if_small(1)
def node_states(
    model: GraphFM | Ensemble, bank: GraphBank, graph: int, nodes: Tensor, *, seed: int, **sampling
) -> Tensor:
    """Return states of nodes, (Q, D), averaged over members; keywords of :func:`decoded_tiles`."""
    states = []
    for place, member in enumerate(members_of(model)):
        own = member_seed(seed, place)
        tiles = decoded_tiles(member, bank, graph, nodes, seed=own, **sampling)
        states.append(torch.cat([s for _, s in tiles]))
    return states[0] if len(states) == 1 else torch.stack(states).mean(dim=0)


def node_logits(
    model: GraphFM | Ensemble, bank: GraphBank, graph: int, nodes: Tensor, **sampling
) -> Tensor:
    """Return logits of nodes, (Q, C); keywords as in :func:`decoded_tiles`."""
    return torch.cat([z for z, _ in predicted_tiles(model, bank, graph, nodes, **sampling)])


@dataclass(frozen=True, kw_only=True)
class Neighborhood:
    """Nodes and their sampled neighbors, each node once.

    Args:
        nodes: Indices in the graph, (U,), ascending.
        rows: Position in ``nodes`` of each node asked for, (Q,).
        neighbors: Positions in ``nodes`` of its neighbors, (Q, T).
        mask: True for real neighbors, (Q, T) bool.
    """

    nodes: Tensor
    rows: Tensor
    neighbors: Tensor
    mask: Tensor

    @classmethod
    def of(
        cls, bank: GraphBank, nodes: Tensor, seed: int, k: int, *, beside: Tensor | None = None
    ) -> Neighborhood:
        """Sample at most k neighbors of each node; the nodes ``beside`` are included too."""
        nodes = nodes.cpu()
        own = nodes if bank.sample_keys is None else bank.sample_keys.cpu()[nodes]
        keys = row_keys(own, bank.graph_key.cpu()[:1].expand(len(nodes)), seed=seed, epoch=0)
        rowptr, col = bank.rowptr.cpu(), bank.col.cpu()
        found, mask = sample_neighbors(rowptr, col, nodes, keys, k)
        everything = torch.arange(bank.num_nodes)
        if torch.equal(nodes, everything):  # sorting 17 numbers a node would take 25 GB for 10M
            return cls(nodes=everything, rows=everything, neighbors=found, mask=mask)
        more = nodes[:0] if beside is None else beside
        unique, place = torch.cat([nodes, found.flatten(), more]).unique(return_inverse=True)
        rows, neighbors, _ = place.split([len(nodes), found.numel(), len(more)])
        return cls(nodes=unique, rows=rows, neighbors=neighbors.view_as(found), mask=mask)

    @property
    def places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Arguments of :func:`~graphfm.fitting.conformal.smooth` after the scores of ``nodes``."""
        return self.rows, self.neighbors, self.mask


def check_answers(values: Tensor) -> None:
    """Refuse predictions that are NaN or infinite.

    Raises:
        CheckpointError: GFM312 with the number of nodes.
    """
    finite = values.isfinite().reshape(len(values), -1).all(dim=1)
    if not finite.all():
        raise CheckpointError(
            "GFM312",
            f"the predictions of {int((~finite).sum()):,} of {len(values):,} nodes are not finite",
            why="a weight of the model or a feature of the graph is too large",
            fix="fit the model again; look for very large numbers in the table: graphfm inspect",
        )


@torch.no_grad()
def run_nodes(
    model: GraphFM | Ensemble,
    bank: GraphBank,
    nodes: Tensor,
    map_states: Callable[[Tensor], Tensor],
    **sampling: Any,
) -> tuple[Tensor, Tensor]:
    """Return logits and mapped states of nodes, in tiles, on the CPU.

    Args:
        model: Fitted model; its graph is the first of the bank.
        bank: Bank that holds the graph.
        nodes: Indices of the nodes, (U,).
        map_states: Function of the states of a tile, (u, D) -> (u, ...).
        **sampling: Keywords of :func:`decoded_tiles`.

    Returns:
        Logits (U, C), and the results of ``map_states``, (U, ...).
    """
    classes = model.specs[bank.names[0]].task.num_classes
    logits, mapped = [torch.zeros(0, classes)], []
    for tile_logits, states in predicted_tiles(model, bank, 0, nodes, **sampling):
        logits.append(tile_logits.cpu())
        mapped.append(map_states(states))
    return torch.cat(logits), torch.cat(mapped) if mapped else torch.zeros(0)
