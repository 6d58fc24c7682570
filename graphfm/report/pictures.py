"""Pictures of the report, each with a text for readers who cannot see it.

Shapes:
    Q  nodes on the map   C  classes
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphfm.report.evidence import Bin
from graphfm.report.svg import NUM_COLORS, Plot, legend

History = Sequence[Mapping[str, float]]


def loss_curves(history: History, best_step: int) -> str:
    """Draw training and validation loss over steps; empty for a fit without gradient steps."""
    train = [(r["step"], r["loss"]) for r in history if "loss" in r]
    val = [(r["step"], r["val_loss"]) for r in history if "val_loss" in r]
    if not train:
        return ""
    losses = [v for _, v in train + val if math.isfinite(v)] or [1.0]
    about = f"training loss from {train[0][1]:.3f} to {train[-1][1]:.3f}"
    if val:
        about += f", validation loss from {val[0][1]:.3f} to {val[-1][1]:.3f}"
    plot = Plot(
        "Loss of each gradient step",
        about=about,
        x=(0, max(s for s, _ in train + val)),
        y=(0, max(losses) * 1.05),
        x_label="gradient step",
        y_label="loss / log(number of classes)",
    )
    plot.vertical_line(best_step, "best", "mark")
    plot.line(*_columns(train), "c8")
    plot.line(*_columns(val), "c0")
    plot.dots(*_columns(val), "c0 big")
    names = [("c8", "training batches")] + ([("c0", "validation nodes")] if val else [])
    return plot.svg() + legend(names)


def accuracy_curve(history: History, best_step: int) -> str:
    """Draw validation accuracy over steps; empty if it was measured less than twice."""
    val = [(r["step"], r["accuracy"]) for r in history if "accuracy" in r]
    if len(val) < 2:
        return ""
    scores = [v for _, v in val]
    low, high = min(scores), max(scores)
    room = max(0.02, (high - low) * 0.4)
    plot = Plot(
        "Validation accuracy",
        about=f"{val[0][1]:.3f} before any training, {high:.3f} at the best step",
        x=(0, val[-1][0]),
        y=(max(0, low - room), min(1, high + room)),
        x_label="gradient step",
        y_label="accuracy",
    )
    plot.vertical_line(best_step, "best", "mark")
    plot.line(*_columns(val), "c0")
    plot.dots(*_columns(val), "c0 big")
    return plot.svg() + legend([("c0", "validation nodes")])


def reliability_diagram(after: Sequence[Bin], before: Sequence[Bin], error: float) -> str:
    """Draw the share of correct predictions against confidence.

    Args:
        after: Bins of calibrated predictions.
        before: Bins of uncalibrated predictions; empty if calibration changed nothing.
        error: Expected calibration error of the calibrated predictions.
    """
    low = min([b.confidence for b in (*after, *before)], default=0.0)
    start = max(0.0, np.floor(min(low, *(b.interval[0] for b in after)) * 10) / 10)
    plot = Plot(
        "Reliability diagram",
        about=f"expected calibration error {error:.3f}; "
        + "; ".join(
            f"confidence {b.confidence:.2f}: {b.share:.2f} of {b.num} correct" for b in after
        ),
        x=(start, 1),
        y=(start, 1),
        x_label="confidence",
        y_label="share that is correct",
    )
    plot.line((start, 1), (start, 1), "ideal")
    if before:
        shares = [max(b.share, start) for b in before]
        plot.line([b.confidence for b in before], shares, "c8")
    for b in after:
        plot.line((b.confidence, b.confidence), b.interval, "whisker c0")
    plot.line([b.confidence for b in after], [b.share for b in after], "c0")
    plot.dots([b.confidence for b in after], [b.share for b in after], "c0 big")
    sizes = sorted({b.num for b in after})
    names = [("c0", f"bins of {' or '.join(map(str, sizes))} predictions, with 95% interval")]
    names += [("c8", "before temperature scaling")] if before else []
    return plot.svg() + legend([*names, ("ideal", "perfect calibration")])


def node_map(
    title: str,
    points: np.ndarray,
    labels: np.ndarray,
    wrong: np.ndarray,
    classes: Sequence[str],
    how: str,
) -> str:
    """Draw nodes in two dimensions, coloured by class.

    Args:
        title: Name of the values that were projected.
        points: Coordinates, (Q, 2).
        labels: Class of each node, (Q,); -1 = unlabelled.
        wrong: Nodes with a wrong prediction, (Q,) bool.
        classes: Names of the classes, (C,). The most frequent ones have a colour each.
        how: Phrase that names the method of projection.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    pad = (high - low) * 0.03
    plot = Plot(
        f"Map of nodes: {title}",
        about=f"{len(points):,} nodes by {how}; {int(wrong.sum()):,} wrong predictions are crosses",
        x=(low[0] - pad[0], high[0] + pad[0]),
        y=(low[1] - pad[1], high[1] + pad[1]),
        x_label="first direction",
        y_label="second direction",
        height=400,
    )
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    shown = [c for c in np.argsort(-counts, kind="stable").tolist() if counts[c]][:NUM_COLORS]
    shown.sort()
    rest = ~np.isin(labels, shown)
    size = " small" if len(points) > 800 else ""
    plot.dots(*_axes(points[rest]), f"c8{size}")
    entries = []
    for i, c in enumerate(shown):
        plot.dots(*_axes(points[labels == c]), f"c{i}{size}")
        entries.append((f"c{i}", classes[c]))
    plot.crosses(*_axes(points[wrong]), "wrong")
    if rest.any():
        others = len(np.unique(labels[rest & (labels >= 0)]))
        named = [f"{others} other classes"] if others else []
        named += ["no label"] if (labels < 0).any() else []
        entries.append(("c8", ", ".join(named)))
    if wrong.any():
        entries.append(("wrong", "wrong prediction"))
    return plot.svg(ticks=False) + legend(entries)


def _columns(points: Sequence[tuple[Any, Any]]) -> tuple[list[float], list[float]]:
    return [p[0] for p in points], [p[1] for p in points]


def _axes(points: np.ndarray) -> tuple[list[float], list[float]]:
    return points[:, 0].tolist(), points[:, 1].tolist()
