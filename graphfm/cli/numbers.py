"""Text of the commands for a continuous target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphfm.cli.terminal import note, pairs, table

if TYPE_CHECKING:
    from graphfm.benchmark.number_scores import NumberScores
    from graphfm.fitting.intervals import Values

HEAD = ["method", "RMSE", "95% interval", "MAE", "R2"]


def number_table(results: Mapping[str, NumberScores]) -> str:
    """Return a table with one line per method."""
    first = next(iter(results.values()))
    rows = [
        [name, f"{s.rmse:.4g}", _range(s, "rmse"), f"{s.mae:.4g}", _r2(s.r2)]
        for name, s in results.items()
    ]
    return f"{first.num_nodes:,} test nodes\n{table(rows, head=HEAD)}"


def number_lines(own: NumberScores, floor: NumberScores | None, kept: Mapping[str, Any]) -> str:
    """Return the scores that ``graphfm evaluate`` prints.

    Args:
        own: Scores of the model.
        floor: Scores of predicting the mean of the training nodes; None if unknown.
        kept: Result of :func:`graphfm.benchmark.number_scores.interval_scores`.
    """
    beside = {name: "" for name in ("rmse", "mae", "r2")}
    if floor is not None:
        beside = {
            "rmse": f"; predicting the mean: {floor.rmse:.4g}",
            "mae": f"; predicting the mean: {floor.mae:.4g}",
            "r2": f"; predicting the mean: {_r2(floor.r2)}",
        }
    lines = {
        "RMSE": f"{own.rmse:.4g}  (95% interval {_range(own, 'rmse')}{beside['rmse']})",
        "MAE": f"{own.mae:.4g}  (95% interval {_range(own, 'mae')}{beside['mae']})",
        "R2": f"{_r2(own.r2)}  (95% interval {_range(own, 'r2')}{beside['r2']})",
    }
    return pairs({**lines, f"intervals at {kept['asked']:.0%}": _kept(kept)})


def interval_line(kept: Mapping[str, Any]) -> str:
    """Return one line on the coverage and width of the intervals."""
    return pairs({"intervals": f"{_kept(kept)} (requested: {kept['asked']:.0%})"}, indent="")


def note_intervals(values: Values, coverage: float, *, same_graph: bool, fitted_on: str) -> float:
    """Print the mean width of the intervals, and a warning for another graph; return the width."""
    import numpy as np

    assert values.low is not None and values.high is not None
    width = float((values.high - values.low).mean())
    if np.isfinite(width):
        note(f"intervals at {coverage:.0%}: mean width {width:.4g}")
    else:
        note("too few validation nodes for intervals: low and high are empty")
    if not same_graph:
        note(not_calibrated_here(coverage, fitted_on))
    return width


def not_calibrated_here(coverage: float, fitted_on: str) -> str:
    """Return the warning for a graph other than the one of the fit."""
    return (
        f"the coverage was calibrated on {fitted_on}: on another graph, {coverage:.0%} is not "
        "guaranteed"
    )


def _range(scores: NumberScores, name: str) -> str:
    if name not in scores.bootstrap:
        return "?"
    low, high = scores.bootstrap[name]
    digits = ".3f" if name == "r2" else ".4g"
    return f"{low:{digits}} to {high:{digits}}"


def _r2(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _kept(kept: Mapping[str, Any]) -> str:
    width = "infinite" if kept["mean_width"] is None else f"{kept['mean_width']:.4g}"
    return f"{kept['coverage']:.1%} contain the true value, mean width {width}"
