"""Uniform neighbor sampling without replacement, the same on every device and in every batch.

Floyd's algorithm, unrolled over the slots and vectorised over the rows: exact, O(k) for a row
whatever its degree. Random numbers are a hash of (key, node, slot), so a node's neighbors do not
depend on the batch, the order of rows, the number of workers or the device. Three ways compute the
same integers: slabs of all slots at once (eager), columns slot by slot (torch.compile fuses them;
rows of 2^31 neighbors), and numba (``_numba``, the extra ``fast``, on a CPU).

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
_M1 = 0xBF58476D1CE4E5B9 - (1 << 64)  # the two multipliers of splitmix64's finaliser
_M2 = 0x94D049BB133111EB - (1 << 64)
_24 = (1 << 24) - 1
_HOP = 1 << 20  # counters of a hop: slot j of hop h is counter h * _HOP + j + 1

# Rows at once on a CPU: the slabs of 10 slots are 2 MB and stay near the second cache. 4,096 rows
# at once were 10 % slower, 2,048 were 25 %, and 16,384 no faster.
_ROWS = 8192
# Slots after which a process turns to numba: importing it and loading the compiled functions takes
# 0.7 s, as torch does for 2^24 slots; who samples less never pays it.
_NUMBA_AFTER = 1 << 24
_WIDE = 1 << 31  # edges from which on a row may hold more neighbors than int32 counts
_UNSEEN = (1 << 31) - 1  # above every number that a node of a sample can have


def sample_neighbors(
    rowptr: Tensor, col: Tensor, nodes: Tensor, key: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """At most k neighbors of each node, every k-subset equally likely.

    Args:
        rowptr: (N + 1,) int64.
        col: (E,) neighbors, int32 or int64.
        nodes: (R,) int64, rows to sample for.
        key: (R,) int64, random key of each row: :func:`row_keys`.
        k: Slots; a node with fewer neighbors gets all of them.

    Returns:
        ``(neighbors, mask)``, (R, k) int64 and (R, k) bool, True = a neighbor that is there; where
        it is not, the entry is the node itself. The set is uniform, the order in a row is not.
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
    """Random key of each row.

    Args:
        local: (R,) int64, each node's position in its own graph.
        graph_key: (R,) int64, stable key of that graph.
        seed: Seed of the run.
        epoch: Changes every node's neighbors.

    Returns:
        (R,) int64.
    """
    return mix(local * _GOLDEN + _graph_salt(graph_key, seed, epoch))


def mix(z: Tensor) -> Tensor:
    """Finaliser of splitmix64 on int64, wrapping around: (...) -> (...)."""
    z = (z ^ _shift(z, 30)) * _M1
    z = (z ^ _shift(z, 27)) * _M2
    return z ^ _shift(z, 31)


def mix_int(value: int) -> int:
    """:func:`mix` of one number."""
    z = value % (1 << 64)
    z = (z ^ (z >> 30)) * _M1 % (1 << 64)
    z = (z ^ (z >> 27)) * _M2 % (1 << 64)
    return _wrap(z ^ (z >> 31))


