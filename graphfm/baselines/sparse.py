"""Sparse matrices with a stored transpose, and a first layer for sparse features and embeddings.

Shapes:
    N  nodes   M  columns   E  edges   F  feature columns   H  columns of a product
    D  width of node embeddings
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from graphfm.baselines.inputs import Features


@dataclass(frozen=True, eq=False)
class Matrix:
    """Sparse matrix with its transpose, both in CSR.

    On coauthor-physics torch.sparse.mm takes 8 ms forward and 70 ms backward, since it transposes
    the matrix in every backward pass. This class takes 8 ms in each direction.

    Args:
        rows: The matrix, (N, M).
        transpose: Its transpose, (M, N).
    """

    rows: Tensor
    transpose: Tensor

    @classmethod
    def of(cls, matrix: sparse.csr_array) -> Matrix:
        """Convert a scipy matrix to float32 tensors."""
        return cls(csr(matrix), csr(sparse.csr_array(matrix.T)))

    def times(self, dense: Tensor) -> Tensor:
        """Multiply (N, M) by (M, H); differentiable in ``dense``."""
        apply: Callable[..., Tensor] = _Product.apply
        return apply(self.rows, self.transpose, dense)


class AttentionEdges:
    """Edges with self-loops in CSR, and the place of each edge in the transpose.

    Args:
        matrix: Adjacency with self-loops, (N, N); its values are not used.
    """

    def __init__(self, matrix: sparse.csr_array) -> None:
        numbered = sparse.csr_array(
            (np.arange(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape
        )
        both = Matrix.of(matrix)
        self.rows, self.transpose = both.rows, both.transpose
        self.order = torch.from_numpy(numbered.T.tocsr().data.astype(np.int64))
        degree = np.diff(matrix.indptr)
        self.target = torch.from_numpy(np.repeat(np.arange(len(degree)), degree))  # (E,)
        self.offsets = torch.from_numpy(matrix.indptr.astype(np.int64))  # (N + 1,)
        self.source = torch.from_numpy(matrix.indices.astype(np.int64))  # (E,)


class Inputs:
    """Columns for a first layer, dense or sparse, shared by all trials.

    Args:
        x: Columns, (N, F).
        embedding_dim: Width of the node embeddings that the network learns beside them. Default:
            none.
    """

    def __init__(self, x: Features, *, embedding_dim: int = 0) -> None:
        self.num_nodes, self.num_columns = x.shape
        self.embedding_dim = embedding_dim
        self.is_dense = isinstance(x, np.ndarray)
        self.x: Tensor = torch.from_numpy(x) if isinstance(x, np.ndarray) else csr(x)
        self._scipy = None if isinstance(x, np.ndarray) else x

    @property
    def width(self) -> int:
        """Number of columns and embedding entries of a node, F + D."""
        return self.num_columns + self.embedding_dim

    @cached_property
    def _transpose(self) -> tuple[Tensor, Tensor]:
        # Place in x of each entry of the transpose: dropout changes the values, not the places.
        x = self._scipy
        assert x is not None
        numbered = sparse.csr_array((np.arange(x.nnz), x.indices, x.indptr), shape=x.shape)
        transpose = numbered.T.tocsr()
        return torch.from_numpy(transpose.data), csr(transpose)

    def times(self, weight: Tensor, rate: float, rng: torch.Generator | None) -> Tensor:
        """Multiply the columns by (F, H); a generator turns on dropout of their entries."""
        rate = 0.0 if rng is None else rate
        # Scale after the product, which has 64 columns; features have hundreds.
        scale = 1 / kept_share(rate)
        if self.is_dense:
            return drop(self.x, rate, rng) @ weight * scale
        order, transpose = self._transpose
        values = drop(self.x.values(), rate, rng)
        matrix = Matrix(with_values(self.x, values), with_values(transpose, values[order]))
        return matrix.times(weight) * scale


class FeatureLayer(nn.Module):
    """Product of inputs and weights, (N, F + D) @ (F + D, H), with dropout on the inputs.

    Args:
        inputs: Columns, and the width D of learned node embeddings.
        weight: Initial weights, (F + D, H).
        rate: Dropout rate.
    """

    def __init__(self, inputs: Inputs, weight: Tensor, rate: float) -> None:
        super().__init__()
        self.inputs, self.rate = inputs, rate
        self.weight = nn.Parameter(weight)
        self.embedding: nn.Parameter | None = None
        if inputs.embedding_dim:
            drawn = torch.randn(inputs.num_nodes, inputs.embedding_dim)  # as nn.Embedding
            self.embedding = nn.Parameter(drawn)

    def forward(self, rng: torch.Generator | None) -> Tensor:
        """Compute the product, (N, H); a generator turns dropout on."""
        if self.embedding is None:
            return self.inputs.times(self.weight, self.rate, rng)
        columns, learned = self.weight.split([self.inputs.num_columns, self.inputs.embedding_dim])
        product = dropout(self.embedding, self.rate, rng) @ learned
        if self.inputs.num_columns:
            product = product + self.inputs.times(columns, self.rate, rng)
        return product


class _Product(torch.autograd.Function):
    """Product ``rows @ dense`` with a given transpose for the backward pass."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:
        ctx.transpose = transpose
        product: Tensor = torch.sparse.mm(rows, dense)
        return product

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:
        return None, None, torch.sparse.mm(ctx.transpose, grads[0].contiguous())


def kept_share(rate: float) -> float:
    """Share of entries that :func:`drop` keeps, a multiple of 1/256."""
    return 1 - round(256 * rate) / 256


def drop(x: Tensor, rate: float, rng: torch.Generator | None) -> Tensor:
    """Set entries to 0 with a probability, without scaling; no change without ``rng``."""
    if rng is None or rate == 0:
        return x
    # One random byte per entry, eight bytes per draw: on the 10M features of amazon-computers this
    # takes 0.1 s, rand 0.25 s, and F.dropout, which accepts no generator, 0.3 s.
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
    words.random_(-(2**63), None, generator=rng)
    drawn = words.view(torch.uint8)[: x.numel()].view(x.shape)
    return x * (drawn >= round(256 * rate))


def dropout(x: Tensor, rate: float, rng: torch.Generator | None) -> Tensor:
    """Apply :func:`drop` and scale, so that the mean stays."""
    return x if rng is None or rate == 0 else drop(x, rate, rng) * (1 / kept_share(rate))


def csr(matrix: sparse.csr_array) -> Tensor:
    """Convert to a float32 CSR tensor with int32 indices, twice as fast on MKL as int64."""
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr.astype(np.int32)),
        torch.from_numpy(matrix.indices.astype(np.int32)),
        torch.from_numpy(matrix.data.astype(np.float32)),
        size=matrix.shape,
        check_invariants=True,
    )


def with_values(matrix: Tensor, values: Tensor) -> Tensor:
    """Return a CSR tensor with the same places and other values."""
    return torch.sparse_csr_tensor(
        matrix.crow_indices(),
        matrix.col_indices(),
        values,
        size=matrix.shape,
        check_invariants=False,  # the places were checked when the matrix was made
    )
