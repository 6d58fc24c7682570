"""The feature transform of a graph: fitted once, stored, applied to every row alike.

Whatever the columns were, what comes out are principal scores in falling order with a mean square
of 1, so the adapters of different graphs begin alike. Everything the fit learns ends up in one
linear map: output = clip((normalise(x) * scale) @ weight - offset).

The fit reads the features of all nodes and no label: it is transductive in the features.

Shapes:
    N  nodes   F  raw columns   K  columns that vary   P  columns that come out   S  sketch width
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.features.neighbor_mean import neighbor_mean

VERSION = 1
CLIP = 8.0
ROWS = 16_384  # rows at a time: 33 MB in double precision at 256 columns
SPARSE_SHARE = 0.5  # more zeros than not: a wide matrix of counts is then taken for words
OVERSAMPLE = 32
POWER_STEPS = 4  # coauthor-physics: 99.85% of the energy of 256 exact axes, 4 s instead of 12
MIN_SINGULAR = 1e-5  # of the largest; float32 features carry no more

Features: TypeAlias = "Tensor | sparse.csr_array"


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTransform:
    """Raw features -> principal scores, the same numbers for the same row for ever.

    Args:
        num_in: F, columns of the raw features; 0 where the graph has none.
        num_out: P; 0 where the features say nothing: none, all constant, or one-hot node ids.
        normalise_rows: Whether each row is first scaled to unit length (bags of words).
        scale: (F,) float64, what each column is multiplied by; 0 = it never varied, drop it.
        weight: (F, P) float32, the principal axes, half-whitened.
        offset: (P,) float64, the mean row after scaling, times the weight.
    """

    num_in: int
    num_out: int
    normalise_rows: bool = False
    scale: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    weight: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    offset: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def __post_init__(self) -> None:
        f, p = (self.num_in, self.num_out) if self.num_out else (0, 0)
        shapes = (tuple(self.scale.shape), tuple(self.weight.shape), tuple(self.offset.shape))
        if shapes != ((f,), (f, p), (p,)):
            raise DataError(
                "GFM144",
                f"a feature transform from {self.num_in} to {self.num_out} columns needs tensors "
                f"of shapes {(f,)}, {(f, p)} and {(p,)}, got {shapes}",
            )

    @classmethod
    def fit(cls, x: Features | None, *, max_dim: int = 256, seed: int = 0) -> FeatureTransform:
        """Learn the transform of one graph's features.

        Narrow features (F <= ``max_dim``) are standardised and rotated to their principal axes.
        Wide ones go through a truncated SVD that never makes a sparse matrix dense; rows of
        non-negative, mostly zero features are scaled to unit length first, other columns are
        standardised. Dense and sparse storage of the same numbers give the same transform.

        Args:
            x: (N, F) raw features, or None.
            max_dim: Most columns that may come out.
            seed: Of the random sketch that wide features need.
        """
        if x is None or 0 in x.shape:
            return cls(num_in=0 if x is None else int(x.shape[1]), num_out=0)
        num_in = int(x.shape[1])
        raw = _canonical(x)
        kept = _varying(raw)
        if not kept.any() or _is_identity(raw):
            return cls(num_in=num_in, num_out=0)
        raw = raw[:, kept]
        words = raw.shape[1] > max_dim and _is_words(raw)
        if words:
            raw = _unit_rows(raw)
        table = _Standardised(raw, scale=not words)
        if raw.shape[1] <= max_dim:
            axes, singular = _exact_axes(table)
        else:
            axes, singular = _sketched_axes(table, max_dim, np.random.default_rng(seed))
        strong = singular > MIN_SINGULAR * singular[0]
        axes, singular = axes[:, strong], singular[strong]
        # Half-whitening: dividing by the root of the singular value lets the first axes keep
        # some of their weight, where full whitening would blow the last ones up to equal noise.
        gain = np.sqrt(len(singular) * raw.shape[0] / singular.sum())
        scale, weight = np.zeros(num_in), np.zeros((num_in, len(singular)), dtype=np.float32)
        scale[kept] = table.scale
        weight[kept] = axes * (gain / np.sqrt(singular)) * _signs(axes, table)
        # From the rounded weight, so that x @ weight - offset is exactly (x - mean) @ weight:
        # otherwise columns like a year (mean 2000, spread 3) would lose digits to the rounding.
        offset = (table.mean * table.scale) @ weight[kept].astype(np.float64)
        return cls(
            num_in=num_in,
            num_out=weight.shape[1],
            normalise_rows=words,
            scale=torch.from_numpy(scale),
            weight=torch.from_numpy(weight),
            offset=torch.from_numpy(offset),
        )

    def apply(self, x: Features | None) -> Tensor:
        """Transform rows: (N, F) -> (N, P) float32.

        Raises:
            DataError: GFM144 if the rows have another number of columns than the fitted ones.
        """
        width = 0 if x is None else int(x.shape[1])
        if width != self.num_in:
            raise DataError(
                "GFM144",
                f"the transform was fitted to {self.num_in} feature columns, these rows have "
                f"{width}",
                fix="give the same columns in the same order as the graph it was fitted to",
            )
        if x is None:
            raise DataError("GFM144", "without features there are no rows to transform")
        if self.num_out == 0:
            return torch.zeros(x.shape[0], 0)
        kept = self.scale.numpy() > 0
        weight = self.weight.numpy()[kept] * self.scale.numpy()[kept, None]
        offset = self.offset.numpy()
        raw = _canonical(x)[:, kept]
        if self.normalise_rows:
            raw = _unit_rows(raw)
        out = np.empty((x.shape[0], self.num_out), dtype=np.float32)
        for rows in _row_slices(x.shape[0]):
            scores = np.asarray(raw[rows].astype(np.float64) @ weight) - offset
            out[rows] = np.clip(scores, -CLIP, CLIP)
        return torch.from_numpy(out)

    def config(self) -> dict[str, Any]:
        """What :meth:`from_parts` needs beside the tensors; plain JSON."""
        return {
            "version": VERSION,
            "num_in": self.num_in,
            "num_out": self.num_out,
            "normalise_rows": self.normalise_rows,
        }

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to store, by name; empty where nothing comes out."""
        if self.num_out == 0:
            return {}
        return {"scale": self.scale, "weight": self.weight, "offset": self.offset}

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> FeatureTransform:
        """The transform that gave ``config()`` and ``tensors()``.

        Raises:
            DataError: GFM144 for parts of another version or of shapes that do not fit.
        """
        fields = dict(config)
        version = fields.pop("version", None)
        if version != VERSION:
            raise DataError(
                "GFM144",
                f"expected a feature transform of version {VERSION}, got {version}",
                fix="prepare the graph again",
            )
        fields.update(tensors)
        return cls(**fields)


def hop_features(rowptr: Tensor, col: Tensor, x: Tensor, num_hops: int = 2) -> Tensor:
    """Features of a node, the mean of its neighbors', the mean of their means, ...

    Args:
        rowptr: (N + 1,) CSR offsets.
        col: (E,) neighbors.
        x: (N, F) features.
        num_hops: How often the mean is taken.

    Returns:
        (N, (num_hops + 1) * F) float32; zeros where a node has no neighbors.
    """
    hops = [x.float()]
    for _ in range(num_hops):
        hops.append(neighbor_mean(rowptr, col, hops[-1]))
    return torch.cat(hops, dim=1)


class _Standardised:
    """(N, K) features, centred and perhaps scaled by column, without ever being written down.

    Centring a sparse matrix would fill it: 34,493 x 8,415 doubles are 2.3 GB.
    """

    def __init__(self, raw: np.ndarray | sparse.csr_array, *, scale: bool = True):
        self.raw = raw
        self.mean = np.asarray(raw.sum(axis=0, dtype=np.float64)).ravel() / raw.shape[0]
        spread = np.sqrt(_mean_squares(raw, self.mean))
        self.scale = 1 / spread if scale else np.ones(len(spread))
        if not isinstance(raw, np.ndarray):
            self.raw = raw.astype(np.float64)

    def times(self, right: np.ndarray) -> np.ndarray:
        """(K, S) -> (N, S)."""
        right = right * self.scale[:, None]
        out = np.empty((self.raw.shape[0], right.shape[1]))
        for rows in _row_slices(self.raw.shape[0]):
            out[rows] = self.raw[rows].astype(np.float64, copy=False) @ right
        out -= self.mean @ right
        return out

    def turned_times(self, left: np.ndarray) -> np.ndarray:
        """Transposed, (N, S) -> (K, S)."""
        out = np.zeros((self.raw.shape[1], left.shape[1]))
        for rows in _row_slices(self.raw.shape[0]):
            out += self.raw[rows].astype(np.float64, copy=False).T @ left[rows]
        out -= np.outer(self.mean, left.sum(axis=0))
        out *= self.scale[:, None]
        return out

    def dense(self) -> Iterator[np.ndarray]:
        """Blocks of rows, written down after all: for few columns."""
        for rows in _row_slices(self.raw.shape[0]):
            block = self.raw[rows]
            block = block.astype(np.float64) if isinstance(block, np.ndarray) else block.toarray()
            yield (block - self.mean) * self.scale


def _exact_axes(table: _Standardised) -> tuple[np.ndarray, np.ndarray]:
    """All principal axes (K, P) and singular values (P,), largest first."""
    gram = sum((block.T @ block for block in table.dense()), start=np.zeros(()))
    values, axes = np.linalg.eigh(gram)
    return axes[:, ::-1], np.sqrt(np.maximum(values[::-1], 0))


def _sketched_axes(
    table: _Standardised, num_axes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The first principal axes by randomised subspace iteration (Halko, Martinsson, Tropp 2011).

    The sketch starts on the rows, so the order of the columns does not change the result.
    """
    num_rows, num_columns = table.raw.shape
    width = min(num_axes + OVERSAMPLE, num_rows, num_columns)
    basis = np.linalg.qr(table.turned_times(rng.standard_normal((num_rows, width))))[0]
    for _ in range(POWER_STEPS):
        basis = np.linalg.qr(table.turned_times(table.times(basis)))[0]
    scores = table.times(basis)  # (N, S)
    values, turn = np.linalg.eigh(scores.T @ scores)
    top = np.argsort(values)[::-1][:num_axes]
    return basis @ turn[:, top], np.sqrt(np.maximum(values[top], 0))


def _signs(axes: np.ndarray, table: _Standardised) -> np.ndarray:
    """+1 or -1 for each axis, so that its largest loading is positive: (K, P) -> (P,).

    Loadings that tie (two standardised columns have the axes (1, 1) and (1, -1)) vote; if the vote
    ties as well, the skewness of the scores decides, which no order of columns can change.
    """
    size = np.abs(axes)
    largest = size.max(axis=0)
    vote = np.where(size > 0.999 * largest, np.sign(axes), 0).sum(axis=0)
    tied = np.flatnonzero(vote == 0)
    if len(tied):
        vote[tied] = (table.times(axes[:, tied]) ** 3).sum(axis=0)
    return np.where(vote < 0, -1.0, 1.0)


def _canonical(x: Features) -> np.ndarray | sparse.csr_array:
    """CSR without stored zeros where few are filled, else dense: by value, not by storage."""
    if isinstance(x, Tensor):
        x = x.numpy()
        filled = np.count_nonzero(x)
    else:
        x = sparse.csr_array(x, copy=True)
        x.sum_duplicates()
        x.eliminate_zeros()
        filled = x.nnz
    wants_sparse = filled < 0.25 * x.shape[0] * x.shape[1]  # above, dense is smaller and faster
    if isinstance(x, np.ndarray):
        return sparse.csr_array(x) if wants_sparse else x
    return x if wants_sparse else x.toarray()


def _varying(raw: np.ndarray | sparse.csr_array) -> np.ndarray:
    """(N, K) -> (K,) bool: columns that are not constant."""
    low, high = raw.min(axis=0), raw.max(axis=0)
    if not isinstance(raw, np.ndarray):
        low, high = low.toarray().ravel(), high.toarray().ravel()
    return np.asarray(low != high)


def _is_identity(raw: np.ndarray | sparse.csr_array) -> bool:
    """One-hot node ids: one entry in every row, and no two rows share a column."""
    if raw.shape[1] < raw.shape[0]:
        return False
    filled = sparse.csr_array(raw)
    alone = len(np.unique(filled.indices)) == filled.nnz
    return bool(alone and (np.diff(filled.indptr) == 1).all())


def _is_words(raw: np.ndarray | sparse.csr_array) -> bool:
    values = raw if isinstance(raw, np.ndarray) else raw.data
    share = np.count_nonzero(values) / (raw.shape[0] * raw.shape[1])
    return bool((values >= 0).all() and share < SPARSE_SHARE)


def _unit_rows(raw: np.ndarray | sparse.csr_array) -> np.ndarray | sparse.csr_array:
    """Rows of length 1; an empty row stays empty."""
    squares = raw.astype(np.float64) ** 2
    length = np.sqrt(np.asarray(squares.sum(axis=1)).ravel())
    inverse = 1 / np.where(length > 0, length, 1)
    if isinstance(raw, np.ndarray):
        return raw * inverse[:, None]
    return sparse.diags_array(inverse).tocsr() @ raw


def _mean_squares(raw: np.ndarray | sparse.csr_array, mean: np.ndarray) -> np.ndarray:
    """Variance of each column, by the distance from its mean: E[x^2] - mean^2 would cancel."""
    n = raw.shape[0]
    total = np.zeros(raw.shape[1])
    if isinstance(raw, np.ndarray):
        for rows in _row_slices(n):
            total += ((raw[rows] - mean) ** 2).sum(axis=0)
    else:
        away = (raw.data - mean[raw.indices]) ** 2
        total += np.bincount(raw.indices, weights=away, minlength=raw.shape[1])
        total += (n - np.bincount(raw.indices, minlength=raw.shape[1])) * mean**2
    total /= n
    return total


def _row_slices(num_rows: int) -> Iterator[slice]:
    for start in range(0, num_rows, ROWS):
        yield slice(start, start + ROWS)
