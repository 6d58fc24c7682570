"""Feature transform of a graph: raw columns -> principal scores with a mean square of 1.

    output = clip((normalise(x) * scale) @ weight - offset, -8, 8)

The fit reads the features of all nodes (it is transductive) and no label. The transform is stored
with the graph; a row always gives the same output. Graphs of any domain get columns of the same
kind, so that their adapters start alike.

Shapes:
    N  nodes   F  raw columns   K  columns that vary   P  output columns
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.features.principal_axes import (
    StandardisedColumns,
    axis_signs,
    exact_axes,
    row_slices,
    sketched_axes,
)

VERSION = 1
CLIP = 8.0
SPARSE_SHARE = 0.5  # a wide matrix of counts with a smaller share of nonzeros is a bag of words
MIN_SINGULAR = 1e-5  # of the largest singular value; float32 features are not more precise

Features: TypeAlias = "Tensor | sparse.csr_array"


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTransform:
    """Linear map from raw features to principal scores; see the module for its formula.

    Args:
        num_in: Number of raw columns, F; 0 without features.
        num_out: Number of output columns, P; 0 if there are no features, all are constant, or they
            are one-hot node ids.
        normalise_rows: Scale each row to unit length first, as for bags of words.
        scale: Factor of each raw column, (F,) float64; 0 drops a constant column.
        weight: Half-whitened principal axes, (F, P) float32.
        offset: Scaled mean row times ``weight``, (P,) float64.
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
        """Fit the transform to the features of one graph.

        With at most ``max_dim`` varying columns, columns are standardised and rotated to their
        principal axes. With more, a truncated SVD finds the first axes and never makes a sparse
        matrix dense. Bags of words (wide, non-negative, mostly zero) have their rows scaled to unit
        length instead of their columns standardised. Dense and sparse storage of the same numbers
        give the same transform.

        Args:
            x: Raw features, (N, F), or None.
            max_dim: Largest number of output columns.
            seed: Seed of the random sketch for wide features.
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
        table = StandardisedColumns(raw, scale=not words)
        if raw.shape[1] <= max_dim:
            axes, singular = exact_axes(table)
        else:
            axes, singular = sketched_axes(table, max_dim, np.random.default_rng(seed))
        strong = singular > MIN_SINGULAR * singular[0]
        axes, singular = axes[:, strong], singular[strong]
        # Half-whitening divides by the root of the singular value. Full whitening would give the
        # last axes, which are mostly noise, the weight of the first.
        gain = np.sqrt(len(singular) * raw.shape[0] / singular.sum())
        scale, weight = np.zeros(num_in), np.zeros((num_in, len(singular)), dtype=np.float32)
        scale[kept] = table.scale
        weight[kept] = axes * (gain / np.sqrt(singular)) * axis_signs(axes, table)
        # The rounded weight makes x @ weight - offset exactly (x - mean) @ weight. Otherwise
        # columns like a year (mean 2000, deviation 3) would lose digits to the rounding.
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
                f"the transform was fitted to {self.num_in} feature columns, but these rows have "
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
        for rows in row_slices(x.shape[0]):
            scores = np.asarray(raw[rows].astype(np.float64) @ weight) - offset
            out[rows] = np.clip(scores, -CLIP, CLIP)
        return torch.from_numpy(out)

    def config(self) -> dict[str, Any]:
        """Return the plain values that :meth:`from_parts` needs beside the tensors."""
        return {
            "version": VERSION,
            "num_in": self.num_in,
            "num_out": self.num_out,
            "normalise_rows": self.normalise_rows,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store, by name; none without output columns."""
        if self.num_out == 0:
            return {}
        return {"scale": self.scale, "weight": self.weight, "offset": self.offset}

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> FeatureTransform:
        """Return the transform of stored ``config()`` and ``tensors()``.

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


def _canonical(x: Features) -> np.ndarray | sparse.csr_array:
    """Return a CSR matrix if few values are nonzero, else a dense one, however x is stored."""
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
    """Return a mask of the columns that are not constant: (N, F) -> (F,) bool."""
    low, high = raw.min(axis=0), raw.max(axis=0)
    if not isinstance(raw, np.ndarray):
        low, high = low.toarray().ravel(), high.toarray().ravel()
    return np.asarray(low != high)


def _is_identity(raw: np.ndarray | sparse.csr_array) -> bool:
    """Return true for one-hot node ids: one entry in each row, each in a column of its own."""
    if raw.shape[1] < raw.shape[0]:
        return False
    filled = sparse.csr_array(raw)
    distinct = len(np.unique(filled.indices)) == filled.nnz
    return bool(distinct and (np.diff(filled.indptr) == 1).all())


def _is_words(raw: np.ndarray | sparse.csr_array) -> bool:
    """Return true for bags of words: no negative value, and mostly zeros."""
    values = raw if isinstance(raw, np.ndarray) else raw.data
    share = np.count_nonzero(values) / (raw.shape[0] * raw.shape[1])
    return bool((values >= 0).all() and share < SPARSE_SHARE)


def _unit_rows(raw: np.ndarray | sparse.csr_array) -> np.ndarray | sparse.csr_array:
    """Scale each row to length 1; an empty row stays empty."""
    squares = raw.astype(np.float64) ** 2
    length = np.sqrt(np.asarray(squares.sum(axis=1)).ravel())
    inverse = 1 / np.where(length > 0, length, 1)
    if isinstance(raw, np.ndarray):
        return raw * inverse[:, None]
    return sparse.diags_array(inverse).tocsr() @ raw
