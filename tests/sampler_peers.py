"""Peers of the sampler's bench: other ways to choose k neighbors.

Shapes:
    R  rows   k  slots   N  nodes   E  edges   D  in-edges of all R rows
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def argsort(rowptr: Tensor, col: Tensor, nodes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Give each in-edge a random key, sort all, take the first k of each row: (R, k), (R, k)."""
    start, degree, row, place = in_edges(rowptr, nodes)
    # Rows in the upper bits, random numbers in the lower: one sort in place of two.
    keys = (row << 32) | torch.randint(1 << 32, (len(row),), device=row.device)
    order = keys.argsort()
    ends = degree.cumsum(0) - degree
    slots = torch.arange(k, device=nodes.device)
    mask = degree[:, None] > slots
    at = (ends[:, None] + slots).clamp_(max=max(len(row) - 1, 0))
    edge = start[:, None] + place[order[at]]
    return torch.where(mask, col[edge.clamp_(max=len(col) - 1)].long(), nodes[:, None]), mask


def reservoir(rowptr: Tensor, col: Tensor, nodes: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Stand in for the reservoir of GPU samplers, in torch: one random number for each in-edge.

    Edge i of a row falls into slot i if i < k, else into a random slot of 0..i, if that is below k;
    the last edge in a slot stays, as with their atomicMax.
    """
    start, degree, row, place = in_edges(rowptr, nodes)
    draw = (torch.rand(len(row), device=row.device, dtype=torch.float64) * (place + 1)).long()
    slot = torch.where(place < k, place, draw)
    kept = (slot < k).nonzero().view(-1)
    chosen = nodes.new_zeros(len(nodes) * k)
    chosen.scatter_reduce_(0, row[kept] * k + slot[kept], place[kept], "amax")
    mask = degree[:, None] > torch.arange(k, device=nodes.device)
    edge = (start[:, None] + chosen.view(-1, k)).clamp_(max=len(col) - 1)
    return torch.where(mask, col[edge].long(), nodes[:, None]), mask


def in_edges(rowptr: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return start and degree of each row (R,), and row and place of each in-edge (D,)."""
    start = rowptr[nodes]
    degree = rowptr[nodes + 1] - start
    row = torch.arange(len(nodes), device=nodes.device).repeat_interleave(degree)
    first = (degree.cumsum(0) - degree).repeat_interleave(degree)
    return start, degree, row, torch.arange(len(row), device=nodes.device) - first


def numba_reservoir() -> Callable[..., Any]:
    """Return the same reservoir as one compiled loop; splitmix64 gives its random numbers."""
    import numba
    import numpy as np

    golden, m1, m2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

    @numba.njit(boundscheck=False)  # type: ignore[untyped-decorator]
    def loop(rowptr: Any, col: Any, nodes: Any, neighbors: Any, mask: Any, state: Any) -> None:
        k = neighbors.shape[1]
        chosen = np.empty(k, np.int64)
        for r in range(len(nodes)):
            start = rowptr[nodes[r]]
            degree = rowptr[nodes[r] + 1] - start
            for i in range(degree):
                state += np.uint64(golden)
                z = (state ^ (state >> np.uint64(30))) * np.uint64(m1)
                z = (z ^ (z >> np.uint64(27))) * np.uint64(m2)
                z = z ^ (z >> np.uint64(31))
                slot = i if i < k else np.int64(((z >> np.uint64(32)) * np.uint64(i + 1)) >> 32)
                if slot < k:
                    chosen[slot] = i
            for j in range(k):
                mask[r, j] = j < degree
                neighbors[r, j] = col[start + chosen[j]] if j < degree else nodes[r]

    def sample(rowptr: Tensor, col: Tensor, nodes: Tensor, k: int) -> tuple[Tensor, Tensor]:
        neighbors = nodes.new_empty(len(nodes), k)
        mask = torch.empty(len(nodes), k, dtype=torch.bool)
        arrays = (t.numpy() for t in (rowptr, col, nodes, neighbors, mask))
        loop(*arrays, np.uint64(1))
        return neighbors, mask

    return sample


def pyg_op(
    rowptr: Tensor, col: Tensor, fanouts: list[int], _: list[Tensor]
) -> Callable[[Tensor], Any] | None:
    """Return the op that PyG's loader calls; None without torch-sparse.

    Version 0.6.18 draws from 0..top-1 in Floyd's algorithm: it takes a row's last k neighbors too
    seldom, and at k = 1 never the last one. The amount of work is the same.
    """
    try:
        import torch_sparse  # noqa: F401
    except ImportError:
        return None
    op, wide = torch.ops.torch_sparse.neighbor_sample, col.long()
    return lambda seeds: op(rowptr, wide, seeds, fanouts, False, True)


def pyg_loader(
    rowptr: Tensor, col: Tensor, fanouts: list[int], seeds: list[Tensor]
) -> Callable[[Tensor], Any] | None:
    """Return ``NeighborLoader`` without workers over the same seeds; None without torch-sparse."""
    if pyg_op(rowptr, col, fanouts, seeds) is None:
        return None
    from torch_geometric.data import Data
    from torch_geometric.loader import NeighborLoader

    target = torch.arange(len(rowptr) - 1).repeat_interleave(rowptr.diff())
    data = Data(edge_index=torch.stack([col.long(), target]), num_nodes=len(rowptr) - 1)
    loader = NeighborLoader(
        data,
        num_neighbors=fanouts,
        input_nodes=torch.cat(seeds),
        batch_size=len(seeds[0]),
        is_sorted=True,
    )
    batches: list[Any] = []

    def sample(_: Tensor) -> Any:
        if not batches:
            batches.append(iter(loader))
        return next(batches[0])

    return sample
