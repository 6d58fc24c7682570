"""Batches that one process has in a step, and the result of a step.

Shapes:
    G  graphs of the step   P  parameters that have a gradient
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from graphfm.sampling.batch import GraphBatch


@dataclass(frozen=True, kw_only=True)
class RankBatches:
    """Batches that one process has in a step.

    Args:
        batches: One batch for each bin of this process that is not empty.
        places: Position of each of these bins in the step. The seed of dropout depends on it, so
            dropout does not change with the number of processes.
        totals: Number of targets of each graph in the whole step, over all processes, by name.
        rounds: Largest number of batches that any process has in this step; at least 1.
        balance: Cost of the most loaded process over the mean cost. Default: 1.0.
    """

    batches: tuple[GraphBatch, ...]
    places: tuple[int, ...]
    totals: Mapping[str, int]
    rounds: int
    balance: float = 1.0

    @classmethod
    def of(cls, batches: GraphBatch | Iterable[GraphBatch] | RankBatches) -> RankBatches:
        """Wrap the batches of a step that a single process does alone."""
        if isinstance(batches, RankBatches):
            return batches
        all_batches = (batches,) if isinstance(batches, GraphBatch) else tuple(batches)
        totals: dict[str, int] = {}
        for batch in all_batches:
            for name, size in zip(batch.names, batch.sizes, strict=True):
                totals[name] = totals.get(name, 0) + size
        places = tuple(range(len(all_batches)))
        return cls(batches=all_batches, places=places, totals=totals, rounds=len(all_batches))

    @property
    def is_whole_step(self) -> bool:
        """True if the step has one batch only, and this process has it."""
        if len(self.batches) != 1 or self.rounds != 1:
            return False
        return self.batches[0].num_targets == sum(self.totals.values())


@dataclass(frozen=True, kw_only=True)
class Step:
    """Result of one optimizer step. Tensors stay on the device until they are logged.

    Args:
        number: Number of steps done, including this one.
        batches: Batches of this process.
        totals: Number of targets of each graph, over all processes; G names.
        loss: Loss over log C, over all processes, a scalar.
        per_graph: Mean loss of each graph, in the order of ``totals``, (G,).
        grad_norm: Norm of the whole gradient before clipping, a scalar.
        lr: Learning rate.
        finite: True if loss and gradient are finite, a scalar. If false, the step was skipped: no
            weight changed.
        norms: Norm of the gradient of each parameter, (P,).
        params: Names of these parameters, P names.
        flops: FLOPs of all processes, forward and backward.
        balance: Cost of the most loaded process over the mean cost. Default: 1.0.
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
        """Names of the graphs in ``per_graph``, G of them."""
        return tuple(self.totals)

    @property
    def batch(self) -> GraphBatch:
        """The batch of a step that has only one."""
        (batch,) = self.batches
        return batch

    def without_batches(self) -> Step:
        """Return a copy that does not keep the memory of the batches."""
        return replace(self, batches=())
