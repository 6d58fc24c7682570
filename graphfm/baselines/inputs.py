"""Input of baselines: training and validation labels, scaled features, normalised adjacency.

Shapes:
    N  nodes   R  training nodes   V  validation nodes   F  feature columns   C  classes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph
from graphfm.metrics import accuracy

Features: TypeAlias = np.ndarray | sparse.csr_array

# GCN on pubmed (10% nonzero) takes 40 s on one core with dense features and 13 s with sparse ones.
MAX_SPARSE_DENSITY = 0.2

# Inputs of a peer, its default first; a search chooses among them. A graph without features has
# what our model reads (degree and positions), and for networks a learned embedding of each node.
# With log degree alone a GCN has an accuracy of 0.23 on a social graph of 7,600 nodes without
# features; with embeddings it has 0.82.
EMBEDDINGS = "embeddings"
WITH_FEATURES = ("features", "features+positions")
COLUMNS_ONLY = ("degree+positions", "degree", "positions")
LEARNED = (
    *(f"{EMBEDDINGS}+{columns}" for columns in COLUMNS_ONLY),
    EMBEDDINGS,
    *COLUMNS_ONLY,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownLabels:
    """Labels that a baseline may read; it never reads ``graph.y``.

    Args:
        train: Training nodes, (R,).
        y_train: Classes of the training nodes, (R,).
        val: Validation nodes, (V,); empty if there are none.
        y_val: Classes of the validation nodes, (V,).
        num_classes: Number of classes, C.
    """

    train: np.ndarray
    y_train: np.ndarray
    val: np.ndarray
    y_val: np.ndarray
    num_classes: int

    @property
    def one_hot(self) -> np.ndarray:
        """Training labels, one-hot, (R, C)."""
        rows: np.ndarray = np.eye(self.num_classes, dtype=np.float32)[self.y_train]
        return rows

    @property
    def frequencies(self) -> np.ndarray:
        """Share of each class among the training nodes, (C,)."""
        shares: np.ndarray = self.one_hot.mean(axis=0, dtype=np.float64)
        return shares

    def all_classes(self, proba: np.ndarray) -> np.ndarray:
        """Insert columns of zeros for classes without a training node.

        Args:
            proba: Probabilities of the classes with training nodes, in ascending order.

        Returns:
            Probabilities of all classes, (N, C).
        """
        full = np.zeros((len(proba), self.num_classes))
        full[:, np.unique(self.y_train)] = proba
        return full

    def score(self, proba: np.ndarray) -> tuple[float, float]:
        """Return accuracy and minus log loss of probabilities of the validation nodes, (V, C)."""
        of_truth = proba[np.arange(len(self.val)), self.y_val]
        return accuracy(self.y_val, proba), float(np.log(np.maximum(of_truth, 1e-12)).mean())


def known_labels(graph: Graph, train_mask: Tensor, val_mask: Tensor | None) -> KnownLabels:
    """Read the labels under two masks, and no others.

    Args:
        graph: Graph with one class per node.
        train_mask: Training nodes, (N,) bool; unlabelled ones are left out.
        val_mask: Validation nodes, (N,) bool. None if there are none.

    Raises:
        DataError: GFM134 if the graph has no single class per node, GFM116 for a mask of another
            length, GFM131 without a labelled training node.
    """
    if graph.y is None or not graph.has_classes:
        raise DataError(
            "GFM134",
            "baselines need one class per node, got "
            + ("no labels" if graph.y is None else f"y of shape {tuple(graph.y.shape)}"),
            where=graph.name,
            why="there are no baselines for other tasks" if graph.y is not None else "",
            fix="give y as (N,) int64 classes with -1 for unlabelled nodes",
        )
    y = graph.y
    train = _nodes_under("train_mask", train_mask, y, graph.name)
    val = train[:0] if val_mask is None else _nodes_under("val_mask", val_mask, y, graph.name)
    if len(train) == 0:
        raise DataError(
            "GFM131",
            f"train_mask must hold at least one labelled node, got {int(train_mask.sum())} nodes, "
            "none of them labelled",
            where=graph.name,
        )
    return KnownLabels(
        train=train.numpy(),
        y_train=y[train].numpy(),
        val=val.numpy(),
        y_val=y[val].numpy(),
        num_classes=graph.num_classes,
    )


def scaled_features(graph: Graph) -> Features | None:
    """Scale raw features, (N, F) float32; None without features.

    Word counts and weights (nonnegative, mostly zero) get rows of unit length. Other features get
    columns of mean 0 and standard deviation 1, clipped at +-8; means and deviations are those of
    all nodes.
    """
    x = graph.x
    if x is None or x.shape[1] == 0:
        return None
    raw: Features = x.numpy() if isinstance(x, Tensor) else x
    values = raw if isinstance(raw, np.ndarray) else raw.data
    density = np.count_nonzero(values) / (graph.num_nodes * graph.num_features)
    if values.min(initial=0.0) >= 0 and density <= 0.5:
        rows = _unit_rows(sparse.csr_array(raw))
        return rows if density <= MAX_SPARSE_DENSITY else rows.toarray()
    if isinstance(raw, np.ndarray):
        return standardised(raw)
    # Centring would make a sparse matrix dense.
    return _unit_columns(raw) if density <= MAX_SPARSE_DENSITY else standardised(raw.toarray())


def degree_features(graph: Graph) -> np.ndarray:
    """Standardised log degree and a constant, (N, 2) float32."""
    rowptr, _ = graph.neighbors
    log_degree = np.log1p(rowptr.diff().numpy().astype(np.float32))
    spread = log_degree.std()
    scaled = (log_degree - log_degree.mean()) / (spread if spread > 0 else 1.0)
    return np.stack([scaled, np.ones_like(scaled)], axis=1)


def normalised_adjacency(graph: Graph, *, self_loops: bool) -> sparse.csr_array:
    """Return ``D^-1/2 A D^-1/2`` of ``graph.neighbors``, (N, N) float32.

    Args:
        graph: The graph.
        self_loops: If true, A + I takes the place of A.
    """
    rowptr, col = graph.neighbors
    ones = np.ones(len(col), dtype=np.float32)
    shape = (graph.num_nodes, graph.num_nodes)
    matrix = sparse.csr_array((ones, col.numpy(), rowptr.numpy()), shape=shape)
    if self_loops:
        matrix = matrix + sparse.eye_array(graph.num_nodes, dtype=np.float32)
    degree = np.asarray(matrix.sum(axis=1)).ravel()
    scale = sparse.diags_array(1 / np.sqrt(np.maximum(degree, 1)))
    return _canonical(scale @ matrix @ scale)


def _nodes_under(field: str, mask: Tensor, y: Tensor, name: str) -> Tensor:
    if mask.shape != y.shape or mask.dtype != torch.bool:
        raise DataError(
            "GFM116",
            f"{field} must be ({len(y)},) bool, got {tuple(mask.shape)} {mask.dtype}",
            where=name,
        )
    nodes = mask.nonzero().flatten()
    return nodes[y[nodes] >= 0]


def _unit_rows(x: sparse.csr_array) -> sparse.csr_array:
    length = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
    return _canonical(sparse.diags_array(1 / np.maximum(length, 1e-12)) @ x)


def _unit_columns(x: sparse.csr_array) -> sparse.csr_array:
    size = np.sqrt(np.asarray(x.multiply(x).mean(axis=0)).ravel())
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    return _canonical(x @ sparse.diags_array(scale))


def _canonical(matrix: sparse.sparray) -> sparse.csr_array:
    """Convert to float32 CSR with ascending, unique columns in a row, as torch requires."""
    rows = sparse.csr_array(matrix, dtype=np.float32)
    rows.sum_duplicates()
    return rows


def standardised(x: np.ndarray) -> np.ndarray:
    """Scale columns to mean 0 and standard deviation 1, clipped at +-8, (N, F) float32."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    constant = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=~constant)
    scaled: np.ndarray = np.clip((x - mean) * scale, -8, 8)
    return scaled.astype(np.float32, copy=False)
