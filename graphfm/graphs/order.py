"""Canonical order of nodes, columns and classes: by content, not as a file or an array lists them.

A fit reads its graph in this order, so that the same graph in another order gives the same answers,
bit for bit. Nodes are ordered by a hash of their ids. Where ids are only the numbers 0 to N - 1,
nodes are ordered by a hash of features and neighborhoods (Weisfeiler and Leman 1968), because an
array in memory may list the same nodes in another order. Ids decide between equal nodes. No label
is read.

Shapes:
    N  nodes   E  edges   F  feature columns   C  classes
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.graphs.graph import MASKS, Graph
from graphfm.graphs.hashing import splitmix64
from graphfm.graphs.splits import stable_hash

ROWS = 16_384  # rows of features at a time
MAX_WORK = 2**27  # nodes and edges that the refinements of one graph read: a few seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Canonical order of one graph.

    Args:
        nodes: Node at each canonical place, (N,).
        columns: Feature column at each canonical place, (F,).
        classes: Class at each canonical place, (C,).
        ids: Hash of the id of each node, (N,) int64, by canonical place.
        numbered: True if the ids are the numbers 0 to N - 1, or none were given.
    """

    nodes: Tensor
    columns: Tensor
    classes: Tensor
    ids: Tensor
    numbered: bool

    @classmethod
    def of(
        cls, graph: Graph, *, columns: Tensor | None = None, classes: Tensor | None = None
    ) -> Self:
        """Return the canonical order of a graph.

        Args:
            graph: The graph.
            columns: Order of the columns, (F,). Default: by content.
            classes: Order of the classes, (C,). Default: by value.
        """
        ids = stable_hash(graph.ids(), seed=0).view(np.int64)
        numbered = has_numbered_ids(graph)
        content = _content_keys(graph) if numbered else np.zeros(graph.num_nodes, np.uint64)
        nodes = np.lexsort((ids, content))
        if columns is None:
            place = np.empty(len(nodes), dtype=np.uint64)
            place[nodes] = np.arange(len(nodes), dtype=np.uint64)
            keys = _column_keys(graph, place)
            columns = torch.from_numpy(np.argsort(keys, kind="stable"))
        return cls(
            nodes=torch.from_numpy(nodes),
            columns=columns,
            classes=class_order(graph.class_names) if classes is None else classes,
            ids=torch.from_numpy(ids[nodes]),
            numbered=numbered,
        )

    @property
    def places(self) -> Tensor:
        """Canonical place of each node, (N,)."""
        return inverse(self.nodes)

    def apply(self, graph: Graph, *, keep_ids: bool = False) -> Graph:
        """Return the graph in this order.

        Args:
            graph: The graph.
            keep_ids: If true, numbered nodes keep their ids. Default: places are their ids.
        """
        place, n = self.places.numpy(), graph.num_nodes
        rows = np.repeat(place, graph.rowptr.diff().numpy())
        edges = (np.ones(len(rows), dtype=np.int8), (rows, place[graph.col.numpy()]))
        matrix = sparse.coo_array(edges, shape=(n, n)).tocsr()
        matrix.sort_indices()
        fields: dict[str, Any] = {"node_ids": None}
        for name in ("y", *MASKS):
            values = getattr(graph, name)
            fields[name] = None if values is None else values[self.nodes]
        if len(self.classes) == len(graph.class_names) and fields["y"] is not None:
            fields |= self._classes(fields["y"], graph)
        if graph.x is not None and len(self.columns) == graph.num_features:
            fields["x"] = self._features(graph.x)
        if keep_ids or not self.numbered:
            fields["node_ids"] = tuple(np.array(graph.ids(), dtype=object)[self.nodes.numpy()])
        return graph.replace(
            rowptr=torch.from_numpy(matrix.indptr.astype(np.int64)),
            col=torch.from_numpy(matrix.indices.astype(np.int64)),
            **fields,
        )

    def _classes(self, y: Tensor, graph: Graph) -> dict[str, Any]:
        """Labels and class names in the order of the classes."""
        if y.ndim == 2:
            y = y[:, self.classes]
        elif not y.is_floating_point():
            y = torch.cat([inverse(self.classes), torch.tensor([-1])])[y]  # -1 reads the last
        names = tuple(graph.class_names[i] for i in self.classes.tolist())
        return {"y": y, "class_names": names, "class_dtype": graph.class_dtype}

    def _features(self, x: Tensor | sparse.csr_array) -> Tensor | sparse.csr_array:
        if isinstance(x, Tensor):
            return x[self.nodes].index_select(1, self.columns)
        ordered = sparse.csr_array(x[self.nodes.numpy()][:, self.columns.numpy()])
        ordered.sort_indices()
        return ordered


