"""Neighbor sampling in numba, equal to ``neighbors`` to the integer: the extra ``fast``, on a CPU.

Rows are processed in blocks, with slots in the outer loop and rows in the inner loop. So the inner
loops are vectorized, and the reads from memory, which dominate the cost, overlap. It uses one
thread. Importing this file imports numba, so ``neighbors`` imports it only when it saves time.

Shapes:
    R  rows   k  slots   N  nodes of all graphs   E  edges   M  nodes to number
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

# The constants of neighbors.py. The hash is written out again in _choose, because numba compiles
# uint64 scalars of numpy, not torch tensors, and must inline it into the loop over rows.
_SLOT = np.uint64(0xD1342543DE82EF95)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_24 = np.uint64((1 << 24) - 1)
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)
_16, _BITS24, _40 = np.uint64(16), np.uint64(24), np.uint64(40)
_UNSEEN = np.int32((1 << 31) - 1)
_BLOCK = 256  # rows; 10 slots of them are 10 kB, in the first cache


def _jit(function: Any) -> Any:
    """Compile a function at its first call; numba caches it on disk, beside the byte code."""
    try:
        return numba.njit(cache=True, nogil=True, boundscheck=False)(function)
    except RuntimeError:  # no writable cache folder: compile in every process, 3 s
        return numba.njit(nogil=True, boundscheck=False)(function)


@_jit
def _choose(degree: Any, key: Any, rows: int, chosen: Any, repeat: Any) -> None:
    """Run Floyd's algorithm for a block: (R,), (R,) -> chosen (k, R)."""
    k = chosen.shape[0]
    for j in range(k):
        counter = np.uint64(j + 1) * _SLOT
        for r in range(rows):
            n = np.uint64(max(degree[r] - k, 0) + j + 1)
            z = key[r] + counter  # neighbors.mix
            z = (z ^ (z >> _30)) * _M1
            z = (z ^ (z >> _27)) * _M2
            z = z ^ (z >> _31)
            low = (z >> _16) & _24
            chosen[j, r] = ((z >> _40) * n + ((low * n) >> _BITS24)) >> _BITS24
            repeat[r] = degree[r] <= k
        for i in range(j):
            for r in range(rows):
                repeat[r] |= chosen[i, r] == chosen[j, r]
        for r in range(rows):
            top = max(degree[r] - k, 0) + j
            chosen[j, r] = top if repeat[r] else chosen[j, r]


@_jit
def _sample(
    rowptr: Any, col: Any, nodes: Any, key: Any, chosen: Any, neighbors: Any, mask: Any
) -> None:
    num_rows, k = neighbors.shape
    block = chosen.shape[1]
    start, degree = np.empty(block, np.int64), np.empty(block, np.int64)
    repeat = np.empty(block, np.bool_)
    for begin in range(0, num_rows, block):
        rows = min(block, num_rows - begin)
        for r in range(rows):
            v = nodes[begin + r]
            start[r] = rowptr[v]
            degree[r] = rowptr[v + 1] - rowptr[v]
        _choose(degree, key[begin : begin + rows], rows, chosen, repeat)
        for r in range(rows):
            count = min(degree[r], k)
            for j in range(count):
                neighbors[begin + r, j] = col[start[r] + chosen[j, r]]
                mask[begin + r, j] = True
            for j in range(count, k):
                neighbors[begin + r, j] = nodes[begin + r]
                mask[begin + r, j] = False


@_jit
def _number(numbers: Any, nodes: Any, count: int, found: Any, new: Any, first: Any) -> int:
    num_new = 0
    for i in range(len(nodes)):
        v = nodes[i]
        number = numbers[v]
        if number == _UNSEEN:
            number = np.int32(count + num_new)
            numbers[v] = number
            new[num_new] = v
            first[num_new] = i
            num_new += 1
        found[i] = number
    return num_new


def sample_neighbors(
    rowptr: Tensor, col: Tensor, nodes: Tensor, key: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Do ``neighbors.sample_neighbors`` for k > 0 and E > 0, on a CPU."""
    chosen = np.empty((k, _BLOCK), np.int64 if len(col) >= 1 << 31 else np.int32)
    neighbors = nodes.new_empty(len(nodes), k)
    mask = torch.empty(len(nodes), k, dtype=torch.bool)
    _sample(
        rowptr.numpy(),
        col.numpy(),
        nodes.contiguous().numpy(),
        key.contiguous().numpy().view(np.uint64),
        chosen,
        neighbors.numpy(),
        mask.numpy(),
    )
    return neighbors, mask


def choose(degree: Tensor, key: Tensor, k: int, num_edges: int) -> Tensor:
    """Do ``neighbors.choose``."""
    rows = len(degree)
    chosen = np.empty((k, rows), np.int64 if num_edges >= 1 << 31 else np.int32)
    bits = key.contiguous().numpy().view(np.uint64)
    _choose(degree.contiguous().numpy(), bits, rows, chosen, np.empty(rows, np.bool_))
    return torch.from_numpy(chosen)


def number(numbers: Tensor, nodes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Do ``neighbors._number``, on a CPU."""
    found, new, first = (torch.empty(len(nodes), dtype=torch.int64) for _ in range(3))
    arrays = found.numpy(), new.numpy(), first.numpy()
    num_new = _number(numbers.numpy(), nodes.contiguous().numpy(), count, *arrays)
    return found, new[:num_new].clone(), first[:num_new].clone()
