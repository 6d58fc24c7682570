"""Ridges on features whose leading axes count more, by as much as held-out labels say.

Prepared features are half-whitened: axis i has a root mean square of s_i ~ singular value^(1/2), so
that a ridge's penalty lets all axes speak nearly alike. Many labels can tell which of them mean
something. Few cannot, and what they cannot tell is mostly in the axes that vary little: with 20
labels a class, features times s_i^2 gain a ridge 2 to 17 points on citation graphs.

Shapes:
    n  nodes that are fitted on   F  axes   P  columns   C  what is fitted
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import Tensor

from graphfm.nn.ridge import RidgeFit, fit_ridge

POWERS = (0.0, 1.0, 2.0)  # of s_i; 3 is as 2
MAX_ROWS = 2000  # with more labels no power gained half a point, and each costs a ridge


def num_tries(num_rows: int, num_features: int) -> int:
    """How many powers are tried."""
    return len(POWERS) if num_features and num_rows <= MAX_ROWS else 1


def axes_of(x: Tensor) -> Tensor:
    """Root mean square of each feature column: (N, F) -> (F,)."""
    return x.float().square().mean(dim=0).sqrt()


def gains(columns: Tensor, axes: Tensor, *, begin: int = 0, blocks: int = 1) -> Iterator[Tensor]:
    """What to multiply columns by, (P,), for each power: ones first.

    A block of features keeps its mean square, so that it weighs beside others as before.

    Args:
        columns: (n, P) of the nodes that are fitted on.
        axes: (F,) of :func:`axes_of`.
        begin: Where the features' blocks of F columns begin.
        blocks: How many of them follow each other.
    """
    ones = columns.new_ones(columns.shape[1])
    yield ones
    squares = columns[:, begin : begin + blocks * len(axes)].square().mean(dim=0)
    for power in POWERS[1 : num_tries(len(columns), len(axes))]:
        gain = ones.clone()
        for block in range(blocks):
            own = slice(block * len(axes), (block + 1) * len(axes))
            by = axes**power
            kept = squares[own].sum() / (by.square() * squares[own]).sum().clamp(min=1e-30)
            gain[begin + own.start : begin + own.stop] = by * kept.sqrt()
        yield gain


def fit_emphasised(
    columns: Tensor,
    targets: Tensor,
    axes: Tensor,
    *,
    begin: int = 0,
    blocks: int = 1,
    see: Callable[[Tensor], Tensor] | None = None,
) -> tuple[RidgeFit, Tensor]:
    """The ridge of the power whose leave-one-out error is least, and its gains (P,).

    Args:
        columns: (n, P).
        targets: (n, C).
        axes: As :func:`gains`.
        begin: As :func:`gains`.
        blocks: As :func:`gains`.
        see: What a ridge reads of columns with their gains; None = the columns themselves, and
            then the weight that comes back is for columns without gains.
    """
    tried = [
        (fit_ridge(columns * gain if see is None else see(columns * gain), targets), gain)
        for gain in gains(columns, axes, begin=begin, blocks=blocks)
    ]
    fit, gain = min(tried, key=lambda one: one[0].error)
    if see is None:
        fit = replace(fit, weight=gain[:, None] * fit.weight)
    return fit, gain
