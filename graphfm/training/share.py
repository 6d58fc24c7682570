"""What one process does of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphfm.sampling.batch import GraphBatch


@dataclass(frozen=True, kw_only=True)
class Share:
    """See the module.

    Args:
        batches: One for each of its bins that is not empty.
        places: Where these bins stand in the step: dropout is drawn by place, so it does not change
            with the number of processes.
        totals: Targets of each graph in the whole step, by name, of all processes.
        rounds: Most batches that any process has in this step, 1 at least.
        balance: Cost of the dearest process over that of the mean one.
    """

    batches: tuple[GraphBatch, ...]
    places: tuple[int, ...]
    totals: Mapping[str, int]
    rounds: int
    balance: float = 1.0

    @classmethod
    def of(cls, batches: GraphBatch | Iterable[GraphBatch] | Share) -> Share:
        """All of a step that one process does alone."""
        if isinstance(batches, Share):
            return batches
        whole = (batches,) if isinstance(batches, GraphBatch) else tuple(batches)
        totals: dict[str, int] = {}
        for batch in whole:
            for name, size in zip(batch.names, batch.sizes, strict=True):
                totals[name] = totals.get(name, 0) + size
        places = tuple(range(len(whole)))
        return cls(batches=whole, places=places, totals=totals, rounds=len(whole))

    @property
    def is_whole(self) -> bool:
        """Whether its only batch is all of the step."""
        if len(self.batches) != 1 or self.rounds != 1:
            return False
        return self.batches[0].num_targets == sum(self.totals.values())