@dataclass(frozen=True, kw_only=True, eq=False)
class Hops:
    """Neighborhoods of some nodes, renumbered: node u of the sample is ``n_id[u]``.

    Hop h sampled for ``n_id[ptr[h]:ptr[h + 1]]``, the nodes that hop h - 1 found first.

    Args:
        n_id: (U,) int64, all nodes once, the given ones first, each hop's in order of appearance.
        ptr: (H + 2,) offsets into ``n_id``.
        query: (R,) int64, where in ``n_id`` each given node stands.
        neighbors: H times (R_h, k_h) int64, places in ``n_id``; the row itself where none is.
        masks: H times (R_h, k_h) bool, True = a neighbor that is there.
    """

    n_id: Tensor
    ptr: tuple[int, ...]
    query: Tensor
    neighbors: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]

    @property
    def edge_index(self) -> Tensor:
        """(2, edges) int64: neighbor, then the node it was sampled for, which ascends."""
        empty = self.n_id.new_empty(0)
        targets = [
            torch.arange(begin, begin + len(mask), device=mask.device)[:, None].expand_as(mask)
            for begin, mask in zip(self.ptr, self.masks, strict=False)
        ]
        there = _joined(self.masks, empty.bool()).nonzero().view(-1)
        edge_index = self.n_id.new_empty(2, len(there))
        for row, ends in zip(edge_index, (self.neighbors, targets), strict=True):
            torch.index_select(_joined(ends, empty), 0, there, out=row)
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
    place: Tensor | None = None,
) -> Hops:
    """Neighbors, their neighbors, and so on, each node sampled for once.

    Nodes may come from all graphs of a bank at once: a neighbor is of its row's graph. The first
    hop draws what :func:`sample_neighbors` draws with :func:`row_keys`; later hops have numbers
    of their own. How many nodes a hop finds is read on the host: on CUDA that waits, once a hop.

    Args:
        rowptr: (N + 1,) int64.
        col: (E,) neighbors, int32 or int64.
        nodes: (R,) int64, in any order, repeated or not.
        local: (R,) int64, each node's position in its own graph.
        graph_key: (R,) int64, stable key of that graph.
        fanouts: (H,) neighbors of each node, hop by hop.
        seed: Seed of the run.
        epoch: Changes every node's neighbors.
        place: (N,) int32 of :func:`make_place`, given back as it came; spares making one.

    Returns:
        The sample.
    """
    if place is None:
        place = make_place(len(rowptr) - 1, nodes.device)
    salt = _graph_salt(graph_key, seed, epoch) - (nodes - local) * _GOLDEN
    query, new, first = _number(place, nodes, 0)
    found, salts, ptr = [new], [salt.index_select(0, first)], [0, len(new)]
    neighbors, masks = [], []
    for hop, k in enumerate(fanouts):
        rows, salt = found[-1], salts[-1]
        key = mix(rows * _GOLDEN + salt).add_(_wrap(hop * _HOP * _SLOT))
        drawn, mask = sample_neighbors(rowptr, col, rows, key, k)
        # A slot without neighbor holds its row, which has its number already: no mask is needed.
        numbers, new, first = _number(place, drawn.view(-1), ptr[-1])
        neighbors.append(numbers.view_as(drawn))
        masks.append(mask)
        found.append(new)
        salts.append(salt.index_select(0, first.div_(max(k, 1), rounding_mode="floor")))
        ptr.append(ptr[-1] + len(new))
    n_id = torch.cat(found)
    place.index_fill_(0, n_id, _UNSEEN)
    return Hops(
        n_id=n_id, ptr=tuple(ptr), query=query, neighbors=tuple(neighbors), masks=tuple(masks)
    )


def make_place(num_nodes: int, device: torch.device | str = "cpu") -> Tensor:
    """What :func:`sample_hops` numbers nodes in: (N,) int32."""
    return torch.full((num_nodes,), _UNSEEN, dtype=torch.int32, device=device)


def choose(degree: Tensor, key: Tensor, k: int, num_edges: int) -> Tensor:
    """Which of its neighbors each row takes: (R,), (R,) -> (k, R) int32 or int64.

    Args:
        degree: (R,) int64, at most ``num_edges``.
        key: (R,) int64.
        k: Slots; those beyond the degree hold numbers of no meaning, below k.
        num_edges: E; below 2^31 the result is int32, which is compared twice as fast.
    """
    columns = num_edges >= _WIDE or torch.compiler.is_compiling()
    return (_choose_columns if columns else _choose_slab)(degree, key, k)


def _choose_columns(degree: Tensor, key: Tensor, k: int) -> Tensor:
    """Slot by slot, all of it elementwise: torch.compile makes one loop of it."""
    few = degree <= k
    chosen: list[Tensor] = []
    for j in range(k):
        top = (degree - k).clamp(min=0) + j  # Floyd: draw from 0..top, on a repeat take top
        draw = _bounded(mix(key + _wrap((j + 1) * _SLOT)), top + 1)
        repeat = few
        for earlier in chosen:
            repeat = repeat | (earlier == draw)
        chosen.append(torch.where(repeat, top, draw))  # top of a row of few neighbors is j: all
    return torch.stack(chosen)


