"""Choice of the depth of a fit: ``tune="auto"``.

The probe comes first. Depths that learn by gradient follow, each from the probe, if there are
enough labels to learn from and to compare on. A deeper fit must be better on validation nodes by
more than chance. With a pool of experts, the next depth is tried only if the one before was better.

Shapes:
    V  validation nodes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphfm.fitting.descent import Depth, FineTuneResult, ValidationScore

Tune = Literal["auto", "probe", "adapter", "decoder", "full"]
AUTO: Literal["auto"] = "auto"

# Chosen, not measured. A tenth of 30 nodes is 3, about the difference of two depths by chance.
MIN_VAL = 30
MIN_TRAIN: dict[Depth, int] = {"adapter": 20, "decoder": 100}  # labelled training nodes


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One depth that was tried.

    Args:
        depth: The depth.
        validation: Score on the validation nodes; None without validation nodes.
        best_step: Number of gradient steps that were kept.
        steps: Number of gradient steps taken.
        stopped: Reason for stopping before the last step; empty if all were taken.
        seconds: Duration in seconds.
    """

    depth: Depth
    validation: ValidationScore | None
    best_step: int = 0
    steps: int = 0
    stopped: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, depth: Depth, result: FineTuneResult) -> Trial:
        """Build the trial of a depth from the result of its gradient steps."""
        names = ("best_step", "steps", "stopped", "seconds")
        plain = {name: getattr(result, name) for name in names}
        return cls(depth=depth, validation=result.best, **plain)

    @property
    def score(self) -> float | None:
        """Score on the validation nodes; None without validation nodes."""
        return None if self.validation is None else self.validation.score

    def to_json(self) -> dict[str, Any]:
        """Return plain data, for ``config.json``."""
        plain = ("depth", "best_step", "steps", "stopped")
        return {
            **{name: getattr(self, name) for name in plain},
            "val_score": self.score,
            "seconds": round(self.seconds, 2),
        }


def depths_to_try(num_train: int, num_val: int) -> tuple[tuple[Depth, ...], str]:
    """Return the depths beyond the probe that the labels allow, and why others are left out.

    >>> depths_to_try(140, 250)
    (('adapter', 'decoder'), '')
    >>> depths_to_try(15, 250)
    ((), '15 training nodes: adapter needs 20, decoder needs 100')

    Args:
        num_train: Number of labelled training nodes.
        num_val: Number of labelled validation nodes that may choose.
    """
    if not num_val:
        return (), "there are no validation nodes to compare depths on"
    if num_val < MIN_VAL:
        return (), f"{num_val} validation nodes are too few to compare depths: {MIN_VAL} are needed"
    depths = tuple(depth for depth, least in MIN_TRAIN.items() if num_train >= least)
    missing = [f"{d} needs {least}" for d, least in MIN_TRAIN.items() if d not in depths]
    return depths, f"{num_train} training nodes: {', '.join(missing)}" if missing else ""


def choose_depth(trials: Sequence[Trial]) -> tuple[Trial, str]:
    """Choose the shallowest trial that no deeper one beats by more than chance; return the reason.

    Deeper is better if it is so by more than one standard error of the difference on the same
    validation nodes (one-standard-error rule, Breiman et al. 1984, section 3.4.3).

    Args:
        trials: The probe first, all with a validation score.
    """
    best, lines = trials[0], []
    if len(trials) == 1:
        return best, ""
    for deeper in trials[1:]:
        assert best.validation is not None and deeper.validation is not None
        difference = deeper.validation.right - best.validation.right
        gain, error = float(difference.mean()), standard_error(difference)
        other = f"{best.depth} {best.validation.score:.3f}"
        if gain > error * (1 + 1e-9):  # one node more is a tie, however it is rounded
            lines.append(f"{deeper.depth} {deeper.validation.score:.3f} beats {other}")
            best = deeper
        else:
            short = f", within a standard error of {error:.3f}" if gain > 0 else ""
            lines.append(
                f"{deeper.depth} {deeper.validation.score:.3f} is no better than {other}{short}"
            )
    return best, "on validation nodes " + "; ".join(lines)


def standard_error(difference: np.ndarray) -> float:
    """Standard error of the mean of numbers (V,), if their true mean is 0: no depth is better.

    For classes it is the root of the number of nodes on which two depths differ, over V, as in
    McNemar's test (1947, Psychometrika). A difference of one node never exceeds it.
    """
    return float(np.sqrt(np.square(difference).sum()) / len(difference))
