"""Verdict of a comparison: does the model beat the best of the simple baselines?

Shapes:
    n  test nodes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from graphfm.benchmark.number_scores import NumberScores
from graphfm.benchmark.scores import Scores

Score = TypeVar("Score", Scores, NumberScores)

Z = 1.959964  # quantile of the normal distribution for 95%
GUESSES = ("majority", "mean")  # baselines that read neither features nor edges
ADVICE = (
    "try more labels, other columns, or another metric (balanced accuracy and macro F1 count rare "
    "classes as much as frequent ones)"
)


class Comparison(dict[str, Score]):
    """Test scores by method, the model first, with a :attr:`verdict`."""

    @property
    def verdict(self) -> dict[str, Any] | None:
        """The model against the best other method, paired over test nodes; None without another.

        The best other method is chosen on the same test nodes, which favors it slightly.

        Returns:
            ``result``: ``beats``, ``ties`` or ``loses``; ``against``, the best other method;
            ``metric``; ``difference`` and its 95% ``interval``, positive if the model is better;
            ``better_than_guessing``, true if the model beats the most frequent class or the mean;
            ``next``, an advice if it does not; ``text``, all of this as one or two sentences.
        """
        own, *others = self
        if not others:
            return None
        best = max(others, key=lambda name: _main(self[name])[1])
        difference, low, high = paired_difference(self[own], self[best])
        guess = next(name for name in others if name in GUESSES)
        above_guess = paired_difference(self[own], self[guess])[1] > 0
        found = {
            "result": "beats" if low > 0 else "loses" if high < 0 else "ties",
            "against": best,
            "metric": _main(self[own])[0],
            "difference": difference,
            "interval": [low, high],
            "better_than_guessing": above_guess,
            "next": None if above_guess else ADVICE,
        }
        return {**found, "text": _text(found)}

    def __repr__(self) -> str:
        mains = {name: _main(score) for name, score in self.items()}
        lines = [f"{name}: {metric} {abs(main):.4g}" for name, (metric, main) in mains.items()]
        return "\n".join(lines + (self.verdict or {"text": []})["text"])


def paired_difference(
    first: Scores | NumberScores, second: Scores | NumberScores
) -> tuple[float, float, float]:
    """Return by how much the first is better, and the ends of the 95% confidence interval.

    The interval is normal, from the paired influence of each test node on the two main scores. For
    classes, half a node is added to each outcome of a pair (Agresti and Min 2005, Statistics in
    Medicine 24), which keeps the interval honest for few nodes. It needs no random numbers.

    Args:
        first: Scores of one method.
        second: Scores of another on the same test nodes.
    """
    gains = first.influence - second.influence  # (n,)
    if isinstance(first, Scores):
        gains = np.append(gains, [-(0.5**0.5), 0.5**0.5])  # one win and one loss of 1 in square
    middle, spread = float(gains.mean()), Z * float(gains.std()) / len(gains) ** 0.5
    return _main(first)[1] - _main(second)[1], middle - spread, middle + spread


def _main(scores: Scores | NumberScores) -> tuple[str, float]:
    """Return the name and the value of the main score; more is better."""
    if isinstance(scores, Scores):
        return scores.metric, scores.main
    return "rmse", -scores.rmse


def _text(found: Mapping[str, Any]) -> list[str]:
    """Return a verdict as a sentence, and a second one if the model is like guessing."""
    low, high = found["interval"]
    if found["metric"] == "rmse":
        size = f"RMSE lower by {found['difference']:.4g} (95% interval {low:.4g} to {high:.4g})"
    else:
        size = (
            f"{100 * found['difference']:+.1f} points of {found['metric'].replace('_', ' ')} "
            f"(95% interval {100 * low:+.1f} to {100 * high:+.1f})"
        )
    word = {"ties": "ties with", "loses": "loses to"}.get(found["result"], found["result"])
    lines = [f"graphfm {word} {found['against']}, the best simple baseline: {size}"]
    if found["next"]:
        lines.append(f"It is not shown to be better than guessing: {found['next']}")
    return lines
