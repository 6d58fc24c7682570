"""Search for a design within a budget: greedy filling and exchange (Fedorov 1972).

Shapes:
    s  guesses of the law   c  candidate runs   p  parameters
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphfm.scaling.law import Array

WEAK = 2.5e-7  # weak prior (sd of a theta 10 at noise 0.5%): designs of few runs can be compared
MAX_PASSES = 30
SWAPS = 5  # candidates tried instead of a run


@dataclass
class Exchange:
    """Search for the number of seeds at each candidate, (c,), that best determines the exponents.

    Args:
        rows: Gradients of log loss, (s, c, p).
        wanted: Indices of the exponents among the p parameters.
        flops: FLOPs of each candidate, (c,).
        family: Number of the size and data of each candidate, (c,); runs of a family may branch.
        budget: FLOPs of all runs.
        max_seeds: Limit of the runs at one candidate.
        max_runs: Limit of all runs.
        branch: Share of its cost that a shorter run of a family adds.
    """

    rows: Array
    wanted: list[int]
    flops: Array
    family: Array
    budget: float
    max_seeds: int
    max_runs: int
    branch: float

    def __post_init__(self) -> None:
        self.others = [i for i in range(self.rows.shape[2]) if i not in self.wanted]

    def best(self) -> Array:
        """Return the best of three starts: by information per FLOP, by information, and between."""
        empty = np.zeros(len(self.flops), np.int64)
        found = [self.exchanged(self.filled(empty, thrift)) for thrift in (1.0, 0.5, 0.0)]
        return max(found, key=self.value)

    def value(self, counts: Array) -> float:
        """Return the log determinant of the information on the exponents, mean over guesses."""
        whole = self._information(counts)
        part = whole[:, self.others][:, :, self.others]
        return float(np.mean(np.linalg.slogdet(whole)[1] - np.linalg.slogdet(part)[1]))

    def gains(self, counts: Array) -> Array:
        """Return the gain of :meth:`value` by one more run at each candidate, (c,)."""
        whole = self._information(counts)
        part = whole[:, self.others][:, :, self.others]
        return np.asarray(_gain(whole, self.rows) - _gain(part, self.rows[:, :, self.others]))

    def spent(self, counts: Array) -> float:
        """Return the FLOPs of all runs."""
        alone = self.flops * counts
        return float(self.branch * alone.sum() + (1 - self.branch) * self._longest(counts).sum())

    def prices(self, counts: Array) -> Array:
        """Return the FLOPs that one more run at each candidate adds, (c,)."""
        seed = np.minimum(counts, self.max_seeds - 1)
        longest = self._longest(counts)[self.family, seed]
        return self.branch * self.flops + (1 - self.branch) * np.maximum(self.flops - longest, 0.0)

    def fits(self, counts: Array) -> bool:
        """Return True if all runs are within the budget and the limit of runs."""
        return self.spent(counts) <= self.budget and counts.sum() <= self.max_runs

    def filled(self, counts: Array, thrift: float = 1.0) -> Array:
        """Add the run with the largest gain / price^thrift while one fits."""
        counts = counts.copy()
        while counts.sum() < self.max_runs:
            prices = self.prices(counts)
            fits = (self.spent(counts) + prices <= self.budget) & (counts < self.max_seeds)
            if not fits.any():
                break
            worth = self.gains(counts) / prices**thrift
            counts[np.argmax(np.where(fits, worth, -np.inf))] += 1
        return counts

    def exchanged(self, counts: Array) -> Array:
        """Exchange runs while an exchange helps: see :meth:`_forced` and :meth:`_swapped`."""
        value = self.value(counts)
        for _ in range(MAX_PASSES):
            before = value
            for i in np.flatnonzero(self.flops <= self.budget).tolist():
                for tried in (self._forced(counts, i), *self._swapped(counts, i)):
                    if tried is not None and (now := self.value(tried)) > value + 1e-9:
                        counts, value = tried, now
            if value < before + 1e-3:
                break
        return counts

    def _swapped(self, counts: Array, i: int) -> Iterator[Array]:
        """Yield designs with one run at ``i`` replaced by one of the best others, then refilled."""
        if not counts[i]:
            return
        less = counts.copy()
        less[i] -= 1
        fits = self.spent(less) + self.prices(less) <= self.budget
        fits &= (less < self.max_seeds) & (np.arange(len(less)) != i)
        order = np.argsort(-np.where(fits, self.gains(less), -np.inf))[:SWAPS]
        for j in order[fits[order]]:
            more = less.copy()
            more[j] += 1
            yield self.filled(more)

    def _forced(self, counts: Array, i: int) -> Array | None:
        """Return a design with one more run at ``i`` and fewer others; None if it cannot fit."""
        if counts[i] == self.max_seeds:
            return None
        counts = counts.copy()
        counts[i] += 1
        worth = self.gains(counts)  # to first order also the loss by one run fewer
        if self.spent(counts) > self.budget:
            worth = worth / self.flops
        for j in np.repeat(np.argsort(worth), counts[np.argsort(worth)]):
            if self.fits(counts):
                break
            counts[j] -= j != i
        return self.filled(counts) if self.fits(counts) else None

    def _information(self, counts: Array) -> Array:
        used = counts > 0
        rows = self.rows[:, used] * np.sqrt(counts[used])[:, None]
        return np.asarray(rows.swapaxes(1, 2) @ rows + np.eye(rows.shape[2]) * WEAK)

    def _longest(self, counts: Array) -> Array:
        """Return the FLOPs of the longest run of each family and seed, (families, max_seeds)."""
        found = np.zeros((self.family[-1] + 1, self.max_seeds))
        for seed in range(self.max_seeds):
            made = np.where(counts > seed, self.flops, 0.0)
            np.maximum.at(found[:, seed], self.family, made)
        return found


def _gain(information: Array, rows: Array) -> Array:
    """Return log(1 + r^T M^-1 r), mean over guesses, (c,)."""
    solved = np.linalg.solve(information, rows.swapaxes(1, 2)).swapaxes(1, 2)
    return np.asarray(np.log1p((rows * solved).sum(2)).mean(0))
