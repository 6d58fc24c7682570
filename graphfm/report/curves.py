"""Learning curves of a pretraining run as a picture: the mean, and one panel per graph.

Shapes:
    S  evaluations or logged steps of one graph
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graphfm.errors import DataError
from graphfm.storage import whole_file
from graphfm.training.metrics_log import read_metrics

MAX_PANELS = 60  # graphs with the highest final loss, where problems show first
COLUMNS = 6
Points = tuple[list[int], list[float]]


def draw_curves(run: Path, out: Path) -> None:
    """Draw loss / log C over steps from ``metrics.jsonl``.

    Training losses are means of a few batches and drawn faint. A loss of 1 means that all classes
    get the same probability.

    Args:
        run: Run folder.
        out: Picture to write; the suffix gives the format (.png, .svg).

    Raises:
        DataError: GFM125 if the run has not logged any step yet.
    """
    records = read_metrics(run)
    train, val = curves(records, "train"), curves(records, "eval")
    if not train and not val:
        raise DataError("GFM125", "the run has not logged a training step yet", where=str(run))
    ends = {name: (val.get(name) or train[name])[1][-1] for name in {**train, **val}}
    panels = sorted(ends, key=lambda name: -ends[name])[:MAX_PANELS]

    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a display
    from matplotlib.figure import Figure

    num_rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(14, 3.6 + 1.5 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(num_rows + 2, COLUMNS)
    whole = figure.add_subplot(grid[:2, :])
    _line(whole, _means(records, "train"), "tab:gray", "training batches", alpha=0.6)
    _line(whole, _means(records, "eval"), "tab:blue", "validation, mean over graphs", marker="o")
    whole.axhline(1, color="black", linewidth=0.6, linestyle=":")
    whole.set(xlabel="step", ylabel="loss / log C", title=f"{len(ends)} graphs")
    whole.legend(frameon=False)
    top = max(1.1, *(max(points[1]) for points in val.values())) if val else None
    for i, name in enumerate(panels):
        panel = figure.add_subplot(grid[2 + i // COLUMNS, i % COLUMNS])
        _line(panel, train.get(name, ([], [])), "tab:gray", "", alpha=0.6)
        _line(panel, val.get(name, ([], [])), "tab:blue", "", marker=".")
        panel.axhline(1, color="black", linewidth=0.6, linestyle=":")
        panel.set_title(f"{name}  {ends[name]:.2f}", fontsize=7)
        panel.tick_params(labelsize=6)
        if top is not None:
            panel.set_ylim(0, top)  # the same scale in all panels
    if len(panels) < len(ends):
        figure.suptitle(f"panels: the {len(panels)} graphs with the highest final loss", fontsize=8)
    with whole_file(out) as path:
        figure.savefig(path, dpi=110)


def curves(records: Sequence[dict[str, Any]], kind: str) -> dict[str, Points]:
    """Collect steps and losses of each graph, (S,) each, from log records of one kind.

    >>> curves([{"kind": "train", "step": 5, "graphs": {"a": 0.5}}], "train")
    {'a': ([5], [0.5])}
    """
    found: dict[str, Points] = {}
    for record in records:
        if record["kind"] == kind:
            for name, value in record.get("graphs", {}).items():
                steps, losses = found.setdefault(name, ([], []))
                steps.append(record["step"])
                losses.append(value["loss"] if isinstance(value, dict) else value)
    return found


def _means(records: Sequence[dict[str, Any]], kind: str) -> Points:
    of_kind = [r for r in records if r["kind"] == kind]
    return [r["step"] for r in of_kind], [r["loss"] for r in of_kind]


def _line(axes: Any, points: Points, color: str, label: str, **style: Any) -> None:
    axes.plot(*points, color=color, label=label, linewidth=1, markersize=3, **style)
