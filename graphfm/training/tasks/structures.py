"""Structures of tasks: parts of corpus graphs, and drawn graphs.

Shapes:
    N  nodes   E  edges   F  raw columns   B  blocks
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.features.position import encode_positions
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from graphfm.graphs.graph import Graph

SIZES = (100, 1000)  # nodes of a part, log-uniform
WHOLE = 1300  # smaller graphs may be taken whole
MAX_DEGREE = 30.0  # mean degree; edges of denser parts are thinned out
LARGE = 3000  # nodes; a larger graph is not taken more often
DRAWN = 0.25  # share of drawn structures
TIME_LIMIT_S = 60.0  # no part needs it; positions must not depend on the speed of a machine


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """A small graph that several tasks share.

    Args:
        source: Id of the corpus graph, or ``drawn``.
        rowptr: CSR row pointers, (N + 1,).
        col: Neighbors, (E,): both directions, no self-loops, ascending within a row.
        pe: Positional encoding, (N, P) float32.
        raw: Raw features of the corpus graph, (N, F), or None.
        x: Its transformed features, (N, F'), or None.
        y: Its labels, (N,) int64, -1 = none; or None.
        blocks: Block of each node of a drawn graph, (N,); or None.
    """

    source: str
    rowptr: Tensor
    col: Tensor
    pe: Tensor
    raw: np.ndarray | sparse.csr_array | None = None
    x: np.ndarray | None = None
    y: np.ndarray | None = None
    blocks: np.ndarray | None = None

    @property
    def num_nodes(self) -> int:
        """Number of nodes, N."""
        return len(self.rowptr) - 1


@dataclass(kw_only=True)
class TaskCorpus:
    """Corpus graphs that tasks are made of, read when they are first needed.

    Args:
        ids: Ids of the graphs.
        catalog: Catalog that holds them.
    """

    ids: Sequence[str]
    catalog: Catalog
    _kept: dict[str, tuple[Graph, PreparedGraph]] = field(default_factory=dict)

    def weights(self) -> np.ndarray:
        """Return the probability of each graph, N^0.25 / g^0.4 for g graphs of its group.

        Generated graphs of the catalog count as one group; N counts up to :data:`LARGE`.
        """
        entries = [self.catalog.entry(id) for id in self.ids]
        groups = ["synthetic" if e.domain == "synthetic" else e.group for e in entries]
        sizes = [min(entry.num_nodes or 1, LARGE) ** 0.25 for entry in entries]
        weight = np.array(sizes) / np.array([groups.count(group) for group in groups]) ** 0.4
        return weight / weight.sum()

    def graph(self, id: str) -> tuple[Graph, PreparedGraph]:
        """Return a graph as it was read, and with transformed features."""
        if id not in self._kept:
            graph = self.catalog.load(id)
            self._kept[id] = graph, prepare(graph)
        return self._kept[id]

    def structure(self, rng: np.random.Generator) -> Structure:
        """Draw a structure."""
        if not self.ids or rng.random() < DRAWN:
            return draw_structure(rng)
        id = self.ids[int(rng.choice(len(self.ids), p=self.weights()))]
        graph, prepared = self.graph(id)
        rowptr, col = graph.neighbors
        size = int(np.exp(rng.uniform(*np.log(SIZES))))
        if graph.num_nodes <= WHOLE and rng.random() < 0.5:
            size = graph.num_nodes
        nodes = choose_part(rowptr.numpy(), col.numpy(), size, rng)
        matrix = _matrix(rowptr, col)[nodes][:, nodes]
        raw = None
        if graph.x is not None:
            raw = graph.x[nodes] if sparse.issparse(graph.x) else graph.x.numpy()[nodes]
        return Structure(
            source=id,
            raw=raw,
            x=prepared.x.numpy()[nodes],
            y=graph.y.numpy()[nodes] if graph.has_classes and graph.y is not None else None,
            **_finish(matrix, rng),
        )


def choose_part(
    rowptr: np.ndarray, col: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Choose the nodes of a part by random walks or by wider search, (N,) ascending.

    Args:
        rowptr: CSR row pointers of the whole graph.
        col: Its neighbors.
        size: Number of nodes N, if the graph has more.
        rng: Generator of the structure.
    """
    num_nodes = len(rowptr) - 1
    if num_nodes <= size:
        return np.arange(num_nodes)
    width = int(rng.choice([1, 2, 4, 8]))  # neighbors that a node of the frontier adds
    starts = int(rng.choice([1, 2, 8]))
    reached = np.zeros(num_nodes, dtype=bool)
    frontier = np.zeros(0, dtype=np.int64)
    count = 0
    while count < size:
        degree = rowptr[frontier + 1] - rowptr[frontier]
        alive = frontier[degree > 0]
        place = rng.random((len(alive), width)) * degree[degree > 0][:, None]
        new = col[rowptr[alive][:, None] + place.astype(np.int64)].ravel()
        new = np.unique(new[~reached[new]])
        if not len(new):
            new = rng.integers(0, num_nodes, size=starts)
            new = np.unique(new[~reached[new]])
        new = rng.permutation(new)[: size - count]
        reached[new] = True
        count += len(new)
        frontier = new if width > 1 else np.concatenate([new, frontier])[:32]
    return np.flatnonzero(reached)


def draw_structure(rng: np.random.Generator) -> Structure:
    """Draw a block model with uneven degrees, a geometric graph, or a graph without edges."""
    n = int(np.exp(rng.uniform(*np.log(SIZES))))
    num_blocks = int(rng.integers(2, 9))
    share = rng.dirichlet(np.full(num_blocks, 3.0))
    blocks = rng.choice(num_blocks, size=n, p=share)
    kind = rng.random()
    degree = np.exp(rng.uniform(np.log(1.5), np.log(MAX_DEGREE)))
    if kind < 0.05:
        matrix = sparse.csr_array((n, n))
    elif kind < 0.25:  # neighbors in a space of few dimensions
        at = rng.normal(size=(n, int(rng.integers(2, 6))))
        at += rng.uniform(0, 2) * rng.normal(size=(num_blocks, at.shape[1]))[blocks]
        distance = ((at[:, None] - at[None]) ** 2).sum(axis=2)
        near = np.argsort(distance, axis=1)[:, 1 : 1 + max(1, round(degree / 2))]
        ends = (np.repeat(np.arange(n), near.shape[1]), near.ravel())
        matrix = sparse.csr_array((np.ones(near.size), ends), shape=(n, n))
    else:
        affinity = np.exp(rng.normal(0, rng.uniform(0, 1.2), size=(num_blocks, num_blocks)))
        affinity = (affinity + affinity.T) / 2
        affinity[np.diag_indices(num_blocks)] *= np.exp(rng.uniform(-2, 4))
        weight = np.exp(rng.normal(0, rng.uniform(0.2, 1.4), size=n))
        expected = weight[:, None] * affinity[blocks][:, blocks] * weight
        expected *= degree / expected.sum(axis=1).mean()
        matrix = sparse.csr_array(rng.random((n, n)) < expected / 2)
    return Structure(source="drawn", blocks=blocks, **_finish(matrix, rng))


def _matrix(rowptr: Tensor, col: Tensor) -> sparse.csr_array:
    """Return the edges as a matrix of ones."""
    ones = np.ones(len(col), dtype=np.float32)
    shape = (len(rowptr) - 1, len(rowptr) - 1)
    return sparse.csr_array((ones, col.numpy(), rowptr.numpy()), shape=shape)


def _finish(matrix: sparse.csr_array, rng: np.random.Generator) -> dict[str, Any]:
    """Make the edges symmetric, thin them out, and encode positions."""
    n = matrix.shape[0]
    upper = sparse.triu(matrix.maximum(matrix.T), k=1).tocoo()
    keep = rng.random(len(upper.row)) < MAX_DEGREE * n / 2 / max(1, len(upper.row))
    row, col = upper.row[keep], upper.col[keep]
    ends = np.concatenate([row, col]), np.concatenate([col, row])
    whole = sparse.csr_array((np.ones(2 * len(row)), ends), shape=(n, n))
    whole.sort_indices()
    rowptr = torch.from_numpy(whole.indptr.astype(np.int64))
    neighbors = torch.from_numpy(whole.indices.astype(np.int64))
    pe = encode_positions(rowptr, neighbors, time_limit_s=TIME_LIMIT_S).pe
    return {"rowptr": rowptr, "col": neighbors, "pe": pe}
