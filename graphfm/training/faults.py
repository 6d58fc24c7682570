"""Faults of a step: a loss or gradient that is not finite, and too little memory.

Shapes:
    P  parameters that have a gradient
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphfm.errors import DivergedError, MemoryLimitError
from graphfm.training.step import RankBatches, Step

MAX_SKIPPED = 3  # skipped steps in a row; after more of them the weights are to blame, not a batch
MAX_NAMES = 5  # graphs and parameters that a message names

log = logging.getLogger(__name__)


def gradient_norms(params: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the norm of each gradient, (P,), and of all together, as ``clip_grad_norm_`` does."""
    norms = torch.stack(torch._foreach_norm([p.grad for p in params if p.grad is not None]))
    return norms, torch.linalg.vector_norm(norms)


def step_if(optimizer: torch.optim.Optimizer, finite: Tensor) -> None:
    """Take an optimizer step if ``finite`` is true; otherwise change no weight, moment or count.

    Fused AdamW reads the flag on the device, so the host does not wait. The other optimizers, whose
    step is many kernels, read it on the host: one wait per step on CUDA.

    Args:
        optimizer: Optimizer whose parameters have gradients.
        finite: Flag, a scalar bool tensor on the device.
    """
    if isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]:
        optimizer.grad_scale = None  # type: ignore[attr-defined]  # the protocol of GradScaler
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif bool(finite):
        optimizer.step()


@dataclass(frozen=True, kw_only=True)
class SkippedStep:
    """A step that changed no weight because its loss or gradient was not finite.

    Args:
        step: Number of the step.
        graphs: Names of the graphs whose loss was not finite.
        parameters: Names of the parameters whose gradient was not finite.
        in_a_row: Number of skipped steps in a row, including this one.
    """

    step: int
    graphs: list[str]
    parameters: list[str]
    in_a_row: int

    def describe(self) -> str:
        """Return the graphs and parameters in one line."""
        parts = [
            f"{name} {', '.join(found[:MAX_NAMES])}" + (f" and {rest} more" if rest > 0 else "")
            for name, found in (("graphs", self.graphs), ("gradient of", self.parameters))
            for rest in [len(found) - MAX_NAMES]
            if found
        ]
        return "; ".join(parts) or "the norm of all gradients, too large for float32"


class NonFiniteMonitor:
    """Count the skipped steps, name their graphs, and end a run that only skips.

    Args:
        total: Number of steps skipped so far.
        in_a_row: Number of skipped steps since the last good one.

    Attributes:
        unlogged: Skipped steps that are not in the log yet.
    """

    def __init__(self, *, total: int = 0, in_a_row: int = 0):
        self.total, self.in_a_row = total, in_a_row
        self.unlogged: list[SkippedStep] = []
        self._pending: Step | None = None

    def check(self, step: Step) -> None:
        """Check a step.

        On CUDA the check is one step late: the step before is complete by now, so the host never
        waits for the device.

        Raises:
            DivergedError: GFM601 after more than :data:`MAX_SKIPPED` skipped steps in a row.
        """
        self.check_pending()
        self._pending = step.without_batches()
        if not step.loss.is_cuda:
            self.check_pending()

    def check_pending(self) -> None:
        """Check the last step now if it was not checked yet."""
        step, self._pending = self._pending, None
        if step is None:
            return
        if bool(step.finite):
            self.in_a_row = 0
            return
        losses = zip(step.names, step.per_graph.tolist(), strict=True)
        graphs = [name for name, loss in losses if not math.isfinite(loss)]
        bad = (~step.norms.isfinite()).nonzero().flatten().tolist()
        self.total, self.in_a_row = self.total + 1, self.in_a_row + 1
        skipped = SkippedStep(
            step=step.number,
            graphs=graphs,
            parameters=[step.params[i] for i in bad],
            in_a_row=self.in_a_row,
        )
        self.unlogged.append(skipped)
        if self.in_a_row > MAX_SKIPPED:
            raise DivergedError(
                "GFM601",
                f"loss or gradient were not finite in {self.in_a_row} steps in a row, up to step "
                f"{step.number}",
                where=skipped.describe(),
                why="each of these steps left the weights unchanged, and the next one failed too",
                fix="lower train.lr, or exclude the graph: data.exclude",
            )
        log.warning("step %d skipped, not finite: %s", step.number, skipped.describe())


def is_out_of_memory(error: BaseException) -> bool:
    """Return true if an error means too little memory.

    CUDA and numpy raise classes of their own. On a CPU torch raises a RuntimeError, and oneDNN,
    which computes the matrix products there, reports only that it could not create a primitive.
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("can't allocate memory", "create a primitive"))
    )


class Backoff:
    """Batches of each step, cut in half again whenever memory was too small for them.

    A step keeps its targets, neighbors and contexts. Its loss and gradient stay the same except for
    rounding and dropout, because the batches of a step add up to the one batch of all targets.

    Args:
        make: Function ``(step, halvings)`` that returns this process's batches, each cut in half so
            many times.
        halvings: Number of halvings at the start. Default: 0.
    """

    def __init__(self, make: Callable[[int, int], RankBatches], halvings: int = 0):
        self.make, self.halvings = make, halvings

    def __call__(self, step: int) -> RankBatches:
        """Return this process's batches of a step."""
        return self.make(step, self.halvings)

    def split(self, step: int, tried: RankBatches, reason: str) -> RankBatches:
        """Return the batches of a step cut into smaller ones; all later steps are cut likewise.

        Args:
            step: Number of steps done before it.
            tried: Batches that did not fit into memory.
            reason: First line of the error.

        Raises:
            MemoryLimitError: GFM404 if every batch has only one target already.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        # The prefetch thread may have made ``tried`` before the last halving.
        for halvings in (self.halvings, self.halvings + 1):
            made = self.make(step, halvings)
            if len(made.batches) > len(tried.batches):
                self.halvings = halvings
                log.warning(
                    "out of memory at step %d: from now on a step has %d batches instead of %d, "
                    "with the same targets (%s)",
                    step + 1,
                    len(made.batches),
                    len(tried.batches),
                    reason,
                )
                return made
        raise MemoryLimitError(
            "GFM404",
            "out of memory with one target at a time",
            where=f"step {step + 1}",
            why=reason,
            fix="lower sampling.max_context, sampling.num_neighbors or model.dim",
        )