def in_order(graph: Graph) -> tuple[Graph, Tensor]:
    """Return a graph with its nodes in canonical order and with their ids, and the order (N,)."""
    order = Order.of(
        graph, columns=torch.arange(graph.num_features), classes=torch.arange(graph.num_classes)
    )
    return order.apply(graph, keep_ids=True), order.nodes


def inverse(order: Tensor) -> Tensor:
    """Return the place of each entry in an order: (n,) -> (n,)."""
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    return places


def class_order(names: Sequence[str]) -> Tensor:
    """Return the order of classes by value: as numbers if all are numbers, else as text; (C,)."""
    try:
        keys = [(float(name), name) for name in names]
    except ValueError:
        keys = [(0.0, name) for name in names]
    return torch.tensor(sorted(range(len(names)), key=keys.__getitem__), dtype=torch.int64)


def has_numbered_ids(graph: Graph) -> bool:
    """Return true for ids that are the numbers 0 to N - 1 in any order, or that were not given."""
    ids, n = graph.node_ids, graph.num_nodes
    if ids is None:
        return True
    if max(map(len, ids)) > len(str(n)) or not all(map(str.isdecimal, ids)):
        return False
    return bool((np.sort(np.array(ids).astype(np.int64)) == np.arange(n)).all())


def local_keys(graph: Graph, order: Order) -> Tensor:
    """Return a key of each node for random samples, (N,) int64.

    It is the hash of the id. Numbered nodes have a hash of degree and features, which changes only
    with the node itself: an added node changes no other node's sample.

    Args:
        graph: The graph in canonical order.
        order: Its order.
    """
    if not order.numbered:
        return order.ids
    keys = graph.neighbors[0].diff().numpy().astype(np.uint64)
    if graph.x is not None:
        columns = splitmix64(np.arange(graph.num_features))
        for rows, part in _hashed_features(graph.x):
            keys[rows] = splitmix64(keys[rows] + part @ columns)
    return torch.from_numpy(keys.view(np.int64))


def _content_keys(graph: Graph) -> np.ndarray:
    """Hash features and neighborhoods, (N,) uint64, until no further node is told apart."""
    n = graph.num_nodes
    keys = _with_features(graph, np.zeros(n, dtype=np.uint64))
    ones = np.ones(graph.num_edges, dtype=np.uint64)
    out = sparse.csr_array((ones, graph.col.numpy(), graph.rowptr.numpy()), shape=(n, n))
    into = out.T.tocsr() if graph.directed else out
    count, work = len(np.unique(keys)), 0
    while count < n and work <= MAX_WORK:
        mixed = splitmix64(keys)
        mixed = splitmix64(mixed + splitmix64(out @ mixed) + (into @ splitmix64(mixed)))
        found, work = len(np.unique(mixed)), work + n + graph.num_edges
        if found == count:  # columns that were alike may differ by now
            mixed = _with_features(graph, mixed)
            found = len(np.unique(mixed))
            if found == count:
                break
        keys, count = mixed, found
    return keys


def _with_features(graph: Graph, keys: np.ndarray) -> np.ndarray:
    """Mix the features of each node into its key, whatever the order of the columns."""
    if graph.x is None:
        return keys
    columns = splitmix64(_column_keys(graph, keys))
    mixed = np.empty_like(keys)
    for rows, part in _hashed_features(graph.x):
        mixed[rows] = splitmix64(keys[rows] + part @ columns)
    return mixed


def _column_keys(graph: Graph, keys: np.ndarray) -> np.ndarray:
    """Hash each column with the keys of the nodes, (F,) uint64."""
    columns = np.zeros(graph.num_features, dtype=np.uint64)
    if graph.x is not None:
        mixed = splitmix64(keys)
        for rows, part in _hashed_features(graph.x):
            columns += part.T @ mixed[rows]
    return columns


def _hashed_features(x: Tensor | sparse.csr_array) -> Iterator[tuple[slice, sparse.csr_array]]:
    """Yield blocks of rows whose nonzero values are hashed, as uint64."""
    for start in range(0, x.shape[0], ROWS):
        rows = slice(start, start + ROWS)
        part = sparse.csr_array(x[rows].numpy() if isinstance(x, Tensor) else x[rows])
        part.eliminate_zeros()
        hashed = splitmix64(part.data.astype(np.float32).view(np.uint32))
        yield rows, sparse.csr_array((hashed, part.indices, part.indptr), shape=part.shape)
