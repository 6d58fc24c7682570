"""Order of tasks from a store that grows while it is read.

A round takes a fixed number of tasks: those that were not seen before, up to the number that the
store held when the round began, then seen ones at random. That number is part of the state of a
run, so a resumed run sees the same tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round.

    Args:
        number: Number of rounds before.
        begin: Step at which it begins.
        seen: Number of tasks that earlier rounds have seen.
        available: Number of tasks in the store when it began.
    """

    number: int
    begin: int
    seen: int
    available: int

    def order(self, size: int, seed: int) -> np.ndarray:
        """Return the numbers of the tasks, (size,); a function of the round alone.

        >>> sorted(Round(number=0, begin=0, seen=2, available=5).order(3, seed=0).tolist())
        [2, 3, 4]
        """
        rng = np.random.default_rng([seed, self.number])
        fresh = np.arange(self.seen, min(self.available, self.seen + size))
        again = rng.integers(0, max(1, self.seen), size=size - len(fresh))
        if self.seen == 0 and len(fresh):
            again = again % len(fresh)
        return rng.permutation(np.concatenate([fresh, again]))

    def next(self, begin: int, size: int, available: int) -> Round:
        """Return the round after this one."""
        seen = min(self.available, self.seen + size)
        return Round(number=self.number + 1, begin=begin, seen=seen, available=available)
