"""Uniform neighbor sampling without replacement, equal on every device and in every batch.

Floyd's algorithm, unrolled over the slots and vectorized over the rows: exact, and O(k) per row for
any degree. Random numbers are a hash of (key, node, slot), so the neighbors of a node do not depend
on the batch, the order of rows, the number of workers or the device. Three ways compute the same
integers: all slots at once (eager), slot by slot (fused by torch.compile; also for rows of 2^31
neighbors), and numba (``_numba``, the extra ``fast``, on a CPU).

Shapes:
    R  rows   k  slots   N  nodes of all graphs   E  edges   H  hops   U  nodes of a sample
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # 2^64 over the golden ratio, as a signed integer
_SLOT = 0xD1342543DE82EF95 - (1 << 64)  # Steele and Vigna's multiplier for 64-bit generators
_M1 = 0xBF58476D1CE4E5B9 - (1 << 64)  # the two multipliers of the splitmix64 finalizer
_M2 = 0x94D049BB133111EB - (1 << 64)
_24 = (1 << 24) - 1
_HOP = 1 << 20  # counters of a hop: slot j of hop h is counter h * _HOP + j + 1

# Rows at once on a CPU: arrays of 10 slots take 2 MB and stay near the second cache. 4,096 rows at
# once were 10% slower, 2,048 were 25% slower, and 16,384 were no faster.
_ROWS = 8192
# Slots after which a process switches to numba. Importing it and loading the compiled functions
# takes 0.7 s, the time that torch takes for 2^24 slots.
_NUMBA_AFTER = 1 << 24
_WIDE = 1 << 31  # with so many edges, a row may have more neighbors than int32 can count
_UNSEEN = (1 << 31) - 1  # marks a node without a number; larger than every number


def sample_neighbors(
    rowptr: Tensor, col: Tensor, nodes: Tensor, key: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Sample at most k neighbors of each node; every k-subset is equally likely.

    Args:
        rowptr: (N + 1,) int64, the edges of node v are ``col[rowptr[v]:rowptr[v + 1]]``.
        col: (E,) neighbors, int32 or int64.
        nodes: (R,) int64, rows to sample for.
        key: (R,) int64, random key of each row, from :func:`row_keys`.
        k: Slots per row; a node with fewer neighbors gets all of them.

    Returns:
        ``(neighbors, mask)``, (R, k) int64 and (R, k) bool; True = a real neighbor. Empty slots
        hold the node itself. The set is uniform; the order within a row is not.
    """
    if k == 0 or not len(col):
        missing = torch.zeros(len(nodes), k, dtype=torch.bool, device=nodes.device)
        return nodes[:, None].repeat(1, k), missing
    if not torch.compiler.is_compiling() and (fast := accelerator(nodes, k)):
        return fast.sample_neighbors(rowptr, col, nodes, key, k)
    start = rowptr.index_select(0, nodes)  # rowptr[nodes] takes 6 times as long
    degree = rowptr.index_select(0, nodes + 1) - start
    slots = torch.arange(k, device=nodes.device)
    mask = degree[:, None] > slots
    if torch.compiler.is_compiling() or nodes.device.type != "cpu" or len(nodes) <= _ROWS:
        return _take(col, nodes, start, choose(degree, key, k, len(col)), mask), mask
    neighbors = nodes.new_empty(len(nodes), k)
    for begin in range(0, len(nodes), _ROWS):
        at = slice(begin, begin + _ROWS)
        chosen = choose(degree[at], key[at], k, len(col))
        _take(col, nodes[at], start[at], chosen, mask[at], out=neighbors[at])
    return neighbors, mask


