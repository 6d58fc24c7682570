"""Neighbor sampling beside its peers: edges per second, ratios, share of the memory floor.

A power-law graph of 1M nodes and 20M edges (Chung-Lu, both directions, degrees ~ d^-2.5): [10, 10]
and [15] from 1,024 random seeds with nodes renumbered and edges listed (``hops``), and neighbors of
16,384 rows (``raw``). A graph of mean degree 500 shows the cost of O(degree) per row. A round has
seeds of its own, so that no case finds its neighbors in a cache.

    python tools/bench/sampler.py --out sampler.json
    python tools/bench/sampler.py --device cuda --raw-rows 1000000 --out sampler-cuda.json

Peers, where they can be run:
    argsort     a random key for each in-edge, sorted within its row, the first k taken
    reservoir   stand-in for the GPU samplers of DGL, gSampler and torch-quiver, which read every
                in-edge; in torch over all of them at once, and in numba as the plain loop
    pyg         PyG's op ``torch_sparse.neighbor_sample`` and its ``NeighborLoader``

torch-sparse is source only and not a dependency. Build it in an environment of its own that sees
the project's packages: FORCE_ONLY_CPU=1 pip install --no-build-isolation --no-deps torch-sparse

The floor of a sampled edge is the memory that must move: 32 bytes (a sector) for its column, 4
bytes out, and a k-th of 80 bytes for its row. The machine's rate is that of gathering 4-byte values
from random places of the same columns, measured in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import timing
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests import sampler_peers as peers  # noqa: E402

Case = Callable[[], Any]
GATHERED_BYTES = 32 + 8 + 4  # a sector, its index, the result
SAMPLED_BYTES = 32 + 4 + 80 / 10  # at k = 10


@dataclass
class Graph:
    """A graph as CSR, with the seeds of ``hops`` and the rows of ``raw`` for each round."""

    rowptr: Tensor
    col: Tensor
    seeds: list[Tensor]
    rows: list[Tensor]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = timing.parser(__doc__)
    parser.add_argument("--num-nodes", type=int, default=1_000_000)
    parser.add_argument("--num-edges", type=int, default=20_000_000)
    parser.add_argument("--batch-size", type=int, default=1024, help="seeds of hops")
    parser.add_argument("--raw-rows", type=int, default=16384, help="rows sampled for in raw")
    args = parser.parse_args(argv)
    facts = timing.machine(args.device, threads=args.threads)
    power_law = power_law_graph(args)
    dense = dense_graph(args)
    print(f"power law: {args.num_nodes:,} nodes, {len(power_law.col):,} edges, largest degree")
    print(f"{int(power_law.rowptr.diff().max()):,}; dense: {len(dense.rowptr) - 1:,} nodes of 500")
    seconds, edges = {}, {}
    for title, graph, fanouts, make in (
        ("hops [10, 10]", power_law, [10, 10], hop_cases),
        ("hops [15]", power_law, [15], hop_cases),
        ("raw k=10", power_law, [10], raw_cases),
        ("raw k=10, degree 500", dense, [10], raw_cases),
    ):
        edges[title] = mean_edges(graph, graph.seeds if make is hop_cases else graph.rows, fanouts)
        cases = make(graph, fanouts, args)
        taken = timing.interleaved(cases, args.repeats, args.device)
        seconds |= {f"{title}: {name}": values for name, values in taken.items()}
    rows = figures_of(seconds, edges)
    header = ["case", "ms", "M edges/s", "peer / ours", "peer / numba", "share of floor"]
    print(timing.table(header, [[row.get(name, "") for name in header] for row in rows]))
    timing.write(args, facts, seconds, {"edges": edges, "rows": rows})
    return 0


def power_law_graph(args: argparse.Namespace) -> Graph:
    """Draw a Chung-Lu graph: both ends of an edge are node N u^3, renumbered; no edge twice."""
    import numpy as np

    rng = np.random.default_rng(0)
    n = args.num_nodes
    place = rng.permutation(n)
    ends = place[(n * rng.random((2, args.num_edges // 2)) ** 3).astype(np.int64)]
    u, v = ends[:, ends[0] != ends[1]]
    pairs = np.concatenate([u * n + v, v * n + u])
    pairs.sort()
    pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])]
    row, col = np.divmod(pairs, n)
    rowptr = np.append(0, np.bincount(row, minlength=n).cumsum())
    return on_device(rowptr, col, rng, args)


def dense_graph(args: argparse.Namespace) -> Graph:
    """Draw a graph of degree 500, as Reddit's, with half as many edges as the other graph."""
    import numpy as np

    rng = np.random.default_rng(1)
    n = max(args.num_edges // 1000, 2)
    return on_device(np.arange(n + 1) * 500, rng.integers(0, n, n * 500), rng, args)


def on_device(rowptr: Any, col: Any, rng: Any, args: argparse.Namespace) -> Graph:
    """Return the graph with nodes for every round, the warm-up included."""

    def batches(size: int) -> list[Tensor]:
        orders = (rng.permutation(len(rowptr) - 1)[:size] for _ in range(args.repeats + 1))
        return [torch.from_numpy(nodes).to(args.device) for nodes in orders]

    return Graph(
        torch.from_numpy(rowptr).to(args.device),
        torch.from_numpy(col).to(torch.int32).to(args.device),
        batches(args.batch_size),
        batches(args.raw_rows),
    )


def in_turn(batches: list[Tensor], sample: Callable[[Tensor], Any]) -> Case:
    """Return a case whose every call takes the nodes of the next round."""
    turn = itertools.cycle(batches)
    return lambda: sample(next(turn))


def with_fast(wish: str, sample: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Return the sampler with GRAPHFM_FAST set: 0 is torch, 1 the numba accelerator."""

    def switched(nodes: Tensor) -> Any:
        with mock.patch.dict(os.environ, GRAPHFM_FAST=wish):
            return sample(nodes)

    return switched


def with_numba(args: argparse.Namespace) -> bool:
    """Return True if the numba accelerator can run here."""
    from importlib.util import find_spec

    return args.device == "cpu" and find_spec("numba") is not None


def hop_cases(graph: Graph, fanouts: list[int], args: argparse.Namespace) -> dict[str, Case]:
    """Return the cases that give renumbered nodes and a list of edges."""
    from graphfm.sampling.neighbors import node_numbers, sample_hops

    numbers = node_numbers(len(graph.rowptr) - 1, args.device)

    def ours(seeds: Tensor) -> Tensor:
        key = seeds.new_zeros(len(seeds))
        found = sample_hops(
            graph.rowptr, graph.col, seeds, seeds, key, fanouts, seed=0, epoch=0, numbers=numbers
        )
        return found.edge_index

    cases = {"ours": in_turn(graph.seeds, with_fast("0", ours))}
    if with_numba(args):
        cases["ours, numba"] = in_turn(graph.seeds, with_fast("1", ours))
    cases["argsort"] = in_turn(graph.seeds, with_argsort(ours))
    if args.device == "cpu":
        for name, make in (("pyg op", peers.pyg_op), ("pyg NeighborLoader", peers.pyg_loader)):
            sample = make(graph.rowptr, graph.col, fanouts, graph.seeds)
            if sample is not None:
                cases[name] = in_turn(graph.seeds, sample)
    return cases


def with_argsort(ours: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Return our code with the peer's choice of neighbors in place of ours."""
    from graphfm.sampling import neighbors

    def other(rowptr: Tensor, col: Tensor, nodes: Tensor, _: Tensor, k: int) -> Any:
        return peers.argsort(rowptr, col, nodes, k)

    def switched(seeds: Tensor) -> Any:
        with mock.patch.object(neighbors, "sample_neighbors", other):
            return with_fast("0", ours)(seeds)

    return switched


def raw_cases(graph: Graph, fanouts: list[int], args: argparse.Namespace) -> dict[str, Case]:
    """Return the cases that give neighbors alone, one hop."""
    from graphfm.sampling.neighbors import row_keys, sample_neighbors

    (k,) = fanouts

    def ours(rows: Tensor) -> Any:
        key = row_keys(rows, rows.new_zeros(len(rows)), seed=0, epoch=0)
        return sample_neighbors(graph.rowptr, graph.col, rows, key, k)

    def peer(sample: Callable[..., Any]) -> Case:
        return in_turn(graph.rows, lambda rows: sample(graph.rowptr, graph.col, rows, k))

    cases = {"ours": in_turn(graph.rows, with_fast("0", ours))}
    if with_numba(args):
        cases["ours, numba"] = in_turn(graph.rows, with_fast("1", ours))
    cases["argsort"] = peer(peers.argsort)
    cases["reservoir stand-in, torch"] = peer(peers.reservoir)
    if with_numba(args):
        cases["reservoir stand-in, numba"] = peer(peers.numba_reservoir())
    cases["floor"] = gather_case(graph)
    return cases


def gather_case(graph: Graph) -> Case:
    """Return the floor: gather 2^18 columns from random places, others in each round."""
    rng = torch.Generator().manual_seed(2)
    device = graph.col.device
    places = [
        torch.randint(len(graph.col), (1 << 18,), generator=rng).to(device) for _ in graph.seeds
    ]
    turn = itertools.cycle(places)
    return lambda: graph.col.gather(0, next(turn))


def mean_edges(graph: Graph, batches: list[Tensor], fanouts: list[int]) -> float:
    """Return the mean number of edges that a round samples."""
    from graphfm.sampling.neighbors import sample_hops

    total = 0
    for nodes in batches:
        key = nodes.new_zeros(len(nodes))
        found = sample_hops(graph.rowptr, graph.col, nodes, nodes, key, fanouts, seed=0, epoch=0)
        total += sum(int(mask.sum()) for mask in found.masks)
    return total / len(batches)


def figures_of(seconds: dict[str, list[float]], edges: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row of the table for each case; raw cases only have a floor."""
    rows = []
    for name, values in seconds.items():
        title, case = name.split(": ")
        taken = timing.median(values)
        row: dict[str, Any] = {"case": name, "ms": taken * 1e3}
        if case == "floor":
            row["M edges/s"] = floor_rate(taken) / 1e6
        else:
            row["M edges/s"] = edges[title] / taken / 1e6
            row["peer / ours"] = taken / timing.median(seconds[f"{title}: ours"])
            if f"{title}: ours, numba" in seconds:
                row["peer / numba"] = taken / timing.median(seconds[f"{title}: ours, numba"])
            if f"{title}: floor" in seconds:
                floor = floor_rate(timing.median(seconds[f"{title}: floor"]))
                row["share of floor"] = edges[title] / taken / floor
        rows.append(row)
    return rows


def floor_rate(gather_seconds: float) -> float:
    """Return the sampled edges a second that memory alone would allow."""
    return (1 << 18) * GATHERED_BYTES / gather_seconds / SAMPLED_BYTES


if __name__ == "__main__":
    sys.exit(main())
