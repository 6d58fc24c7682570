"""How deep a fit goes, where the user leaves it to us: ``tune="auto"``.

The probe first. Then depths that learn by gradient, each from the probe, where there are labels
enough to learn from and to tell by. The deepest is not the best by being tried: it has to be better
on validation nodes by more than chance. Beside a pool of experts the next depth is tried only where
the one before was better.

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

# Chosen, not measured. A tenth of 30 nodes is 3, about what two depths differ by from chance alone.
MIN_VAL = 30
MIN_TRAIN: dict[Depth, int] = {"adapter": 20, "decoder": 100}  # labelled training nodes


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One depth that was tried.

    Args:
        depth: Which.
        validation: On the validation nodes; None without any.
        best_step: Gradient steps that were kept.
        steps: Gradient steps taken.
        stopped: Why before the last one; empty = all were taken.
        seconds: It took.
    """

    depth: Depth
    validation: ValidationScore | None
    best_step: int = 0
    steps: int = 0
    stopped: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, depth: Depth, done: FineTuneResult) -> Trial:
        """What gradient steps gave."""
        plain = {name: getattr(done, name) for name in ("best_step", "steps", "stopped", "seconds")}
        return cls(depth=depth, validation=done.best, **plain)

    @property
    def score(self) -> float | None:
        """On the validation nodes."""
        return None if self.validation is None else self.validation.score

    def to_json(self) -> dict[str, Any]:
        """As a receipt keeps it."""
        plain = ("depth", "best_step", "steps", "stopped")
        return {
            **{name: getattr(self, name) for name in plain},
            "val_score": self.score,
            "seconds": round(self.seconds, 2),
        }


def depths_to_try(num_train: int, num_val: int) -> tuple[tuple[Depth, ...], str]:
    """Depths beyond the probe that labels allow, and why not the others.

    >>> depths_to_try(140, 250)
    (('adapter', 'decoder'), '')
    >>> depths_to_try(15, 250)
    ((), '15 training nodes: adapter takes 20, decoder takes 100')

    Args:
        num_train: Labelled training nodes.
        num_val: Labelled validation nodes that may choose.
    """
    if not num_val:
        return (), "no validation node can tell whether a deeper fit is better"
    if num_val < MIN_VAL:
        return (), (
            f"{num_val} validation nodes cannot tell whether a deeper fit is better "
            f"(that takes {MIN_VAL})"
        )
    depths = tuple(depth for depth, least in MIN_TRAIN.items() if num_train >= least)
    lacks = [f"{d} takes {least}" for d, least in MIN_TRAIN.items() if d not in depths]
    return depths, f"{num_train} training nodes: {', '.join(lacks)}" if lacks else ""


def choose_depth(tries: Sequence[Trial]) -> tuple[Trial, str]:
    """The shallowest try that no deeper one beats by more than chance, and why it is.

    Deeper is better if it is so by more than one standard error of the difference on the same
    validation nodes (the rule of one standard error, Breiman et al. 1984, section 3.4.3).

    Args:
        tries: The probe first, all of them scored.
    """
    best, lines = tries[0], []
    if len(tries) == 1:
        return best, ""
    for deeper in tries[1:]:
        assert best.validation is not None and deeper.validation is not None
        difference = deeper.validation.right - best.validation.right
        gain, error = float(difference.mean()), standard_error(difference)
        beside = f"{best.depth} {best.validation.score:.3f}"
        if gain > error * (1 + 1e-9):  # one node more is a tie, whatever it rounds to
            lines.append(f"{deeper.depth} {deeper.validation.score:.3f} beats {beside}")
            best = deeper
        else:
            short = f", within a standard error of {error:.3f}" if gain > 0 else ""
            lines.append(
                f"{deeper.depth} {deeper.validation.score:.3f} is no better than {beside}{short}"
            )
    return best, "on validation nodes " + "; ".join(lines)


def standard_error(difference: np.ndarray) -> float:
    """Of the mean of numbers (V,) whose mean is 0: as if no depth were better.

    For classes it is the root of the number of nodes on which two depths differ, over V, as in
    McNemar's test (1947, Psychometrika): one node more can never exceed it.
    """
    return float(np.sqrt(np.square(difference).sum()) / len(difference))
