"""What can be said of models from their scores on several graphs.

The unit is the graph: seeds of one graph say how sure its mean is, graphs say what to expect of the
next one. Every interval over graphs is a percentile bootstrap over graphs.

Shapes:
    G  graphs   M  models   S  seeds   B  bootstrap draws
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray
DRAWS = 2000
PER_FACTOR_10 = 400.0
ALPHA = 0.05
TIE = 1e-9  # scores this close are equal: 0.1 + 0.2 is not 0.3


def mean_interval(values: Array) -> tuple[float, float | None]:
    """Mean, and half the width of its 95% t interval; None of one value.

    >>> mean, half = mean_interval(np.array([0.8, 0.82, 0.84]))
    >>> round(mean, 3), round(half, 4)
    (0.82, 0.0497)
    """
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return float(values.mean()), None
    return float(values.mean()), float(t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))


def ranks(scores: Array) -> Array:
    """Rank of each model on each graph, 1 = best, ties share: (G, M) -> (G, M)."""
    from scipy.stats import rankdata

    ranked: Array = rankdata(-np.round(scores / TIE) * TIE, axis=1)
    return ranked


def wins(scores: Array) -> Array:
    """Share of seeds in which one model beats another, a tie is half: (G, M, S) -> (G, M, M)."""
    difference = scores[:, :, None, :] - scores[:, None, :, :]
    won = (difference > TIE) + 0.5 * (np.abs(difference) <= TIE)
    share: Array = won.mean(axis=-1)
    diagonal = np.arange(scores.shape[1])
    share[:, diagonal, diagonal] = 0.0
    return share


def elo(won: Array, *, anchor: int | None = None) -> Array:
    """Ratings by the Bradley-Terry model: ``P(i beats j) = 1 / (1 + 10^((r_j - r_i) / 400))``.

    By maximum likelihood (Bradley and Terry 1952; Newton's method, Hunter 2004 for when it exists).
    A model that always wins has no finite rating, so each has drawn one game more, shared among its
    opponents: beside one game per opponent and graph that counts for little.

    Args:
        won: Games that the row won against the column, (..., M, M).
        anchor: The model of rating 1000; None = their mean is.

    Returns:
        (..., M).
    """
    num = won.shape[-1]
    if num < 2:
        return np.full(won.shape[:-1], 1000.0)
    games = won + 0.5 / (num - 1) * (1 - np.eye(num))
    both = games + np.swapaxes(games, -1, -2)
    r = np.zeros(won.shape[:-1])
    for _ in range(200):
        p = 1 / (1 + np.exp(r[..., None, :] - r[..., :, None]))
        slope = (games - both * p).sum(axis=-1)
        weight = both * p * (1 - p)
        bend = weight.sum(axis=-1)[..., None] * np.eye(num) - weight
        # Ratings are known up to a constant: a matrix of ones takes that freedom away.
        step = np.linalg.solve(bend + 1.0 / num, slope[..., None])[..., 0]
        r = r + np.clip(step, -1.0, 1.0)  # far from the optimum Newton overshoots
        if np.abs(step).max() < 1e-9:
            break
    r = r * PER_FACTOR_10 / math.log(10)
    at = r.mean(axis=-1, keepdims=True) if anchor is None else r[..., anchor, None]
    rated: Array = r - at + 1000.0
    return rated


def over_graphs(num: int, value: Callable[[Array], Array], *, seed: int = 0) -> Array:
    """A statistic of every bootstrap draw: (B, ...).

    Args:
        num: G.
        value: Of how often each graph was drawn, (B, G).
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    return value(rng.multinomial(num, np.full(num, 1 / num), size=DRAWS))


def interval(draws: Array) -> tuple[float, float]:
    """95% percentile interval of draws, (B,)."""
    low, high = np.percentile(draws, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One model against another, over graphs.

    Args:
        won: Graphs on which its mean is higher.
        lost: Lower.
        tied: Equal.
        gain: Mean difference of scores.
        low: Its bootstrap interval.
        high: The same.
        sign_p: Exact sign test, two-sided, ties left out.
        wilcoxon_p: Signed-rank test, two-sided, zeros after Pratt.
    """

    won: int
    lost: int
    tied: int
    gain: float
    low: float
    high: float
    sign_p: float
    wilcoxon_p: float


def pair(ours: Array, theirs: Array) -> Pair:
    """Compare means of the same graphs, (G,) each."""
    from scipy.stats import binomtest, wilcoxon

    gains = np.round((ours - theirs) / TIE) * TIE
    won, lost = int((gains > 0).sum()), int((gains < 0).sum())
    draws = over_graphs(len(gains), lambda counts: counts @ gains / len(gains))
    low, high = interval(draws)
    return Pair(
        won=won,
        lost=lost,
        tied=len(gains) - won - lost,
        gain=float(gains.mean()),
        low=low,
        high=high,
        sign_p=float(binomtest(won, won + lost).pvalue) if won + lost else 1.0,
        wilcoxon_p=float(wilcoxon(gains, zero_method="pratt").pvalue) if won + lost else 1.0,
    )


def holm(p: Array) -> Array:
    """P-values adjusted for how many there are (Holm 1979), (K,).

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def friedman(ranked: Array) -> float:
    """P-value of all models being alike, from ranks (G, M); 1 where it cannot be asked."""
    from scipy.stats import friedmanchisquare

    num_graphs, num_models = ranked.shape
    if num_models < 3 or num_graphs < 2 or np.ptp(ranked) == 0:
        return 1.0
    return float(friedmanchisquare(*ranked.T).pvalue)


def critical_difference(num_models: int, num_graphs: int) -> float:
    """How far average ranks must lie apart (Nemenyi; Demsar 2006, eq. 5) at 5%.

    >>> round(critical_difference(5, 30), 3)
    1.114
    """
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - ALPHA, num_models, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(num_models * (num_models + 1) / (6 * num_graphs)))


def alike(average: Array, difference: float) -> list[tuple[int, int]]:
    """Groups of models, none of them inside another, that lie within the critical difference.

    Args:
        average: Average ranks, ascending, (M,).
        difference: The critical one.

    Returns:
        First and last place of each group of at least two.
    """
    groups: list[tuple[int, int]] = []
    for first in range(len(average)):
        last = int(np.flatnonzero(average <= average[first] + difference)[-1])
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups
