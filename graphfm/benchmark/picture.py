"""Critical-difference diagram: average ranks on a line, bars over differences by chance.

Source: Demsar 2006, "Statistical comparisons of classifiers over multiple data sets".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.benchmark.statistics import indistinct_groups

OURS, PEER = "#c0392b", "#2c3e50"


def draw_ranks(found: Mapping[str, Any], own: set[str], path: Path, *, title: str) -> None:
    """Draw the average ranks of one split.

    Args:
        found: One split of a summary, with ``models`` and ``critical_difference``.
        own: Names of graphfm's models, to draw in another colour.
        path: Picture to write.
        title: Title of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a display
    from matplotlib.figure import Figure

    names = sorted(found["models"], key=lambda name: found["models"][name]["rank"])
    average = np.array([found["models"][name]["rank"] for name in names])
    difference = found["critical_difference"]
    groups = indistinct_groups(average, difference)
    num, left = len(names), (len(names) + 1) // 2
    top = 0.55 * len(groups) * 0.5 + 0.6  # height of the bars, which lie between line and names
    height = 1.9 + 0.32 * (left + top / 0.5)
    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    margin = 0.35 * (num - 1) + 0.3
    axes.set(xlim=(1 - margin, num + margin), ylim=(-(top + 0.5 * left + 0.2), 1.6))
    axes.set_axis_off()
    axes.set_title(title)
    axes.plot([1, num], [0, 0], color="black", linewidth=1)
    for tick in range(1, num + 1, 1 if num <= 20 else 2):
        axes.plot([tick, tick], [0, 0.12], color="black", linewidth=1)
        axes.text(tick, 0.18, str(tick), ha="center", va="bottom", fontsize=8)
    axes.plot([1, 1 + difference], [0.95, 0.95], color="black", linewidth=2)
    axes.text(
        1 + difference / 2, 1.02, f"critical difference {difference:.2f}", ha="center", fontsize=8
    )
    for i, (first, last) in enumerate(groups):
        y = -0.2 - 0.27 * i
        axes.plot(
            [average[first] - 0.03, average[last] + 0.03], [y, y], color="black", linewidth=3.5
        )
    for i, name in enumerate(names):
        better = i < left
        row = i if better else num - 1 - i
        y = -(top + 0.5 * row)
        end = 1 - 0.15 if better else num + 0.15
        color = OURS if name in own else PEER
        axes.plot([average[i], average[i], end], [0, y, y], color=color, linewidth=0.9)
        text = f"{name}  {average[i]:.2f}" if better else f"{average[i]:.2f}  {name}"
        axes.text(
            end - 0.05 if better else end + 0.05,
            y,
            text,
            ha="right" if better else "left",
            va="center",
            fontsize=9,
            color=color,
        )
    figure.savefig(path, dpi=130)
