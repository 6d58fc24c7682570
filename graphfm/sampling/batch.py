"""GraphBatch: the graphs of one step, packed end to end without padding.

Shapes:
    B  graphs   N  tokens   M  context tokens   Q  targets   T  neighbors   R  raw columns
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphfm.graphs.hashing import splitmix64
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.neighbors import row_keys, sample_neighbors


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphBatch:
    """Input of the model in one step.

    A node of a graph is one token, even if many targets read it. Offsets are Python integers on the
    host, because they decide shapes, and reading them must not wait for the device.

    Args:
        names: Dataset of each graph, (B,), in packed order.
        x: Transformed features of each graph's tokens, B times (N_b, F_b).
        pe: (N, P) position encodings.
        ptr: (B + 1,), graph b owns tokens ``ptr[b]:ptr[b + 1]``.
        context: (M,) int64, tokens that the encoder reads, in packed order.
        context_ptr: (B + 1,), graph b owns ``context[context_ptr[b]:context_ptr[b + 1]]``.
        query: (Q,) int64, token of each target, in packed order.
        query_ptr: (B + 1,), graph b owns targets ``query_ptr[b]:query_ptr[b + 1]``.
        neighbors: (Q, T) int64, tokens of sampled neighbors.
        neighbor_mask: (Q, T) bool, True = a real neighbor.
        n_id: (Q,) int64, position of each target in its own graph.
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
        """Number of targets Q."""
        return self.query_ptr[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of targets of each graph, (B,)."""
        return tuple(b - a for a, b in itertools.pairwise(self.query_ptr))


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
        bank: The graphs.
        graphs: Indices of graphs in the bank, (B,), ascending.
        targets: Nodes to predict, B times (Q_b,), as positions in their own graph.
        context: Nodes that the encoder reads, B times (M_b,), as positions in their own graph.
        num_neighbors: Sampled neighbors T of each target.
        seed: Seed of the run; with ``epoch``, it decides the neighbors of a node.
        epoch: Number that changes the neighbors of every node.
        with_labels: False = leave labels out, for predictions. Default: True.

    Returns:
        The batch, on the bank's device.
    """
    first = np.array([bank.offset[g] for g in graphs])
    sizes = np.array([bank.offset[g + 1] for g in graphs]) - first
    start = np.concatenate([[0], sizes.cumsum()])  # nodes numbered across the batch's graphs
    query_ptr, context_ptr = _offsets(targets), _offsets(context)
    owner = np.repeat(np.arange(len(graphs)), np.diff(query_ptr))
    own = torch.cat(list(targets)).cpu().numpy()
    rows = own + first[owner]  # nodes numbered across the bank
    back = (first - start[:-1])[owner]
    key = np.array([bank.keys[g] for g in graphs])[owner]
    read = torch.cat(list(context)).cpu().numpy() + start[:-1].repeat(np.diff(context_ptr))
    n_id, at, shift, graph_key, context_at = _send([own, rows, back, key, read], bank.device)
    node_key = n_id if bank.sample_keys is None else bank.sample_keys[at]
    row_key = row_keys(node_key, graph_key, seed=seed, epoch=epoch)
    neighbors, mask = sample_neighbors(bank.rowptr, bank.col, at, row_key, num_neighbors)
    entries = [context_at, at - shift, (neighbors - shift[:, None]).flatten()]
    nodes, token, ptr = tokens_of(torch.cat(entries), start)
    at_context, at_query, at_neighbors = token.split([len(e) for e in entries])
    parts = [slice(ptr[b], ptr[b + 1]) for b in range(len(graphs))]
    local = [nodes[part] - int(start[b]) for b, part in enumerate(parts)]
    names = tuple(bank.names[g] for g in graphs)
    n_ids = n_id.split(np.diff(query_ptr).tolist())
    return GraphBatch(
        names=names,
        x=tuple(bank.features(name, i) for name, i in zip(names, local, strict=True)),
        pe=torch.cat([bank.encodings(g, i) for g, i in zip(graphs, local, strict=True)]),
        ptr=ptr,
        context=at_context,
        context_ptr=context_ptr,
        query=at_query,
        query_ptr=query_ptr,
        neighbors=at_neighbors.view_as(neighbors),
        neighbor_mask=mask,
        n_id=n_id,
        y=tuple(bank.y[n][i] for n, i in zip(names, n_ids, strict=True)) if with_labels else (),
        raw=tuple(
            bank.raw[n][i] if n in bank.raw else None for n, i in zip(names, n_ids, strict=True)
        ),
    )


def tokens_of(entries: Tensor, start: np.ndarray) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Return the distinct nodes of a batch, and the token of each entry.

    Marking every node is faster than sorting all entries: 0.13 instead of 0.69 ms for 11,000
    entries of 40,000 nodes, and 2.4 instead of 9.1 ms for 180,000 of 900,000, on a CPU.

    Args:
        entries: (L,) int64, nodes, numbered across the graphs of a batch.
        start: (B + 1,) on the host, graph b owns nodes ``start[b]:start[b + 1]``.

    Returns:
        The distinct nodes, (N,) ascending; the token of each entry, (L,); and ``ptr``, (B + 1,).
    """
    on_cpu = entries.device.type == "cpu"
    return (_marked_on_host if on_cpu else _marked)(entries, start)


def _marked_on_host(entries: Tensor, start: np.ndarray) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Do :func:`tokens_of` in numpy, which finds marks 8 at a time: 3 times as fast on a CPU."""
    named = entries.numpy()
    mark = np.zeros(start[-1], dtype=bool)
    mark[named] = True
    nodes = np.flatnonzero(mark)
    place = np.empty(start[-1], dtype=np.int64)  # not zeros: only written entries are read
    place[nodes] = np.arange(len(nodes))
    ptr = tuple(nodes.searchsorted(start).tolist())
    return torch.from_numpy(nodes), torch.from_numpy(place[named]), ptr


def _marked(entries: Tensor, start: np.ndarray) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Do :func:`tokens_of` on a device, with one wait: for ``ptr``.

    A batch is made one step ahead on a stream of its own, so nothing else waits for it.
    """
    (ends,) = _send([start], entries.device)
    mark = torch.zeros(int(start[-1]) + 1, dtype=torch.int32, device=entries.device)
    mark[entries + 1] = 1
    before = mark.cumsum(0)  # tokens before each node
    place = before[entries]
    ptr = tuple(before[ends].tolist())
    nodes = entries.new_empty(ptr[-1])
    nodes[place] = entries  # entries of the same node write the same number
    return nodes, place, ptr


def sample_context(
    num_nodes: int, max_context: int, *, seed: Sequence[int], keys: Tensor | None = None
) -> Tensor:
    """Return the nodes that the encoder reads, (M,) ascending: all, or a uniform sample.

    Args:
        num_nodes: Number of nodes of the graph.
        max_context: Largest size M of the sample.
        seed: Seed of the sample.
        keys: Key of each node, (N,): the sample does not depend on the other nodes. Default: by
            position.
    """
    if num_nodes <= max_context:
        return torch.arange(num_nodes)
    if keys is not None:
        salt = int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0])
        by_key, order = keys.cpu().sort(stable=True)
        repeat = np.arange(num_nodes) - np.searchsorted(by_key.numpy(), by_key.numpy())
        hashes = splitmix64(splitmix64(by_key.numpy() ^ np.int64(salt - 2**63)) + repeat)
        first = torch.from_numpy(np.argsort(hashes, kind="stable")[:max_context])
        return order[first].sort().values
    rng = np.random.default_rng(list(seed))
    chosen = rng.choice(num_nodes, max_context, replace=False, shuffle=False)
    return torch.from_numpy(np.sort(chosen))


def subsample(nodes: Tensor, max_nodes: int, *, seed: int | Sequence[int]) -> Tensor:
    """Sample at most ``max_nodes`` nodes uniformly, and keep their order: (n,) -> (at most n,)."""
    chosen = np.random.default_rng(seed).permutation(len(nodes))[:max_nodes]
    return nodes[torch.from_numpy(np.sort(chosen))]


def _offsets(parts: Sequence[Tensor]) -> tuple[int, ...]:
    return (0, *np.cumsum([len(p) for p in parts]).tolist())


def _send(parts: Sequence[np.ndarray], device: torch.device) -> Sequence[Tensor]:
    """Copy integer arrays from the host to the device, in one copy without waiting."""
    if device.type == "cpu":
        return [torch.from_numpy(part) for part in parts]
    packed = torch.from_numpy(np.concatenate(parts))
    if device.type == "cuda":  # from pageable memory the copy would wait for the device
        packed = packed.pin_memory()
    return packed.to(device, non_blocking=True).split([len(part) for part in parts])
