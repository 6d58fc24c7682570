"""Where a run stands: everything, beside weights and optimizer, that going on depends on.

There is no state of a random generator: what is drawn in a step is a function of the seed and the
step's number (:func:`graphfm.training.loop.own_randomness`, :mod:`graphfm.sampling.plan`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from graphfm.training.step import Step


@dataclass
class Window:
    """Sums over the steps since the last line of the log; steps that were left out do not count.

    Args:
        steps: How many.
        loss: Sum over them.
        grad_norm: Likewise.
        lr: Of the last.
        balance: Sum of the dearest process's cost over that of the mean one.
        graphs: Sum of losses and number of steps, by graph.
    """

    steps: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    lr: float = 0.0
    balance: float = 0.0
    graphs: dict[str, list[float]] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        """Read a step; waits for the device."""
        if not bool(step.finite):
            return
        self.steps += 1
        self.loss += float(step.loss)
        self.grad_norm += float(step.grad_norm)
        self.lr = step.lr
        self.balance += step.balance
        for name, loss in zip(step.names, step.per_graph.tolist(), strict=True):
            sums = self.graphs.setdefault(name, [0.0, 0])
            sums[0] += loss
            sums[1] += 1


@dataclass
class RunState:
    """See the module. Counts are of all ranks.

    Args:
        step: Steps done.
        seconds: Spent on them.
        targets_seen: By graph.
        flops: Of all steps.
        curve: Validation so far.
        window: Since the last line of the log.
        skipped: Steps that were left out, because they were not finite.
        in_a_row: Of these the last, without a good one after them.
        halvings: Times that batches were cut in half for want of memory.
    """

    step: int = 0
    seconds: float = 0.0
    targets_seen: dict[str, int] = field(default_factory=dict)
    flops: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    window: dict[str, Any] = field(default_factory=dict)
    skipped: int = 0
    in_a_row: int = 0
    halvings: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def of(cls, saved: dict[str, Any]) -> RunState:
        """From plain data; what an older version did not save is as at the start."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in saved.items() if name in known})
