"""Ridge regression in closed form; the penalty is chosen by leave-one-out error.

Shapes:
    R  training rows   Q  other rows   P  columns   C  outputs   S  penalties
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LAMBDAS = tuple(10.0**e for e in torch.arange(-3.0, 3.01, 0.5).tolist())
MAX_RESIDUALS = 1_000_000  # numbers that are computed at once, 8 MB


@dataclass(frozen=True, kw_only=True)
class RidgeFit:
    """A fitted ridge regression: ``features @ weight + bias``.

    Args:
        weight: (P, C).
        bias: (C,).
        lam: Chosen penalty, as a multiple of the mean squared column norm.
        held_out: (R, C) leave-one-out predictions at that penalty.
        error: Mean squared error of ``held_out``.
    """

    weight: Tensor
    bias: Tensor
    lam: float
    held_out: Tensor
    error: float


def fit_ridge(
    features: Tensor, targets: Tensor, *, lambdas: tuple[float, ...] = LAMBDAS
) -> RidgeFit:
    """Fit a ridge regression; the penalty is chosen by the exact leave-one-out error.

    One eigendecomposition serves all penalties. With U the left singular vectors and s the singular
    values of the centred features, the hat matrix is U diag(s^2 / (s^2 + lam)) U^T + 1/R, and the
    leave-one-out residual is (y - fit) / (1 - hat_ii).

    Args:
        features: (R, P) columns to regress on.
        targets: (R, C) targets.
        lambdas: Penalties to try, as multiples of the mean squared column norm.
    """
    x, y = features.double(), targets.double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    x, y = x - mean_x, y - mean_y
    wide = x.shape[0] <= x.shape[1]
    values, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    keep = values > values.max().clamp(min=1e-30) * 1e-10
    squared, vectors = values[keep], vectors[:, keep]
    root = squared.sqrt()
    left = vectors if wide else x @ vectors / root  # U (R, rank)
    right = x.T @ vectors / root if wide else vectors  # V (P, rank)
    projected = left.T @ y  # (rank, C)
    unit = float(x.square().sum() / max(1, x.shape[1]))
    penalties = torch.tensor(lambdas, dtype=x.dtype, device=x.device) * unit
    shrink = squared[:, None] / (squared[:, None] + penalties)  # (rank, S)
    hats = left.square() @ shrink + 1 / len(x)  # (R, S), in one pass over U
    # Few rows: all penalties in one product. Many rows: few penalties at a time, for memory.
    together = max(1, MAX_RESIDUALS // y.numel())
    errors = []
    for kept, hat in zip(shrink.split(together, 1), hats.split(together, 1), strict=True):
        errors += _residuals(left, projected, y, kept, hat).square().mean(dim=(0, 2)).tolist()
    at = min(range(len(lambdas)), key=errors.__getitem__)
    lam, error, chosen = lambdas[at], errors[at], slice(at, at + 1)
    held_out = y - _residuals(left, projected, y, shrink[:, chosen], hats[:, chosen])[:, 0] + mean_y
    inverse = root / (squared + lam * unit)
    weight = right @ (inverse[:, None] * projected)
    return RidgeFit(
        weight=weight.float(),
        bias=(mean_y - mean_x @ weight).float(),
        lam=lam,
        held_out=held_out.float(),
        error=error,
    )


def _residuals(left: Tensor, projected: Tensor, y: Tensor, shrink: Tensor, hats: Tensor) -> Tensor:
    """Return leave-one-out residuals at some penalties, (R, S, C)."""
    shrunk = shrink[:, :, None] * projected[:, None]  # (rank, S, C)
    fitted = (left @ shrunk.flatten(1)).unflatten(1, shrunk.shape[1:])
    return (y[:, None] - fitted) / (1 - hats.clamp(max=1 - 1e-6))[..., None]


def predict_ridge(features: Tensor, targets: Tensor, queries: Tensor, *, lam: float) -> Tensor:
    """Fit a ridge regression of a given penalty and predict other rows, differentiably.

    :func:`fit_ridge` chooses the penalty. The solve is a Cholesky factorization of the smaller of
    the two forms (rows or columns); gradients flow through it.

    Args:
        features: (R, P) columns of the training rows.
        targets: (R, C) their targets.
        queries: (Q, P) columns of the rows to predict.
        lam: Penalty, as a multiple of the mean squared column norm.

    Returns:
        (Q, C) float64.
    """
    x, y, queries = features.double(), targets.double(), queries.double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    x, y = x - mean_x, y - mean_y
    wide = x.shape[0] <= x.shape[1]
    gram = x @ x.T if wide else x.T @ x
    unit = (x.square().sum() / max(1, x.shape[1])).clamp(min=1e-30)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factor = torch.linalg.cholesky(gram + lam * unit * eye)
    solved = torch.cholesky_solve(y if wide else x.T @ y, factor)
    return (queries - mean_x) @ (x.T @ solved if wide else solved) + mean_y
