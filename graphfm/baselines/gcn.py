"""A graph convolutional network of two layers (Kipf and Welling 2017), on PyG's GCNConv.

Shapes:
    N  nodes   F  feature columns   H  hidden width   C  classes
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from graphfm.baselines.inputs import (
    MAX_SPARSE_DENSITY,
    Features,
    KnownLabels,
    known_labels,
    normalised_adjacency,
    scaled_features,
    structural_features,
)
from graphfm.graphs.graph import Graph

HIDDEN = 64
DROPOUT = 0.5
EPOCHS = 200
LEARNING_RATE = 0.01
WEIGHT_DECAY = 5e-4

# What one core does, for an estimate: multiplications a second, and what comes on top.
SPARSE_RATE = 3.5e9  # planetoid-pubmed: 24 s, estimated 25
DENSE_RATE = 1e10
EPOCH_SECONDS = 0.002
BEGIN_SECONDS = 2.0  # importing PyG


def gcn(graph: Graph, train_mask: Tensor, val_mask: Tensor | None, *, seed: int = 0) -> np.ndarray:
    """Class probabilities of every node, (N, C).

    200 epochs of Adam on the whole graph; the epoch that is best on the validation nodes answers,
    the last one without any. A graph without features is read by its log-degrees and a constant.

    Args:
        graph: The graph; only the labels under the masks are read.
        train_mask: Nodes to learn from, (N,) bool.
        val_mask: Nodes to choose the epoch by, (N,) bool.
        seed: Decides initial weights and dropout.
    """
    labels = known_labels(graph, train_mask, val_mask)
    x = scaled_features(graph)
    x = structural_features(graph) if x is None else x
    # PyG draws initial weights from the global generator; its state is put back afterwards.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        torch.manual_seed(seed)
        edges = _csr(normalised_adjacency(graph, self_loops=True))
        model = _model(x, labels.num_classes)
        return _train(model, edges, labels, torch.Generator().manual_seed(seed))


def gcn_seconds(graph: Graph, train_mask: Tensor, val_mask: Tensor | None) -> float:
    """About how long :func:`gcn` will take on one core: epochs x (edges + feature entries).

    Three products each: forward, backward, and forward again on validation nodes.

    Raises:
        DataError: GFM134 without a class per node, as :func:`gcn`.
    """
    labels = known_labels(graph, train_mask, val_mask)
    x = graph.x
    entries = 2 * graph.num_nodes if x is None else graph.num_nodes * graph.num_features
    filled = entries if x is None or isinstance(x, Tensor) else x.nnz
    dense = filled > MAX_SPARSE_DENSITY * entries
    in_products = (entries if dense else filled) * HIDDEN / (DENSE_RATE if dense else SPARSE_RATE)
    messages = (graph.num_edges + graph.num_nodes) * (HIDDEN + labels.num_classes) / SPARSE_RATE
    return BEGIN_SECONDS + EPOCHS * (EPOCH_SECONDS + 3 * (in_products + messages))


def _train(
    model: nn.Module, edges: Tensor, labels: KnownLabels, rng: torch.Generator
) -> np.ndarray:
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    train, y_train = torch.from_numpy(labels.train), torch.from_numpy(labels.y_train)
    best, best_score = np.empty(0), (-1.0, 0.0)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(edges, rng)[train], y_train))
        optimizer.step()
        if len(labels.val):
            proba = _predict(model, edges)
            score = labels.val_score(proba)
            if score > best_score:
                best, best_score = proba, score
    return best if len(labels.val) else _predict(model, edges)


@torch.no_grad()
def _predict(model: nn.Module, edges: Tensor) -> np.ndarray:
    proba: np.ndarray = model(edges, None).softmax(dim=1).numpy()
    return proba


def _model(x: Features, num_classes: int) -> nn.Module:
    """Two GCNConv layers on these features."""
    from torch_geometric.nn import GCNConv

    class Convolution(GCNConv):
        """GCNConv for a symmetric matrix: its backward pass needs no transpose.

        On coauthor-physics torch.sparse.mm takes 8 ms forward and 70 ms backward, for it
        transposes the matrix anew each time; this takes 8 ms each way.
        """

        def message_and_aggregate(self, adj_t: Tensor, x: Tensor) -> Tensor:
            return _product(adj_t, adj_t, x)

    class GCN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Convolution(x.shape[1], HIDDEN, normalize=False)
            self.first.lin = _FeatureLayer(x)
            self.second = Convolution(HIDDEN, num_classes, normalize=False)

        def forward(self, edges: Tensor, rng: torch.Generator | None) -> Tensor:
            """Logits of every node, (N, C); with dropout where a generator is given."""
            hidden = self.first(rng, edges).relu()
            scale = 1.0 if rng is None else 1 / (1 - DROPOUT)
            logits: Tensor = self.second(_drop(hidden, rng) * scale, edges)
            return logits

    return GCN()


class _FeatureLayer(nn.Module):
    """Features times weights, (N, F) @ (F, H), with dropout on the features, sparse or dense."""

    def __init__(self, x: Features) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(x.shape[1], HIDDEN))
        nn.init.xavier_uniform_(self.weight)
        self.x: Tensor = torch.from_numpy(x) if isinstance(x, np.ndarray) else _csr(x)
        if not isinstance(x, np.ndarray):
            # Where each entry of the transpose stands in x: dropout changes values, not places.
            numbered = sparse.csr_array((np.arange(x.nnz), x.indices, x.indptr), shape=x.shape)
            turned = numbered.T.tocsr()
            self.order, self.turned = torch.from_numpy(turned.data), _csr(turned)

    def forward(self, rng: torch.Generator | None) -> Tensor:
        # Scaled after the product: it has 64 columns where features have hundreds.
        scale = 1.0 if rng is None else 1 / (1 - DROPOUT)
        if self.x.layout == torch.strided:
            return _drop(self.x, rng) @ self.weight * scale
        values = _drop(self.x.values(), rng)
        dropped = _with_values(self.x, values)
        turned = _with_values(self.turned, values[self.order])
        return _product(dropped, turned, self.weight) * scale


class _SparseProduct(torch.autograd.Function):
    """``matrix @ dense`` where the transpose of the matrix is at hand for the backward pass."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, turned: Tensor, dense: Tensor) -> Tensor:
        ctx.turned = turned
        product: Tensor = torch.sparse.mm(matrix, dense)
        return product

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:
        return None, None, torch.sparse.mm(ctx.turned, grads[0].contiguous())


def _product(matrix: Tensor, turned: Tensor, dense: Tensor) -> Tensor:
    apply: Callable[..., Tensor] = _SparseProduct.apply
    return apply(matrix, turned, dense)


def _drop(x: Tensor, rng: torch.Generator | None) -> Tensor:
    """Entries set to 0 with probability DROPOUT, the others as they are."""
    if rng is None:
        return x
    # A byte for each entry, eight bytes at a draw: on the 10M features of amazon-computers 0.1 s
    # in place of 0.25 s for rand and 0.3 s for F.dropout, which takes no generator either.
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
    words.random_(-(2**63), None, generator=rng)
    drawn = words.view(torch.uint8)[: x.numel()].view(x.shape)
    return x * (drawn >= round(256 * DROPOUT))


def _csr(matrix: sparse.csr_array) -> Tensor:
    """A float32 tensor in CSR form; int32 places, twice as fast on MKL as int64."""
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr.astype(np.int32)),
        torch.from_numpy(matrix.indices.astype(np.int32)),
        torch.from_numpy(matrix.data.astype(np.float32)),
        size=matrix.shape,
        check_invariants=True,
    )


def _with_values(matrix: Tensor, values: Tensor) -> Tensor:
    return torch.sparse_csr_tensor(
        matrix.crow_indices(),
        matrix.col_indices(),
        values,
        size=matrix.shape,
        check_invariants=False,  # the places were checked when the matrix was made
    )
