"""Uniform neighbor sampling without replacement, the same on every device and in every batch.

Floyd's algorithm, unrolled over the slots and vectorised over the rows: exact, O(k) for a row
whatever its degree. Random numbers are a hash of (key, node, slot), so a node's neighbors do not
depend on the batch, the order of rows, the number of workers or the device.

Shapes:
    R  rows   k  slots
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # 2^64 over the golden ratio, as a signed integer
_SLOT = 0xD1342543DE82EF95 - (1 << 64)  # Steele and Vigna's multiplier for 64-bit generators
_M1 = 0xBF58476D1CE4E5B9 - (1 << 64)  # the two multipliers of splitmix64's finaliser
_M2 = 0x94D049BB133111EB - (1 << 64)
_24 = (1 << 24) - 1


def sample_neighbors(
    rowptr: Tensor, col: Tensor, nodes: Tensor, key: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """At most k neighbors of each node, every k-subset equally likely.

    Args:
        rowptr: (N + 1,) int64.
        col: (E,) neighbors.
        nodes: (R,) int64, rows to sample for.
        key: (R,) int64, random key of each row: :func:`row_keys`.
        k: Slots; a node with fewer neighbors gets all of them.

    Returns:
        ``(neighbors, mask)``, (R, k) int64 and (R, k) bool, True = a neighbor that is there; where
        it is not, the entry is the node itself. The set is uniform, the order in a row is not.
    """
    if k == 0:
        return nodes.new_empty(len(nodes), 0), torch.empty(
            len(nodes), 0, dtype=torch.bool, device=nodes.device
        )
    start = rowptr[nodes]
    degree = rowptr[nodes + 1] - start
    chosen: list[Tensor] = []
    for j in range(k):
        top = (degree - k).clamp(min=0) + j  # Floyd: draw from 0..top, on a repeat take top
        draw = _bounded(mix(key + _wrap((j + 1) * _SLOT)), top + 1)
        taken = torch.zeros_like(draw, dtype=torch.bool)
        for earlier in chosen:
            taken |= earlier == draw
        chosen.append(torch.where(taken, top, draw))
    mask = torch.stack([degree > j for j in range(k)], dim=1)
    few = degree <= k
    offsets = torch.stack(
        [torch.where(few, torch.full_like(c, j), c) for j, c in enumerate(chosen)], dim=1
    )
    at = (start[:, None] + offsets).clamp(max=max(len(col) - 1, 0))
    neighbors = col[at].long() if len(col) else nodes[:, None].expand(-1, k)
    return torch.where(mask, neighbors, nodes[:, None]), mask


def row_keys(local: Tensor, graph_key: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Random key of each row.

    Args:
        local: (R,) int64, each node's position in its own graph.
        graph_key: (R,) int64, stable key of that graph.
        seed: Seed of the run.
        epoch: Changes every node's neighbors.

    Returns:
        (R,) int64.
    """
    run = mix(graph_key + _wrap(mix_int(seed) + mix_int(epoch + (1 << 32))))
    return mix(local * _GOLDEN + run)


def mix(z: Tensor) -> Tensor:
    """Finaliser of splitmix64 on int64, wrapping around: (...) -> (...)."""
    z = (z ^ _shift(z, 30)) * _M1
    z = (z ^ _shift(z, 27)) * _M2
    return z ^ _shift(z, 31)


def mix_int(value: int) -> int:
    """:func:`mix` of one number."""
    return int(mix(torch.tensor(_wrap(value))))


def _wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's is arithmetic."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _bounded(h: Tensor, n: Tensor) -> Tensor:
    """floor(h48 * n / 2^48) of the upper 48 bits, exactly, for n < 2^38; bias at most n / 2^48."""
    high, low = _shift(h, 40), _shift(h, 16) & _24
    return (high * n + ((low * n) >> 24)) >> 24
