"""Products with sparse matrices whose transpose is at hand, and a first layer made of them.

Shapes:
    N  nodes   F  feature columns   H  columns of a product
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
    """A sparse matrix and its transpose, both in CSR: the backward pass needs no turning.

    On coauthor-physics torch.sparse.mm takes 8 ms forward and 70 ms backward, for it transposes the
    matrix anew each time; this takes 8 ms each way.
    """

    rows: Tensor
    turned: Tensor

    @classmethod
    def of(cls, matrix: sparse.csr_array) -> Matrix:
        """From scipy, float32."""
        return cls(csr(matrix), csr(sparse.csr_array(matrix.T)))

    def times(self, dense: Tensor) -> Tensor:
        """(N, M) times (M, H); the gradient reaches ``dense``."""
        apply: Callable[..., Tensor] = _Product.apply
        return apply(self.rows, self.turned, dense)


class Places:
    """Edges with self-loops in CSR, and where each stands in the transpose."""

    def __init__(self, matrix: sparse.csr_array) -> None:
        numbered = sparse.csr_array(
            (np.arange(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape
        )
        turned = numbered.T.tocsr()
        pair = Matrix.of(matrix)
        self.rows, self.turned = pair.rows, pair.turned
        self.order = torch.from_numpy(turned.data.astype(np.int64))
        degree = np.diff(matrix.indptr)
        self.target = torch.from_numpy(np.repeat(np.arange(len(degree)), degree))  # (E,)
        self.offsets = torch.from_numpy(matrix.indptr.astype(np.int64))  # (N + 1,)
        self.source = torch.from_numpy(matrix.indices.astype(np.int64))  # (E,)


class Inputs:
    """Features as a first layer reads them, dense or sparse, made once for all trials.

    Args:
        x: (N, F).
    """

    def __init__(self, x: Features) -> None:
        self.shape: tuple[int, int] = x.shape
        self.is_dense = isinstance(x, np.ndarray)
        self.x: Tensor = torch.from_numpy(x) if isinstance(x, np.ndarray) else csr(x)
        self._scipy = None if isinstance(x, np.ndarray) else x

    @cached_property
    def _turned(self) -> tuple[Tensor, Tensor]:
        # Where each entry of the transpose stands in x: dropout changes values, not places.
        x = self._scipy
        assert x is not None
        numbered = sparse.csr_array((np.arange(x.nnz), x.indices, x.indptr), shape=x.shape)
        turned = numbered.T.tocsr()
        return torch.from_numpy(turned.data), csr(turned)

    def times(self, weight: Tensor, rate: float, rng: torch.Generator | None) -> Tensor:
        """Features times (F, H), with dropout on the features where a generator is given."""
        rate = 0.0 if rng is None else rate
        # Scaled after the product: it has 64 columns where features have hundreds.
        scale = 1 / kept(rate)
        if self.is_dense:
            return drop(self.x, rate, rng) @ weight * scale
        order, turned = self._turned
        values = drop(self.x.values(), rate, rng)
        matrix = Matrix(with_values(self.x, values), with_values(turned, values[order]))
        return matrix.times(weight) * scale


class FeatureLayer(nn.Module):
    """Features times weights, (N, F) @ (F, H), with dropout on the features.

    Args:
        inputs: The features.
        weight: (F, H).
        rate: Share of the entries that is dropped.
    """

    def __init__(self, inputs: Inputs, weight: Tensor, rate: float) -> None:
        super().__init__()
        self.inputs, self.rate = inputs, rate
        self.weight = nn.Parameter(weight)

    def forward(self, rng: torch.Generator | None) -> Tensor:
        """(N, H)."""
        return self.inputs.times(self.weight, self.rate, rng)


class _Product(torch.autograd.Function):
    """``rows @ dense``; the backward pass takes the transpose as it is given."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, turned: Tensor, dense: Tensor) -> Tensor:
        ctx.turned = turned
        product: Tensor = torch.sparse.mm(rows, dense)
        return product

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:
        return None, None, torch.sparse.mm(ctx.turned, grads[0].contiguous())


def kept(rate: float) -> float:
    """The share of entries that :func:`drop` keeps: dropout is by bytes, so by 256ths."""
    return 1 - round(256 * rate) / 256


def drop(x: Tensor, rate: float, rng: torch.Generator | None) -> Tensor:
    """Entries set to 0 with this probability, the others as they are; all of them without rng."""
    if rng is None or rate == 0:
        return x
    # A byte for each entry, eight bytes at a draw: on the 10M features of amazon-computers 0.1 s
    # in place of 0.25 s for rand and 0.3 s for F.dropout, which takes no generator either.
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64)
    words.random_(-(2**63), None, generator=rng)
    drawn = words.view(torch.uint8)[: x.numel()].view(x.shape)
    return x * (drawn >= round(256 * rate))


def dropout(x: Tensor, rate: float, rng: torch.Generator | None) -> Tensor:
    """As :func:`drop`, and scaled so that the mean stays."""
    return x if rng is None or rate == 0 else drop(x, rate, rng) * (1 / kept(rate))


def csr(matrix: sparse.csr_array) -> Tensor:
    """A float32 tensor in CSR form; int32 places, twice as fast on MKL as int64."""
    return torch.sparse_csr_tensor(
        torch.from_numpy(matrix.indptr.astype(np.int32)),
        torch.from_numpy(matrix.indices.astype(np.int32)),
        torch.from_numpy(matrix.data.astype(np.float32)),
        size=matrix.shape,
        check_invariants=True,
    )


def with_values(matrix: Tensor, values: Tensor) -> Tensor:
    """The same places, other values."""
    return torch.sparse_csr_tensor(
        matrix.crow_indices(),
        matrix.col_indices(),
        values,
        size=matrix.shape,
        check_invariants=False,  # the places were checked when the matrix was made
    )
