"""Ridges on features whose leading axes count more, by as much as held-out labels say.

Prepared features are half-whitened: axis i has a root mean square of s_i ~ singular value^(1/2), so
that a ridge's penalty lets all axes speak nearly alike. Many labels can tell which of them mean
something. Few cannot, and what they cannot tell is mostly in the axes that vary little: with 20
labels a class, features times s_i^2 gain a ridge 2 to 17 points on citation graphs.

Shapes:
    n  nodes that are fitted on   F  axes   P  columns   C  what is fitted
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from graphfm.model.nn.ridge import RidgeFit, fit_ridge

POWERS = (0.0, 1.0, 2.0)  # of s_i; 3 is as 2
MAX_ROWS = 2000  # with more labels no power gained half a point, and each costs a ridge


def powers_for(num_rows: int, num_features: int) -> tuple[float, ...]:
    """The powers that are tried."""
    return POWERS if num_features and num_rows <= MAX_ROWS else POWERS[:1]


def axes_of(x: Tensor) -> Tensor:
    """Root mean square of each feature column: (N, F) -> (F,)."""
    return x.float().square().mean(dim=0).sqrt()


def gain_of(
    columns: Tensor, axes: Tensor, power: float, *, begin: int = 0, blocks: int = 1
) -> Tensor:
    """What to multiply columns by, (P,): ones for power 0.

    A block of features keeps its mean square, so that it weighs beside others as before.

    Args:
        columns: (n, P) of the nodes that are fitted on.
        axes: (F,) of :func:`axes_of`.
        power: Of the axes.
        begin: Where the features' blocks of F columns begin.
        blocks: How many of them follow each other.
    """
    gain = columns.new_ones(columns.shape[1])
    if power == 0.0:
        return gain
    by = axes**power
    for block in range(blocks):
        own = slice(begin + block * len(axes), begin + (block + 1) * len(axes))
        squares = columns[:, own].square().mean(dim=0)
        kept = squares.sum() / (by.square() * squares).sum().clamp(min=1e-30)
        gain[own] = by * kept.sqrt()
    return gain


@dataclass(frozen=True, kw_only=True)
class Emphasised:
    """A ridge on columns with gains.

    Args:
        fit: Its weight is for columns without gains, but where something else saw them.
        gain: (P,).
        power: Whose leave-one-out error was least.
    """

    fit: RidgeFit
    gain: Tensor
    power: float


def fit_emphasised(
    columns: Tensor,
    targets: Tensor,
    axes: Tensor,
    *,
    begin: int = 0,
    blocks: int = 1,
    powers: Sequence[float] | None = None,
    see: Callable[[Tensor], Tensor] | None = None,
) -> Emphasised:
    """The ridge of the power whose leave-one-out error is least.

    Args:
        columns: (n, P).
        targets: (n, C).
        axes: As :func:`gain_of`.
        begin: As :func:`gain_of`.
        blocks: As :func:`gain_of`.
        powers: To try; None = those of :func:`powers_for`.
        see: What a ridge reads of columns with their gains; None = the columns themselves.
    """
    tried = []
    for power in powers_for(len(columns), len(axes)) if powers is None else powers:
        gain = gain_of(columns, axes, power, begin=begin, blocks=blocks)
        fit = fit_ridge(columns * gain if see is None else see(columns * gain), targets)
        tried.append(Emphasised(fit=fit, gain=gain, power=power))
    best = min(tried, key=lambda one: one.fit.error)
    if see is not None:
        return best
    return replace(best, fit=replace(best.fit, weight=best.gain[:, None] * best.fit.weight))
