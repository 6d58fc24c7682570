"""A continuous target on the command line: scores, baselines, tables, files."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.benchmark.number_scores import NumberScores
from graphfm.cli.terminal import note, pairs, table

if TYPE_CHECKING:
    from graphfm.fitting.intervals import Values
    from graphfm.graphs.graph import Graph

HEAD = ["method", "RMSE", "95% interval", "MAE", "R2"]


def number_table(results: Mapping[str, NumberScores]) -> str:
    """One line a method."""
    first = next(iter(results.values()))
    rows = [
        [name, f"{s.rmse:.4g}", _range(s, "rmse"), f"{s.mae:.4g}", _r2(s.r2)]
        for name, s in results.items()
    ]
    return f"{first.num_nodes:,} test nodes\n{table(rows, head=HEAD)}"


def number_lines(own: NumberScores, floor: NumberScores | None, kept: Mapping[str, Any]) -> str:
    """What ``evaluate`` says.

    Args:
        own: Of the model.
        floor: Of the mean of the training nodes; None where it is not known.
        kept: What :func:`interval_scores` gave.
    """
    beside = {name: "" for name in ("rmse", "mae", "r2")}
    if floor is not None:
        beside = {
            "rmse": f", the mean alone {floor.rmse:.4g}",
            "mae": f", the mean alone {floor.mae:.4g}",
            "r2": f", the mean alone {_r2(floor.r2)}",
        }
    lines = {
        "RMSE": f"{own.rmse:.4g}  (95% interval {_range(own, 'rmse')}{beside['rmse']})",
        "MAE": f"{own.mae:.4g}  (95% interval {_range(own, 'mae')}{beside['mae']})",
        "R2": f"{_r2(own.r2)}  (95% interval {_range(own, 'r2')}{beside['r2']})",
    }
    return pairs({**lines, f"intervals at {kept['asked']:.0%}": _kept(kept)})


def promise(kept: Mapping[str, Any]) -> str:
    """One line: how intervals keep their promise."""
    return pairs({"intervals": f"{_kept(kept)}, {kept['asked']:.0%} was asked for"}, indent="")


def write_numbers(out: Path, graph: Graph, said: Values) -> None:
    """Write ``id,prediction,low,high,novelty``; a field that is not known is empty.

    Args:
        out: The CSV, or Parquet if its name ends so.
        graph: Gives the ids.
        said: Of every node, with intervals.
    """
    import numpy as np

    from graphfm.cli.output import table_file

    assert said.low is not None and said.high is not None
    with table_file(out, text=("id",)) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "prediction", "low", "high", "novelty"])
        columns = (said.values, said.low, said.high)
        for i, name in enumerate(graph.ids()):
            numbers = [f"{c[i]:.9g}" if np.isfinite(c[i]) else "" for c in columns]
            novelty = "" if np.isnan(said.novelty[i]) else f"{said.novelty[i]:.4f}"
            writer.writerow([name, *numbers, novelty])


def say_of_intervals(said: Values, coverage: float, *, same_graph: bool, fitted_on: str) -> float:
    """Notes of ``predict``: how wide intervals are, and where they promise nothing; the width."""
    import numpy as np

    assert said.low is not None and said.high is not None
    width = float((said.high - said.low).mean())
    if np.isfinite(width):
        note(f"intervals at {coverage:.0%}: {width:.4g} wide")
    else:
        note("intervals are not known: low and high are empty")
    if not same_graph:
        note(f"they were calibrated on {fitted_on}: {coverage:.0%} is no promise here")
    return width


def _range(scores: NumberScores, name: str) -> str:
    if name not in scores.bootstrap:
        return "?"
    low, high = scores.bootstrap[name]
    digits = ".3f" if name == "r2" else ".4g"
    return f"{low:{digits}} to {high:{digits}}"


def _r2(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _kept(kept: Mapping[str, Any]) -> str:
    width = "infinitely" if kept["mean_width"] is None else f"{kept['mean_width']:.4g}"
    return f"{kept['coverage']:.1%} hold the truth, {width} wide on average"
