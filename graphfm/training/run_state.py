"""Progress of a run: all that resuming depends on beside weights and optimizer state.

It holds no state of a random generator. Random numbers of a step are a function of the seed and of
the step's number (:func:`graphfm.training.loop.seeded_dropout`, :mod:`graphfm.sampling.plan`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from graphfm.training.step import Step


@dataclass
class Window:
    """Sums over the steps since the last line of the log. Skipped steps do not count.

    Args:
        steps: Number of steps.
        loss: Sum of losses.
        grad_norm: Sum of gradient norms.
        lr: Learning rate of the last step.
        balance: Sum of :attr:`graphfm.training.step.Step.balance`.
        graphs: Sum of losses and number of steps of each graph, by name.
    """

    steps: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    lr: float = 0.0
    balance: float = 0.0
    graphs: dict[str, list[float]] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        """Add a step; this waits for the device."""
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
    """Progress of a run. Counts are over all ranks.

    Args:
        step: Number of steps done.
        seconds: Time spent on them.
        targets_seen: Number of targets of each graph, by name.
        flops: FLOPs of all steps.
        curve: Step, loss and accuracy of every evaluation.
        window: Sums over the steps since the last line of the log.
        skipped: Number of skipped steps.
        in_a_row: Number of skipped steps since the last good one.
        halvings: Number of times that batches were cut in half for lack of memory.
    """

    step: int = 0
    seconds: float = 0.0
    targets_seen: dict[str, int] = field(default_factory=dict)
    flops: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    window: Window = field(default_factory=Window)
    skipped: int = 0
    in_a_row: int = 0
    halvings: int = 0

    @property
    def num_targets(self) -> int:
        """Number of targets of all graphs."""
        return sum(self.targets_seen.values())

    def val_losses(self) -> dict[int, float]:
        """Return the validation loss by step."""
        return {int(point["step"]): point["loss"] for point in self.curve}

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def of(cls, saved: dict[str, Any]) -> RunState:
        """Read plain data; values that an older version did not save have their default."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in saved.items() if name in known}
        return cls(**{**values, "window": Window(**values.get("window", {}))})
