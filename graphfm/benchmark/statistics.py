"""Statistics of scores on several graphs: ranks, Elo ratings, paired tests, intervals.

Seeds of one graph give the uncertainty of its mean; graphs give the uncertainty about the next
graph. Intervals are percentile bootstraps over groups of graphs, since graphs of one group are
alike: two of the evaluation graphs share their nodes, two others their source.

Shapes:
    G  graphs   M  models   S  seeds   B  bootstrap resamples   K  tests
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray
NUM_RESAMPLES = 2000
ELO_PER_FACTOR_10 = 400.0  # Elo points for odds of 10 to 1
ALPHA = 0.05  # significance level
TIE = 1e-9  # smaller differences are ties: 0.1 + 0.2 is not 0.3 in floating point


def mean_interval(values: Array) -> tuple[float, float | None]:
    """Compute the mean and half the width of its 95% t interval; None for one value.

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
    """Rank the models on each graph, 1 = best, ties get the mean rank: (G, M) -> (G, M)."""
    from scipy.stats import rankdata

    ranked: Array = rankdata(-np.round(scores / TIE) * TIE, axis=1)
    return ranked


def wins(scores: Array) -> Array:
    """Compute the share of seeds in which the row beats the column; a tie counts half.

    Args:
        scores: Scores, (G, M, S).

    Returns:
        Shares, (G, M, M), with a diagonal of zeros.
    """
    difference = scores[:, :, None, :] - scores[:, None, :, :]
    won = (difference > TIE) + 0.5 * (np.abs(difference) <= TIE)
    share: Array = won.mean(axis=-1)
    diagonal = np.arange(scores.shape[1])
    share[:, diagonal, diagonal] = 0.0
    return share


def elo(won: Array, *, anchor: int | None = None) -> Array:
    """Fit Elo ratings: ``P(i beats j) = 1 / (1 + 10^((r_j - r_i) / 400))``, as Bradley and Terry.

    Newton's method finds the maximum likelihood (Bradley and Terry 1952; Hunter 2004 gives the
    conditions for its existence). A model that always wins has no finite rating; a prior of one
    drawn game per model, shared among its opponents, keeps ratings finite. It weighs little beside
    one game per opponent and graph.

    Args:
        won: Number of games that the row won against the column, (..., M, M).
        anchor: Model with rating 1000. Default: the mean rating is 1000.

    Returns:
        Ratings, (..., M).
    """
    num = won.shape[-1]
    if num < 2:
        return np.full(won.shape[:-1], 1000.0)
    games = won + 0.5 / (num - 1) * (1 - np.eye(num))
    both = games + np.swapaxes(games, -1, -2)
    ratings = np.zeros(won.shape[:-1])
    for _ in range(200):
        p = 1 / (1 + np.exp(ratings[..., None, :] - ratings[..., :, None]))
        gradient = (games - both * p).sum(axis=-1)
        weight = both * p * (1 - p)
        curvature = weight.sum(axis=-1)[..., None] * np.eye(num) - weight
        # Ratings are defined up to a constant: adding a matrix of ones fixes it.
        step = np.linalg.solve(curvature + 1.0 / num, gradient[..., None])[..., 0]
        ratings = ratings + np.clip(step, -1.0, 1.0)  # Newton overshoots far from the optimum
        if np.abs(step).max() < 1e-9:
            break
    ratings = ratings * ELO_PER_FACTOR_10 / math.log(10)
    origin = ratings.mean(axis=-1, keepdims=True) if anchor is None else ratings[..., anchor, None]
    shifted: Array = ratings - origin + 1000.0
    return shifted


def bootstrap_groups(
    groups: Sequence[str], statistic: Callable[[Array], Array], *, seed: int = 0
) -> Array:
    """Compute a statistic of every bootstrap resample of groups of graphs, (B, ...).

    Args:
        groups: Group of each graph, (G,); a group is drawn with all its graphs.
        statistic: Function of the number of times that each graph was drawn, (B, G).
        seed: Seed of the resamples.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=NUM_RESAMPLES)
    return statistic(drawn[:, member])


def weighted_mean(counts: Array, values: Array) -> Array:
    """Compute means of values (G, ...) over resamples, (B, G) counts -> (B, ...)."""
    total = counts @ values
    mean: Array = total / counts.sum(axis=1).reshape(-1, *[1] * (total.ndim - 1))
    return mean


def interval(resampled: Array) -> tuple[float, float]:
    """Compute the 95% percentile interval of resampled values, (B,)."""
    low, high = np.percentile(resampled, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Comparison of two models over graphs.

    Args:
        won: Number of graphs on which the first model has the higher mean.
        lost: Number of graphs on which it has the lower mean.
        tied: Number of graphs with equal means.
        gain: Mean difference of scores, first minus second.
        low: Lower end of the 95% bootstrap interval of the difference.
        high: Upper end of that interval.
        sign_p: p-value of the exact two-sided sign test without ties.
        wilcoxon_p: p-value of the two-sided signed-rank test with Pratt's treatment of zeros.
    """

    won: int
    lost: int
    tied: int
    gain: float
    low: float
    high: float
    sign_p: float
    wilcoxon_p: float


def compare_pair(first: Array, second: Array, groups: Sequence[str]) -> Pair:
    """Compare the means of two models on the same graphs, (G,) each.

    The interval is over groups of graphs; the two tests are over graphs.

    Args:
        first: Means of the first model, (G,).
        second: Means of the second model, (G,).
        groups: Group of each graph, (G,).
    """
    from scipy.stats import binomtest, wilcoxon

    gains = np.round((first - second) / TIE) * TIE
    won, lost = int((gains > 0).sum()), int((gains < 0).sum())
    resampled = bootstrap_groups(groups, lambda counts: weighted_mean(counts, gains))
    low, high = interval(resampled)
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
    """Adjust p-values for the number of tests (Holm 1979): (K,) -> (K,).

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def friedman(ranked: Array) -> float:
    """p-value of Friedman's test that all models are equal, from ranks (G, M); 1 if undefined."""
    from scipy.stats import friedmanchisquare

    num_graphs, num_models = ranked.shape
    if num_models < 3 or num_graphs < 2 or np.ptp(ranked) == 0:
        return 1.0
    return float(friedmanchisquare(*ranked.T).pvalue)


def critical_difference(num_models: int, num_graphs: int) -> float:
    """Compute the smallest significant difference of average ranks (Nemenyi; Demsar 2006, eq. 5).

    >>> round(critical_difference(5, 30), 3)
    1.114
    """
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - ALPHA, num_models, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(num_models * (num_models + 1) / (6 * num_graphs)))


def indistinct_groups(average: Array, difference: float) -> list[tuple[int, int]]:
    """Find maximal groups of models whose average ranks do not differ significantly.

    Args:
        average: Average ranks, ascending, (M,).
        difference: Critical difference.

    Returns:
        First and last place of each group of two or more models.
    """
    groups: list[tuple[int, int]] = []
    for first in range(len(average)):
        last = int(np.flatnonzero(average <= average[first] + difference)[-1])
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups
