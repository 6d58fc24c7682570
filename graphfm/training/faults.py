"""What can go wrong in a step, and what is done: numbers that are not finite, too little memory.

Shapes:
    P  parameters that have a gradient
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphfm.errors import DivergedError, MemoryLimitError
from graphfm.training.step import Share

if TYPE_CHECKING:
    from graphfm.training.step import Step

log = logging.getLogger(__name__)

MAX_SKIPPED = 3  # steps in a row that may be left out; then the weights are to blame, not a batch
NAMED = 5  # graphs and parameters that a message names


def gradient_norms(params: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The norm of each gradient, (P,), and that of all together, as ``clip_grad_norm_`` has it."""
    norms = torch.stack(torch._foreach_norm([p.grad for p in params if p.grad is not None]))
    return norms, torch.linalg.vector_norm(norms)


def step_if(optimizer: torch.optim.Optimizer, finite: Tensor) -> None:
    """A step of the optimizer, or none at all: no weight, no average and no count moves.

    Fused AdamW takes the flag as it lies on the device, so that nobody waits for it. The others,
    whose step is many kernels, read it: on CUDA one wait a step.
    """
    if isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["fused"]:
        optimizer.grad_scale = None  # type: ignore[attr-defined]  # the protocol of GradScaler
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif bool(finite):
        optimizer.step()


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A step that was left out.

    Args:
        step: Its number.
        graphs: Whose loss was not finite.
        parameters: Whose gradient was not finite.
        in_a_row: Such steps up to here, this one counted.
    """

    step: int
    graphs: list[str]
    parameters: list[str]
    in_a_row: int


class Watch:
    """Counts the steps that were left out, names what was in them, and ends a run of only such.

    Args:
        total: Left out so far.
        in_a_row: Of these, the last ones without one between that was good.
    """

    def __init__(self, *, total: int = 0, in_a_row: int = 0):
        self.total, self.in_a_row = total, in_a_row
        self.news: list[Skip] = []
        self._unread: Step | None = None

    def see(self, step: Step) -> None:
        """Look at a step.

        On CUDA at the one before, which is done by now: so the device is never waited for.

        Raises:
            DivergedError: GFM601 after more than :data:`MAX_SKIPPED` in a row.
        """
        self.settle()
        self._unread = replace(step, batches=())  # their memory is the next step's
        if not step.loss.is_cuda:
            self.settle()

    def settle(self) -> None:
        """Look at the step that has not been looked at, if there is one."""
        step, self._unread = self._unread, None
        if step is None:
            return
        if bool(step.finite):
            self.in_a_row = 0
            return
        losses = zip(step.names, step.per_graph.tolist(), strict=True)
        graphs = [name for name, loss in losses if not math.isfinite(loss)]
        bad = (~step.norms.isfinite()).nonzero().flatten().tolist()
        self.total, self.in_a_row = self.total + 1, self.in_a_row + 1
        skip = Skip(
            step=step.number,
            graphs=graphs,
            parameters=[step.params[i] for i in bad],
            in_a_row=self.in_a_row,
        )
        self.news.append(skip)
        if self.in_a_row > MAX_SKIPPED:
            raise DivergedError(
                "GFM601",
                f"loss or gradient were not finite in {self.in_a_row} steps in a row, up to step "
                f"{step.number}",
                where=described(skip),
                why="the weights of before were kept each time, so a later step did not mend it",
                fix="lower train.lr, or leave the graph out: data.exclude",
            )
        log.warning("step %d is left out, not finite: %s", step.number, described(skip))


def described(skip: Skip) -> str:
    """Graphs and parameters of a skip in a line."""
    parts = [
        f"{name} {', '.join(found[:NAMED])}" + (f" and {rest} more" if rest > 0 else "")
        for name, found in (("graphs", skip.graphs), ("gradient of", skip.parameters))
        for rest in [len(found) - NAMED]
        if found
    ]
    return "; ".join(parts) or "the norm of all gradients, too large for float32"


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA's and numpy's errors have a class of their own, those of torch on a CPU have not.

    oneDNN, which does the matrix products there, says only that it could not create a primitive.
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("can't allocate memory", "create a primitive"))
    )


class Backoff:
    """What this process does of a step, in smaller batches once memory was too small for them.

    A step keeps its targets, neighbors and contexts, and so its loss and gradient but for rounding
    and dropout: several batches of a step add up to the one batch of all.

    Args:
        share: ``(step, halvings)`` to the share, each batch cut in half so many times.
        halvings: To begin with.
    """

    def __init__(self, share: Callable[[int, int], Share], halvings: int = 0):
        self.share, self.halvings = share, halvings

    def __call__(self, step: int) -> Share:
        """The share of a step."""
        return self.share(step, self.halvings)

    def smaller(self, step: int, had: Share, why: str) -> Share:
        """The same step in more batches, as are all steps from here on.

        Raises:
            MemoryLimitError: GFM404 where every batch has one target already.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        # ``had`` may have been made before the last halving, by the thread that works ahead.
        for halvings in (self.halvings, self.halvings + 1):
            made = self.share(step, halvings)
            if len(made.batches) > len(had.batches):
                self.halvings = halvings
                log.warning(
                    "out of memory at step %d: from here on it is done in %d batches instead of "
                    "%d, with the same targets (%s)",
                    step + 1,
                    len(made.batches),
                    len(had.batches),
                    why,
                )
                return made
        raise MemoryLimitError(
            "GFM404",
            "out of memory with one target at a time",
            where=f"step {step + 1}",
            why=why,
            fix="lower sampling.max_context, sampling.num_neighbors or model.dim",
        )
