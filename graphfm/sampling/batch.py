"""GraphBatch: the graphs of one step, packed end to end, without padding.

Shapes:
    B  graphs   N  tokens   M  context tokens   Q  targets   T  neighbors   R  raw columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphfm.sampling.bank import GraphBank
from graphfm.sampling.neighbors import row_keys, sample_neighbors


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphBatch:
    """What the model reads in one step.

    A node of a graph is one token, however many targets read it. Offsets are Python integers on the
    host: they shape the step, and reading them must not wait for the device.

    Args:
        names: Dataset of each graph, (B,), in packed order.
        x: Transformed features of each graph's tokens, B times (N_b, F_b).
        pe: (N, P) positional encodings.
        ptr: (B + 1,), graph b owns tokens ``ptr[b]:ptr[b + 1]``.
        context: (M,) int64, tokens the encoder reads, in packed order.
        context_ptr: (B + 1,), graph b owns ``context[context_ptr[b]:context_ptr[b + 1]]``.
        query: (Q,) int64, token of each target, in packed order.
        query_ptr: (B + 1,).
        neighbors: (Q, T) int64, tokens of sampled neighbors.
        neighbor_mask: (Q, T) bool, True = a neighbor that is there.
        n_id: (Q,) int64, place of each target in its own graph.
        y: Labels of each graph's targets, B times (Q_b,) or (Q_b, C); empty when predicting.
        raw: Raw multi-hop features of each graph's targets, B times (Q_b, R_b), or None.
    """

    names: tuple[str, ...]
    x: tuple[Tensor, ...]
    pe: Tensor
    ptr: tuple[int, ...]
    context: Tensor
    context_ptr: tuple[int, ...]
    query: Tensor
    query_ptr: tuple[int, ...]
    neighbors: Tensor
    neighbor_mask: Tensor
    n_id: Tensor
    y: tuple[Tensor, ...]
    raw: tuple[Tensor | None, ...]

    @property
    def num_targets(self) -> int:
        """Q."""
        return self.query_ptr[-1]


def make_batch(
    bank: GraphBank,
    graphs: Sequence[int],
    targets: Sequence[Tensor],
    context: Sequence[Tensor],
    *,
    num_neighbors: int,
    seed: int,
    epoch: int,
    with_labels: bool = True,
) -> GraphBatch:
    """Pack targets of some graphs, their sampled neighbors and the context of each graph.

    Args:
        bank: Holds the graphs.
        graphs: Places in the bank, (B,), ascending.
        targets: Nodes to predict, B times (Q_b,), as places in their own graph.
        context: Nodes the encoder reads, B times (M_b,), likewise.
        num_neighbors: T.
        seed: Of the run: with ``epoch``, decides the neighbors of a node.
        epoch: See ``seed``.
        with_labels: False when predicting: then no label is touched.

    Returns:
        The batch, on the bank's device.
    """
    offset = [bank.offset[g] for g in graphs]
    query_ptr = _offsets(targets)
    context_ptr = _offsets(context)
    n_id = torch.cat(list(targets)).to(bank.device)
    owner = _repeat(list(graphs), targets).to(bank.device)
    rows = n_id + _repeat(offset, targets).to(bank.device)  # numbered through the bank
    key = row_keys(n_id, bank.graph_key[owner], seed=seed, epoch=epoch)
    neighbors, mask = sample_neighbors(bank.rowptr, bank.col, rows, key, num_neighbors)
    read = torch.cat(list(context)).to(bank.device) + _repeat(offset, context).to(bank.device)
    nodes, place = torch.unique(
        torch.cat([read, rows, neighbors.flatten()]), return_inverse=True
    )  # sorted, so in the order of graphs
    at_context, at_query, at_neighbors = place.split([len(read), len(rows), neighbors.numel()])
    ends = torch.tensor([bank.offset[g + 1] for g in graphs], device=bank.device)
    ptr = (0, *torch.searchsorted(nodes, ends).tolist())
    names = tuple(bank.names[g] for g in graphs)
    own = [nodes[ptr[b] : ptr[b + 1]] - offset[b] for b in range(len(names))]
    on_device = [t.to(bank.device) for t in targets]
    return GraphBatch(
        names=names,
        x=tuple(bank.x[name][i] for name, i in zip(names, own, strict=True)),
        pe=bank.pe[nodes],
        ptr=ptr,
        context=at_context,
        context_ptr=context_ptr,
        query=at_query,
        query_ptr=query_ptr,
        neighbors=at_neighbors.view_as(neighbors),
        neighbor_mask=mask,
        n_id=n_id,
        y=tuple(bank.y[n][i] for n, i in zip(names, on_device, strict=True)) if with_labels else (),
        raw=tuple(
            bank.raw[n][i] if n in bank.raw else None for n, i in zip(names, on_device, strict=True)
        ),
    )


def sample_context(num_nodes: int, max_context: int, *, seed: Sequence[int]) -> Tensor:
    """Nodes that the encoder reads: all, or a uniform sample of them, (M,) ascending."""
    if num_nodes <= max_context:
        return torch.arange(num_nodes)
    rng = np.random.default_rng(list(seed))
    chosen = rng.choice(num_nodes, max_context, replace=False, shuffle=False)
    return torch.from_numpy(np.sort(chosen))


def some_of(nodes: Tensor, most: int, *, seed: int | Sequence[int]) -> Tensor:
    """At most so many of the nodes, chosen uniformly, in their order: (n,) -> (min(n, most),)."""
    chosen = np.random.default_rng(seed).permutation(len(nodes))[:most]
    return nodes[torch.from_numpy(np.sort(chosen))]


def _offsets(parts: Sequence[Tensor]) -> tuple[int, ...]:
    return (0, *np.cumsum([len(p) for p in parts]).tolist())


def _repeat(values: Sequence[int], parts: Sequence[Tensor]) -> Tensor:
    """One value for each entry of each part."""
    sizes = torch.tensor([len(p) for p in parts])
    return torch.tensor(values, dtype=torch.int64).repeat_interleave(sizes)
