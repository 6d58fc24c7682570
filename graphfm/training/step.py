"""What one process does of a step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

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


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one optimizer step did; tensors stay on the device until somebody reads them.

    Args:
        number: Steps done, this one counted.
        batches: What this process learned from.
        totals: Targets of each graph, of all processes, G names.
        loss: Scalar, over log C; of all processes.
        per_graph: (G,) mean losses of the graphs, in the order of ``totals``.
        grad_norm: Scalar, before clipping.
        lr: Learning rate.
        finite: Scalar bool: loss and gradient are; if not, the step was left out: no weight moved.
        norms: (P,) of the gradient of each parameter that has one.
        params: Their names, (P,).
        flops: Of all processes, forward and backward.
        balance: Cost of the dearest process over that of the mean one.
    """

    number: int
    batches: tuple[GraphBatch, ...]
    totals: Mapping[str, int]
    loss: Tensor
    per_graph: Tensor
    grad_norm: Tensor
    lr: float
    finite: Tensor
    norms: Tensor
    params: tuple[str, ...]
    flops: int = 0
    balance: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """The graphs of ``per_graph``."""
        return tuple(self.totals)

    @property
    def batch(self) -> GraphBatch:
        """The only batch."""
        (batch,) = self.batches
        return batch