def row_keys(local: Tensor, graph_key: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Return the random key of each row.

    Args:
        local: (R,) int64, position of each node in its own graph, or another key of it.
        graph_key: (R,) int64, stable key of that graph.
        seed: Seed of the run.
        epoch: Number that changes the neighbors of every node.

    Returns:
        (R,) int64.
    """
    return mix(local * _GOLDEN + _graph_salt(graph_key, seed, epoch))


def mix(z: Tensor) -> Tensor:
    """Hash int64 numbers by the splitmix64 finalizer, with wrap-around: (...) -> (...)."""
    z = (z ^ _shift(z, 30)) * _M1
    z = (z ^ _shift(z, 27)) * _M2
    return z ^ _shift(z, 31)


def mix_int(value: int) -> int:
    """Return :func:`mix` of one Python integer."""
    z = value % (1 << 64)
    z = (z ^ (z >> 30)) * _M1 % (1 << 64)
    z = (z ^ (z >> 27)) * _M2 % (1 << 64)
    return _wrap(z ^ (z >> 31))


@dataclass(frozen=True, kw_only=True, eq=False)
class Hops:
    """Sampled neighborhoods of some nodes over several hops; node u of the sample is ``n_id[u]``.

    Hop h samples the neighbors of ``n_id[ptr[h]:ptr[h + 1]]``, the nodes new in hop h - 1.

    Args:
        n_id: (U,) int64, each node once: first the given nodes, then the new nodes of each hop in
            order of appearance.
        ptr: (H + 2,) offsets into ``n_id``.
        query: (R,) int64, position of each given node in ``n_id``.
        neighbors: H times (R_h, k_h) int64, positions in ``n_id``; empty slots hold the row itself.
        masks: H times (R_h, k_h) bool, True = a real neighbor.
    """

    n_id: Tensor
    ptr: tuple[int, ...]
    query: Tensor
    neighbors: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]

    @property
    def edge_index(self) -> Tensor:
        """Edges (2, edges) int64: neighbor, then the node it was sampled for, ascending."""
        empty = self.n_id.new_empty(0)
        targets = [
            torch.arange(begin, begin + len(mask), device=mask.device)[:, None].expand_as(mask)
            for begin, mask in zip(self.ptr, self.masks, strict=False)
        ]
        kept = _joined(self.masks, empty.bool()).nonzero().view(-1)
        edge_index = self.n_id.new_empty(2, len(kept))
        for row, ends in zip(edge_index, (self.neighbors, targets), strict=True):
            torch.index_select(_joined(ends, empty), 0, kept, out=row)
        return edge_index


def sample_hops(
    rowptr: Tensor,
    col: Tensor,
    nodes: Tensor,
    local: Tensor,
    graph_key: Tensor,
    fanouts: Sequence[int],
    *,
    seed: int,
    epoch: int,
    numbers: Tensor | None = None,
) -> Hops:
    """Sample neighbors, their neighbors, and so on; each node is sampled for once.

    The nodes may belong to several graphs of a bank. The first hop samples the neighbors that
    :func:`sample_neighbors` samples with :func:`row_keys`; later hops have random numbers of their
    own. The number of nodes of a hop is read on the host, so CUDA waits once per hop.

    Args:
        rowptr: (N + 1,) int64, the edges of node v are ``col[rowptr[v]:rowptr[v + 1]]``.
        col: (E,) neighbors, int32 or int64.
        nodes: (R,) int64, in any order; nodes may repeat.
        local: (R,) int64, position of each node in its own graph.
        graph_key: (R,) int64, stable key of that graph.
        fanouts: (H,) sampled neighbors per node, hop by hop.
        seed: Seed of the run.
        epoch: Number that changes the neighbors of every node.
        numbers: (N,) int32 from :func:`node_numbers`, unchanged afterwards. Default: a new one,
            which costs O(N) per call.

    Returns:
        The sample.
    """
    if numbers is None:
        numbers = node_numbers(len(rowptr) - 1, nodes.device)
    salt = _graph_salt(graph_key, seed, epoch) - (nodes - local) * _GOLDEN
    query, new, first = _number(numbers, nodes, 0)
    found, salts, ptr = [new], [salt.index_select(0, first)], [0, len(new)]
    neighbors, masks = [], []
    for hop, k in enumerate(fanouts):
        rows, salt = found[-1], salts[-1]
        key = mix(rows * _GOLDEN + salt).add_(_wrap(hop * _HOP * _SLOT))
        drawn, mask = sample_neighbors(rowptr, col, rows, key, k)
        # No mask is needed: an empty slot holds its row, which already has a number.
        positions, new, first = _number(numbers, drawn.view(-1), ptr[-1])
        neighbors.append(positions.view_as(drawn))
        masks.append(mask)
        found.append(new)
        salts.append(salt.index_select(0, first.div_(max(k, 1), rounding_mode="floor")))
        ptr.append(ptr[-1] + len(new))
    n_id = torch.cat(found)
    numbers.index_fill_(0, n_id, _UNSEEN)
    return Hops(
        n_id=n_id, ptr=tuple(ptr), query=query, neighbors=tuple(neighbors), masks=tuple(masks)
    )


def node_numbers(num_nodes: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the scratch array in which :func:`sample_hops` numbers nodes: (N,) int32."""
    return torch.full((num_nodes,), _UNSEEN, dtype=torch.int32, device=device)


def choose(degree: Tensor, key: Tensor, k: int, num_edges: int) -> Tensor:
    """Choose k of the neighbors of each row, as positions in the row: (k, R) int32 or int64.

    Args:
        degree: (R,) int64, at most ``num_edges``.
        key: (R,) int64, random key of each row.
        k: Slots per row; slots beyond the degree hold arbitrary numbers below k.
        num_edges: Number of edges E; below 2^31 the result is int32, which compares twice as fast.
    """
    columns = num_edges >= _WIDE or torch.compiler.is_compiling()
    return (_choose_columns if columns else _choose_slab)(degree, key, k)


def _choose_columns(degree: Tensor, key: Tensor, k: int) -> Tensor:
    """Choose slot by slot, elementwise: torch.compile fuses everything into one loop."""
    few = degree <= k
    chosen: list[Tensor] = []
    for j in range(k):
        top = (degree - k).clamp(min=0) + j  # Floyd: draw from 0..top; if it repeats, take top
        draw = _bounded(mix(key + _wrap((j + 1) * _SLOT)), top + 1)
        repeat = few
        for earlier in chosen:
            repeat = repeat | (earlier == draw)
        chosen.append(torch.where(repeat, top, draw))  # with few neighbors, top = j
    return torch.stack(chosen)


def _choose_slab(degree: Tensor, key: Tensor, k: int) -> Tensor:
    """Choose all slots at once, in place, with a third of the operations.

    Each operation has an overhead of about 1.5 us. This is twice as fast as :func:`_choose_columns`
    for 1,000 rows, and 1.5 times as fast for 10,000.
    """
    slots = torch.arange(k, device=key.device)[:, None]
    z = key + (slots + 1) * _SLOT  # (k, R)
    t = torch.empty_like(z)
    for bits, factor in ((30, _M1), (27, _M2), (31, 1)):  # mix
        torch.bitwise_right_shift(z, bits, out=t)
        z.bitwise_xor_(t.bitwise_and_((1 << (64 - bits)) - 1))
        if factor != 1:
            z.mul_(factor)
    n = (degree - (k - 1)).clamp_(min=1) + slots  # _bounded(z, n); addcmul takes longer than both
    torch.bitwise_right_shift(z, 16, out=t)
    t.bitwise_and_(_24).mul_(n).bitwise_right_shift_(24)
    z.bitwise_right_shift_(40).bitwise_and_(_24).mul_(n)
    chosen = t.add_(z).bitwise_right_shift_(24).to(torch.int32)

    draws, tops = chosen.unbind(), n.sub_(1).to(torch.int32).unbind()
    many = (degree > k).to(torch.int32)
    differ, other = torch.empty_like(many), torch.empty_like(many)
    one, sign = many.new_tensor(1), many.new_tensor(31)
    for j, (draw, top) in enumerate(zip(draws, tops, strict=True)):
        # 0 where an earlier slot holds the same number or the row takes all neighbors. where() on
        # such an unpredictable mask takes 8 times as long as arithmetic.
        differ.copy_(many)
        for earlier in draws[:j]:
            torch.minimum(differ, torch.bitwise_xor(earlier, draw, out=other), out=differ)
        repeat = differ.sub_(one).bitwise_right_shift_(sign)  # all bits set where it was 0
        torch.maximum(draw, repeat.bitwise_and_(top), out=draw)
    return chosen


def _take(
    col: Tensor,
    nodes: Tensor,
    start: Tensor,
    chosen: Tensor,
    mask: Tensor,
    out: Tensor | None = None,
) -> Tensor:
    """Read the chosen neighbors: (k, R) -> (R, k); gather is 3 times as fast as indexing."""
    at = start.new_empty(len(start), len(chosen)).copy_(chosen.t()).add_(start[:, None])
    at.clamp_(max=len(col) - 1)  # an empty slot may point beyond the last row
    found = col.gather(0, at.view(-1)).view_as(at)
    if out is None:
        return torch.where(mask, found, nodes[:, None])
    return torch.where(mask, found, nodes[:, None], out=out)


def _number(numbers: Tensor, nodes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Number the nodes that have no number yet, in order of appearance, starting at ``count``.

    Args:
        numbers: (N,) int32, the number of each node so far; updated in place.
        nodes: (M,) int64.
        count: Number of nodes that already have a number.

    Returns:
        The number of each node (M,), the new nodes (n,), and the position in ``nodes`` where each
        of them appears first (n,).
    """
    if nodes.device.type == "cpu" and (fast := accelerator(nodes, 1)):
        return fast.number(numbers, nodes, count)
    at = torch.arange(count, count + len(nodes), dtype=torch.int32, device=nodes.device)
    # The smallest number wins, in any order of threads; older numbers are below count and stay.
    numbers.scatter_reduce_(0, nodes, at, "amin")
    first = (numbers.gather(0, nodes) == at).nonzero().view(-1)
    new = nodes.index_select(0, first)
    numbers.scatter_(0, new, at[: len(new)])
    return numbers.gather(0, nodes).long(), new, first


def _joined(blocks: Sequence[Tensor], empty: Tensor) -> Tensor:
    return torch.cat([block.reshape(-1) for block in blocks]) if blocks else empty


_slots_sampled = 0


def accelerator(nodes: Tensor, k: int) -> ModuleType | None:
    """Return the numba functions on a CPU, after many slots were sampled; else None.

    Both ways compute the same integers, so switching changes no result. GRAPHFM_FAST=0 never uses
    numba, GRAPHFM_FAST=1 uses it from the first call.
    """
    global _slots_sampled
    setting = os.environ.get("GRAPHFM_FAST", "")
    if setting == "0" or nodes.device.type != "cpu":
        return None
    _slots_sampled += len(nodes) * k
    if setting != "1" and _slots_sampled < _NUMBA_AFTER:
        return None
    return _numba_functions()


@functools.cache
def _numba_functions() -> ModuleType | None:
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        from graphfm.sampling import _numba
    except Exception as error:  # a numba that does not fit its numpy raises all kinds of errors
        warnings.warn(
            f"numba is installed but does not work, so torch samples instead: {error}", stacklevel=2
        )
        return None
    return _numba


def _graph_salt(graph_key: Tensor, seed: int, epoch: int) -> Tensor:
    """Hash graph key, seed and epoch: the part of a row key that all nodes of a graph share."""
    return mix(graph_key + _wrap(mix_int(seed) + mix_int(epoch + (1 << 32))))


def _wrap(value: int) -> int:
    """Wrap a Python integer to the range of int64."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Shift to the right, filling with zeros; torch's own shift keeps the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _bounded(h: Tensor, n: Tensor) -> Tensor:
    """Map 48 hash bits to 0..n-1: exactly floor(h48 n / 2^48), n < 2^38; bias below n / 2^48."""
    high, low = _shift(h, 40), _shift(h, 16) & _24
    return (high * n + ((low * n) >> 24)) >> 24