def _choose_slab(degree: Tensor, key: Tensor, k: int) -> Tensor:
    """All slots at once, in place: a third of the operations, and each on memory just written.

    An operation costs about 1.5 us before it does anything: twice as fast as columns for 1,000
    rows, 1.5 times for 10,000.
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
        # 0 where an earlier slot holds the same, or all are taken anyway: where() on such a mask,
        # which no branch predictor guesses, takes 8 times as long as arithmetic.
        differ.copy_(many)
        for earlier in draws[:j]:
            torch.minimum(differ, torch.bitwise_xor(earlier, draw, out=other), out=differ)
        repeat = differ.sub_(one).bitwise_right_shift_(sign)  # all ones where it was 0
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
    """Neighbors at the chosen places: (k, R) -> (R, k); gather is 3 times as fast as indexing."""
    at = start.new_empty(len(start), len(chosen)).copy_(chosen.t()).add_(start[:, None])
    at.clamp_(max=len(col) - 1)  # a slot without neighbor may point beyond the last row
    found = col.gather(0, at.view(-1)).view_as(at)
    if out is None:
        return torch.where(mask, found, nodes[:, None])
    return torch.where(mask, found, nodes[:, None], out=out)


def _number(place: Tensor, nodes: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Number the nodes that have no number yet, in order of appearance, from ``count`` on.

    Args:
        place: (N,) int32, the numbers; grows.
        nodes: (M,) int64.
        count: Numbers given before.

    Returns:
        The number of each node (M,), the nodes that are new (n,), and where each of them
        appeared first (n,).
    """
    if nodes.device.type == "cpu" and (fast := accelerator(nodes, 1)):
        return fast.number(place, nodes, count)
    at = torch.arange(count, count + len(nodes), dtype=torch.int32, device=nodes.device)
    # The smallest wins, whichever thread comes first; older numbers are below count and stay.
    place.scatter_reduce_(0, nodes, at, "amin")
    first = (place.gather(0, nodes) == at).nonzero().view(-1)
    new = nodes.index_select(0, first)
    place.scatter_(0, new, at[: len(new)])
    return place.gather(0, nodes).long(), new, first


def _joined(blocks: Sequence[Tensor], empty: Tensor) -> Tensor:
    return torch.cat([block.reshape(-1) for block in blocks]) if blocks else empty


_slots_sampled = 0


def accelerator(nodes: Tensor, k: int) -> ModuleType | None:
    """The numba functions, where they are worth it: on a CPU, once many slots were sampled.

    Both ways give the same integers, so that turning from one to the other changes nothing.
    GRAPHFM_FAST=0 keeps to torch, GRAPHFM_FAST=1 takes numba from the first call on.
    """
    global _slots_sampled
    wish = os.environ.get("GRAPHFM_FAST", "")
    if wish == "0" or nodes.device.type != "cpu":
        return None
    _slots_sampled += len(nodes) * k
    if wish != "1" and _slots_sampled < _NUMBA_AFTER:
        return None
    return _numba_functions()


@functools.cache
def _numba_functions() -> ModuleType | None:
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        from graphfm.sampling import _numba
    except Exception as error:  # a numba that does not fit its numpy fails in its own ways
        warnings.warn(f"numba is installed but does not work, torch samples: {error}", stacklevel=2)
        return None
    return _numba


def _graph_salt(graph_key: Tensor, seed: int, epoch: int) -> Tensor:
    return mix(graph_key + _wrap(mix_int(seed) + mix_int(epoch + (1 << 32))))


def _wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's is arithmetic."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _bounded(h: Tensor, n: Tensor) -> Tensor:
    """floor(h48 * n / 2^48) of the upper 48 bits, exactly, for n < 2^38; bias at most n / 2^48."""
    high, low = _shift(h, 40), _shift(h, 16) & _24
    return (high * n + ((low * n) >> 24)) >> 24
