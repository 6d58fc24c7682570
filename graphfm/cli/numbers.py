"""A continuous target on the command line: scores, baselines, tables, files."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.cli.scores import NUM_RESAMPLES, Interval
from graphfm.cli.terminal import note, pairs, table
from graphfm.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from graphfm.graphs.graph import Graph
    from graphfm.training.intervals import Values

HEAD = ["method", "RMSE", "95% interval", "MAE", "R2"]


@dataclass(frozen=True, kw_only=True)
class NumberScores:
    """Scores of predicted numbers for some nodes, in the unit of the target but for R2.

    ``bootstrap`` has the 95% interval of each, over nodes. ``r2`` is None where all nodes have the
    same number.
    """

    rmse: float
    mae: float
    r2: float | None
    bootstrap: dict[str, Interval]
    num_nodes: int

    def to_json(self) -> dict[str, Any]:
        """As a receipt keeps it."""
        return {
            "rmse": self.rmse,
            "mae": self.mae,
            "r2": self.r2,
            "bootstrap": {name: list(interval) for name, interval in self.bootstrap.items()},
            "num_nodes": self.num_nodes,
        }


def number_scores(values: np.ndarray, y: Tensor, mask: Tensor) -> NumberScores:
    """Score predictions on the nodes under a mask whose number is known.

    Args:
        values: (N,).
        y: (N,) float64, NaN = not known.
        mask: Nodes to be judged on, (N,) bool.

    Raises:
        DataError: GFM131 if none of them has a number.
    """
    import numpy as np

    known = _judged(y, mask)
    truth, given = y.numpy()[known], values[known]
    # Sums over nodes are all that the scores need: a resample is a weight of each node. Numbers are
    # centred first, as the variance of years would lose its digits.
    centred = truth - truth.mean()
    error = given - truth
    terms = np.stack([error**2, np.abs(error), centred, centred**2], axis=1)  # (n, 4)
    rng = np.random.default_rng(0)
    draws = np.empty((NUM_RESAMPLES, 4))
    for i in range(NUM_RESAMPLES):  # one at a time: 1,000 x 1M weights would take 8 GB
        draws[i] = terms[rng.integers(len(truth), size=len(truth))].mean(axis=0)
    points, resampled = _scores(terms.mean(axis=0)[None]), _scores(draws)
    bootstrap = {}
    for name, found in resampled.items():
        finite = found[np.isfinite(found)]
        if len(finite):
            low, high = np.quantile(finite, [0.025, 0.975])
            bootstrap[name] = (float(low), float(high))
    r2 = float(points["r2"][0])
    return NumberScores(
        rmse=float(points["rmse"][0]),
        mae=float(points["mae"][0]),
        r2=r2 if np.isfinite(r2) else None,
        bootstrap=bootstrap,
        num_nodes=len(truth),
    )


def interval_scores(said: Values, y: Tensor, mask: Tensor, *, coverage: float) -> dict[str, Any]:
    """How intervals keep their promise, on the nodes under a mask whose number is known.

    Args:
        said: With ``low`` and ``high``, (N,) each.
        y: (N,) float64, NaN = not known.
        mask: Nodes to be judged on, (N,) bool.
        coverage: What was asked for.

    Returns:
        ``asked``; ``coverage``, the share of intervals that hold the number of their node, and its
        95% ``interval`` by Wilson; ``mean_width``, None where it is infinite.
    """
    import numpy as np

    from graphfm.training.metrics import wilson_interval

    known = _judged(y, mask)
    assert said.low is not None and said.high is not None
    low, high, truth = said.low[known], said.high[known], y.numpy()[known]
    right = float(((low <= truth) & (truth <= high)).mean())
    width = float((high - low).mean())
    return {
        "asked": coverage,
        "coverage": right,
        "interval": list(wilson_interval(right, len(truth))),
        "mean_width": width if np.isfinite(width) else None,
    }


def compare_numbers(values: np.ndarray, graph: Graph) -> dict[str, NumberScores]:
    """Scores on the test nodes: the fitted model's predictions for all nodes, then the baselines.

    Args:
        values: (N,).
        graph: With its split.
    """
    from graphfm.baselines.numbers import features_only, mean

    assert graph.y is not None and graph.train_mask is not None and graph.test_mask is not None
    found = {
        "graphfm": values,
        "mean": mean(graph, graph.train_mask),
        "features-only ridge regression": features_only(graph, graph.train_mask),
    }
    return {name: number_scores(v, graph.y, graph.test_mask) for name, v in found.items()}


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


def _judged(y: Tensor, mask: Tensor) -> np.ndarray:
    import numpy as np

    known: np.ndarray = mask.numpy() & np.isfinite(y.numpy())
    if not known.any():
        raise DataError("GFM131", "there is no node with a known number to score on")
    return known


def _scores(means: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of means of squared error, error, number and squared number: (B, 4) -> (B,) each."""
    import numpy as np

    variance = means[:, 3] - means[:, 2] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(variance > 0, 1 - means[:, 0] / variance, np.nan)
    return {"rmse": np.sqrt(means[:, 0]), "mae": means[:, 1], "r2": r2}


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
