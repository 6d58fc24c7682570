"""Graph: one graph, checked when it is made.

Shapes:
    N  nodes   E  edges   F  feature columns   C  classes or labels
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import FEW, DataError
from graphfm.graphs.classes import class_values
from graphfm.graphs.edge_arrays import adjacency, as_tensors, edge_array
from graphfm.graphs.spec import TaskSpec

MASKS = ("train_mask", "val_mask", "test_mask")


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """One graph with features and labels, checked when it is made.

    Use :meth:`from_edges` unless the structure is already in CSR form.

    Args:
        name: Id of the graph: lower-case letters, digits and hyphens.
        num_nodes: Number of nodes, N; explicit, because the last nodes may have no edge.
        rowptr: Row pointers, (N + 1,) int64; the edges of node v are
            ``col[rowptr[v]:rowptr[v + 1]]``.
        col: Node at the far end of each edge, (E,) int64; ascending and unique within a row. An
            undirected graph holds both directions. Self-loops are kept.
        directed: True if some edge has no reverse.
        x: Features, (N, F) float32, dense or ``scipy.sparse.csr_array``. Default: none.
        y: Classes, (N,) int64, or labels of 0 and 1, (N, C) int8, with -1 = unlabelled; or a
            continuous target, (N,) float64, with NaN = unlabelled. Default: none.
        class_names: Names of the classes or labels, (C,). Default: none.
        train_mask: Training nodes, (N,) bool. Default: the graph has no split.
        val_mask: Validation nodes, (N,) bool. Default: none.
        test_mask: Test nodes, (N,) bool. Default: none.
        node_ids: Names of the nodes, (N,). Default: their positions.
        num_duplicates: Number of edges that were listed more than once and were merged.
        class_dtype: NumPy type of the labels before they were numbered. Default: text.

    Raises:
        DataError: GFM113 for an index out of range, GFM116 for lengths that differ, GFM117 for a
            feature that is not finite, GFM118 for labels that do not match the class names, GFM119
            for node ids that repeat, GFM135 for overlapping splits.
    """

    name: str
    num_nodes: int
    rowptr: Tensor
    col: Tensor
    directed: bool
    x: Tensor | sparse.csr_array | None = None
    y: Tensor | None = None
    class_names: tuple[str, ...] = ()
    train_mask: Tensor | None = None
    val_mask: Tensor | None = None
    test_mask: Tensor | None = None
    node_ids: tuple[str, ...] | None = None
    num_duplicates: int = 0
    class_dtype: str | None = None

    def __post_init__(self) -> None:
        self._check_structure()
        self._check_features()
        self._check_labels()

    @classmethod
    def from_edges(
        cls,
        edge_index: Tensor | np.ndarray,
        *,
        num_nodes: int,
        name: str = "graph",
        directed: bool | None = None,
        **fields: Any,
    ) -> Graph:
        """Make a graph from an edge list.

        Args:
            edge_index: Sources and targets of the edges, (2, E) integers, in any order. Repeated
                edges are merged.
            num_nodes: Number of nodes, N.
            name: Id of the graph.
            directed: If True, edges are kept as listed; if False, missing reverses are added.
                Default: undirected if every edge has its reverse.
            **fields: Other fields of :class:`Graph`; tensors may be arrays or lists.

        Raises:
            DataError: GFM113 to GFM115 for edges that are not valid, and the errors of the class.
        """
        edges = edge_array(edge_index, num_nodes, name)
        given = edges.shape[1]
        matrix = adjacency(edges[0], edges[1], num_nodes)
        num_duplicates = given - matrix.nnz
        if directed is not True:
            both = matrix.maximum(matrix.T).tocsr()
            if directed is False or both.nnz == matrix.nnz:
                directed, matrix = False, both
            else:
                directed = True
        matrix.sort_indices()
        return cls(
            name=name,
            num_nodes=num_nodes,
            rowptr=torch.from_numpy(matrix.indptr.astype(np.int64)),
            col=torch.from_numpy(matrix.indices.astype(np.int64)),
            directed=bool(directed),
            num_duplicates=num_duplicates,
            **as_tensors(fields),
        )

    @property
    def num_edges(self) -> int:
        """Number of edges, E; an undirected edge counts twice, a self-loop once."""
        return len(self.col)

    @property
    def num_features(self) -> int:
        """Number of feature columns, F; 0 without features."""
        return 0 if self.x is None else int(self.x.shape[1])

    @property
    def num_classes(self) -> int:
        """Number of classes, or of labels of a multi-label task, C; 0 without labels."""
        return len(self.class_names)

    @property
    def class_values(self) -> np.ndarray:
        """Classes in the type of the labels that were given, (C,): numbers, bools or text."""
        return class_values(self.class_names, self.class_dtype)

    @property
    def task(self) -> TaskSpec:
        """Kind of the labels and number of classes."""
        if self.y is not None and self.y.is_floating_point():
            return TaskSpec(kind="regress", num_classes=1)
        kind = "multilabel" if self.y is not None and self.y.ndim == 2 else "classify"
        return TaskSpec(kind=kind, num_classes=self.num_classes)

    @property
    def has_classes(self) -> bool:
        """True if each node has one class, rather than several labels or a number."""
        return self.y is not None and self.y.ndim == 1 and not self.y.is_floating_point()

    @cached_property
    def edge_index(self) -> Tensor:
        """Sources and targets of the edges, (2, E), sorted by source."""
        row = torch.repeat_interleave(torch.arange(self.num_nodes), self.rowptr.diff())
        return torch.stack([row, self.col])

    @cached_property
    def labelled(self) -> Tensor:
        """Nodes with at least one known label, (N,) bool."""
        if self.y is None:
            return torch.zeros(self.num_nodes, dtype=torch.bool)
        return labelled_nodes(self.y)

    @property
    def num_self_loops(self) -> int:
        """Number of edges from a node to itself."""
        return int(self._loops().sum())

    @cached_property
    def neighbors(self) -> tuple[Tensor, Tensor]:
        """Edges that the model reads, ``(rowptr, col)``: both directions, without self-loops."""
        loops = self._loops()
        if not self.directed and not loops.any():
            return self.rowptr, self.col
        row, col = self._rows()[~loops], self.col.numpy()[~loops]
        if not self.directed:
            ends = np.cumsum(np.bincount(row, minlength=self.num_nodes))
            rowptr = np.concatenate([np.zeros(1, dtype=np.int64), ends])
            return torch.from_numpy(rowptr), torch.from_numpy(col)
        matrix = adjacency(row, col, self.num_nodes)
        matrix = matrix.maximum(matrix.T).tocsr()
        matrix.sort_indices()
        return (
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
        )

    def _rows(self) -> np.ndarray:
        """Return the source of every edge, (E,), as int32 if the numbers fit."""
        number = np.int32 if self.num_nodes < 2**31 else np.int64
        return np.repeat(np.arange(self.num_nodes, dtype=number), self.rowptr.diff().numpy())

    def _loops(self) -> np.ndarray:
        """Return True for edges from a node to itself, (E,)."""
        same: np.ndarray = self._rows() == self.col.numpy()
        return same

    @cached_property
    def fingerprint(self) -> str:
        """Hash (sha256) of structure, features and labels, in node order."""
        digest = hashlib.sha256(f"{self.num_nodes} {self.directed}".encode())
        arrays = [self.rowptr, self.col, self.y]
        if isinstance(self.x, sparse.csr_array):
            arrays += [self.x.indptr, self.x.indices, self.x.data]
        else:
            arrays.append(self.x)
        for values in arrays:
            if values is None:
                digest.update(b"none")
            else:
                array = np.ascontiguousarray(np.asarray(values))
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(array.data)
        return digest.hexdigest()

    def replace(self, **fields: Any) -> Graph:
        """Return the graph with some fields changed, checked again.

        New class names are text, unless ``class_dtype`` is given with them.
        """
        if "class_names" in fields:
            fields = {"class_dtype": None, **fields}
        return replace(self, **fields)

    def ids(self) -> tuple[str, ...]:
        """Return the names of the nodes, (N,); their positions if they have no names."""
        return self.node_ids or tuple(str(i) for i in range(self.num_nodes))

    def __repr__(self) -> str:
        kind = "directed" if self.directed else "undirected"
        number = self.task.kind == "regress"
        target = "a continuous target" if number else f"{self.num_classes} classes"
        return (
            f"Graph({self.name}: {self.num_nodes:,} nodes, {self.num_edges:,} edges, {kind}, "
            f"{self.num_features:,} features, {target})"
        )

    def _check_structure(self) -> None:
        """Check the edges, the node ids and the shapes of the masks."""
        n = self.num_nodes
        if n < 1:
            raise DataError("GFM101", f"a graph needs at least one node, got num_nodes={n}")
        if self.rowptr.shape != (n + 1,) or int(self.rowptr[-1]) != len(self.col):
            raise DataError(
                "GFM116",
                f"rowptr must have num_nodes + 1 = {n + 1} entries and end at {len(self.col)} "
                f"edges, got {tuple(self.rowptr.shape)} ending at {int(self.rowptr[-1])}",
                where=self.name,
            )
        if len(self.col) and not 0 <= int(self.col.min()) <= int(self.col.max()) < n:
            raise DataError(
                "GFM113",
                f"edges must name nodes 0 to {n - 1}, got {int(self.col.min())} to "
                f"{int(self.col.max())}",
                where=self.name,
            )
        if self.node_ids is not None:
            self._check_rows("node_ids", len(self.node_ids))
            if len(set(self.node_ids)) != n:
                raise DataError("GFM119", "node ids must be unique", where=self.name)
        for mask in MASKS:
            values = getattr(self, mask)
            if values is not None:
                self._check_rows(mask, len(values))
                if values.dtype != torch.bool or values.ndim != 1:
                    raise DataError(
                        "GFM116",
                        f"{mask} must be (N,) bool, got {tuple(values.shape)} {values.dtype}",
                        where=self.name,
                    )
        self._check_splits()

    def _check_splits(self) -> None:
        """Check that no node is in two parts of the split."""
        given = [getattr(self, mask) for mask in MASKS if getattr(self, mask) is not None]
        if len(given) > 1:
            overlap = torch.stack(given).sum(dim=0) > 1
            if overlap.any():
                ids = [self.ids()[i] for i in overlap.nonzero().flatten()[:FEW].tolist()]
                raise DataError(
                    "GFM135",
                    f"splits must not overlap, but {int(overlap.sum())} nodes are in two of them",
                    where=f"{self.name}, nodes {', '.join(ids)}",
                    fix="give every node to at most one of train, val and test",
                )

    def _check_features(self) -> None:
        """Check the shape and type of the features, and that they are finite."""
        if self.x is None:
            return
        self._check_rows("x", self.x.shape[0])
        if isinstance(self.x, Tensor):
            finite = self.x.dtype == torch.float32 and bool(torch.isfinite(self.x).all())
        else:
            finite = self.x.dtype == np.float32 and bool(np.isfinite(self.x.data).all())
        if not finite or self.x.ndim != 2:
            raise DataError(
                "GFM117",
                f"x must be (N, F) float32 and finite, got {tuple(self.x.shape)} {self.x.dtype}",
                where=self.name,
                fix="fill in missing values, and look for infinite ones",
            )

    def _check_labels(self) -> None:
        """Check that labels are valid and that each class has a name."""
        if self.y is None:
            return
        self._check_rows("y", len(self.y))
        if self.y.is_floating_point():
            self._check_numbers(self.y)
            return
        wanted, top = (torch.int64, self.num_classes - 1) if self.y.ndim == 1 else (torch.int8, 1)
        columns = self.y.ndim == 1 or self.y.shape[1] == self.num_classes
        low = int(self.y.min()) if self.y.numel() else 0
        high = int(self.y.max()) if self.y.numel() else 0
        if self.y.dtype == wanted and self.y.ndim == 1 and low >= -1 and high > top:
            given = f"has {self.num_classes} names" if self.num_classes else "is empty"
            raise DataError(
                "GFM118",
                f"class_names {given}, but y holds classes 0 to {high}: pass their names",
                where=self.name,
                fix='class_names=("red", "blue", ...), one name for each class',
            )
        if self.y.dtype != wanted or not columns or low < -1 or high > top:
            raise DataError(
                "GFM118",
                f"y must be {wanted} from -1 (unlabelled) to {top} for {self.num_classes} class "
                f"names, got {self.y.dtype} from {low} to {high}, shape {tuple(self.y.shape)}",
                where=self.name,
            )

    def _check_numbers(self, y: Tensor) -> None:
        """Check a continuous target."""
        if y.dtype != torch.float64 or y.ndim != 1 or self.class_names or bool(y.isinf().any()):
            raise DataError(
                "GFM118",
                "a continuous target must be (N,) float64 without infinities and without class "
                f"names, got {tuple(y.shape)} {y.dtype} and {self.num_classes} names",
                where=self.name,
            )

    def _check_rows(self, field: str, rows: int) -> None:
        """Check that a field has one row per node."""
        if rows != self.num_nodes:
            raise DataError(
                "GFM116",
                f"{field} must have one row per node: num_nodes={self.num_nodes}, but {field} has "
                f"{rows}",
                where=self.name,
            )


def labelled_nodes(y: Tensor) -> Tensor:
    """Return the nodes with at least one known label: (N,) or (N, C) -> (N,) bool."""
    if y.is_floating_point():
        return ~y.isnan()
    return y >= 0 if y.ndim == 1 else (y >= 0).any(dim=1)


def class_names_of(y: Tensor) -> tuple[str, ...]:
    """Return names ``0 .. C-1`` for integer labels: (N,) or (N, C) -> (C,)."""
    num_classes = int(y.max()) + 1 if y.ndim == 1 and len(y) else y.shape[-1]
    return tuple(str(c) for c in range(max(num_classes, 0)))
