"""Whether probabilities and prediction sets keep their promise, on graphs with known labels.

For each graph and seed (of the split and of the trunk's random weights) it fits a model and judges
it on the test nodes: calibration error before and after temperature scaling, coverage and size of
prediction sets by four scores. `smoothed` is what graphfm does; `plain` is the same without
neighbors; `aps` and `daps` are the adaptive scores of Romano et al. 2020 and the same diffused over
neighbors, as Zargarbashi et al. 2023 do it. All four calibrate on the same nodes.

    python tools/bench_calibration.py --out docs/results/calibration.json
    python tools/bench_calibration.py --out docs/results/calibration.json --report-only

Each fit is a line of OUT.jsonl beside OUT.json; a second call measures only what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from graphfm.graphs.graph import Graph

METHODS = ("plain", "smoothed", "aps", "daps")
FORMAT = 2  # of a line; another number measures all again
SPLIT = (0.6, 0.2, 0.2)
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, then report; exit code 1 if there is nothing to report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--graphs", nargs="+", default=[], help="ids; default: role=evaluation")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 .. SEEDS-1")
    parser.add_argument("--tune", default="probe", choices=["probe", "adapter", "decoder", "full"])
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--out", type=Path, required=True, help="OUT.json; rows go to OUT.jsonl")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--report-only", action="store_true", help="measure nothing")
    args = parser.parse_args(argv)
    if args.out.suffix != ".json":
        parser.error(f"--out must end in .json, got {args.out.name}")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(args.threads)  # before numpy and torch are imported
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines, key = args.out.with_suffix(".jsonl"), key_of(args)
    if not args.report_only:
        measure(args, lines, key)
    rows = [row for row in read_rows(lines) if row["key"] == key]
    if args.graphs:
        rows = [row for row in rows if row["graph"] in args.graphs]
    if not rows:
        print(f"{lines} holds no results of these settings", file=sys.stderr)
        return 1
    summary = summarise(rows)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    text = json.dumps({"settings": settings, "summary": summary, "rows": rows}, indent=1)
    part = args.out.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, args.out)
    print(markdown(summary))
    return 0


def measure(args: argparse.Namespace, lines: Path, key: str) -> None:
    """Fit what has no line yet."""
    from tqdm import tqdm

    from graphfm.benchmark.suite import read_suite

    suite = read_suite("evaluation-15")
    known = {(r["graph"], r["seed"]) for r in read_rows(lines) if r["key"] == key}
    graphs = args.graphs or list(suite.groups)
    units = [(g, s) for s in range(args.seeds) for g in graphs if (g, s) not in known]
    for graph, seed in tqdm(units, unit="fit", file=sys.stderr, disable=not units):
        row = run_one(suite.load(graph), seed, tune=args.tune, coverage=args.coverage)
        append(lines, {**row, "key": key})


def run_one(whole: Graph, seed: int, *, tune: str, coverage: float) -> Row:
    """Fit one split of one graph and judge it on its test nodes."""
    import numpy as np
    import torch

    from graphfm.config import ModelConfig
    from graphfm.estimator import GraphFMClassifier
    from graphfm.graphs.splits import with_split
    from graphfm.model import GraphFM
    from graphfm.training.calibration import fit_temperature, split_validation
    from graphfm.training.metrics import accuracy, brier, calibration_error, top_confidence

    graph = with_split(whole, SPLIT, seed=seed)
    assert graph.y is not None and graph.test_mask is not None and graph.val_mask is not None
    test = graph.test_mask & graph.labelled
    y = graph.y[test].numpy()
    # The fit never holds a test label, whatever it does inside.
    hidden = graph.replace(y=graph.y.masked_fill(graph.test_mask, -1))
    trunk = GraphFM(ModelConfig(), seed=seed)
    model = GraphFMClassifier(trunk, tune=tune, seed=seed).fit(hidden)
    answers = model.answer(coverage=coverage)
    assert answers.sets is not None and answers.filled is not None
    before, after = answers.uncalibrated[test.numpy()], answers.proba[test.numpy()]

    val = (graph.val_mask & graph.labelled).nonzero().flatten()
    names = graph.ids()
    fit, held = (val[p] for p in split_validation([names[i] for i in val.tolist()], seed=seed))
    logits = torch.from_numpy(answers.uncalibrated).double().clamp(min=1e-30).log()
    head = model.model_.head("target")
    sets = {
        name: other_sets(name, graph, answers.proba, fit, held, coverage, seed)
        for name in METHODS
        if name != "smoothed"
    }
    sets["smoothed"] = (answers.sets, answers.filled)
    row: Row = {
        "graph": whole.name,
        "seed": seed,
        "num_nodes": whole.num_nodes,
        "num_classes": whole.num_classes,
        "num_test": len(y),
        "num_fit": model.calibration_.num_nodes,
        "num_calibration": len(model.calibration_.scores),
        "accuracy": accuracy(y, after),
        "temperature": model.temperature_,
        "temperature_held": fit_temperature(logits[held], graph.y[held], head),
        "smoothing": model.calibration_.smoothing,
        "ece_before": calibration_error(*top_confidence(y, before)),
        "ece_after": calibration_error(*top_confidence(y, after)),
        "ece_floor": error_of_honest(after, seed),
        "brier_before": brier(y, before),
        "brier_after": brier(y, after),
        "novel_95": float((answers.novelty[test.numpy()] > 0.95).mean()),
        "fit_s": model.fit_seconds_,
    }
    for name, (chosen, filled) in sets.items():
        mine = chosen[test.numpy()]
        right = mine[np.arange(len(y)), y]
        row[name] = {
            "coverage": float(right.mean()),
            "coverage_unfilled": float((right & ~filled[test.numpy()]).mean()),
            "size": float(mine.sum(axis=1).mean()),
            "one_class": float((mine.sum(axis=1) == 1).mean()),
        }
    return row


def other_sets(
    method: str,
    graph: Graph,
    proba: Any,
    fit: torch.Tensor,
    held: torch.Tensor,
    coverage: float,
    seed: int,
) -> tuple[Any, Any]:
    """Sets of all nodes by another score, and which of them were empty: (N, C), (N,) bool."""
    import numpy as np
    import torch

    from graphfm.graphs.neighbor_mean import neighbor_mean
    from graphfm.training.conformal import (
        SMOOTHINGS,
        class_scores,
        sets_of,
        threshold,
        true_scores,
    )

    assert graph.y is not None
    scores = class_scores(torch.from_numpy(proba))
    if method in ("aps", "daps"):
        u = torch.from_numpy(np.random.default_rng(seed).random((len(proba), 1)))
        scores = adaptive_scores(torch.from_numpy(proba).double(), u)
    if method == "daps":
        rowptr, col = graph.neighbors
        mean = neighbor_mean(rowptr, col, scores.float()).double()
        alone = rowptr.diff() == 0
        mean[alone] = scores[alone]

        def size(share: float) -> float:
            mixed = ((1 - share) * scores + share * mean)[fit]
            bound = threshold(true_scores(mixed, graph.y[fit]), coverage)
            return float(sets_of(mixed, bound, fill=True).sum(dim=1).double().mean())

        share = min(SMOOTHINGS, key=size)
        scores = (1 - share) * scores + share * mean
    bound = threshold(true_scores(scores[held], graph.y[held]), coverage)
    chosen = sets_of(scores, bound, fill=True).numpy()
    return chosen, (chosen & ~sets_of(scores, bound, fill=False).numpy()).any(axis=1)


def error_of_honest(proba: Any, seed: int) -> float:
    """Calibration error by chance alone: labels drawn as the probabilities say, 50 times."""
    import numpy as np

    from graphfm.training.metrics import calibration_error

    rng, top = np.random.default_rng(seed), proba.max(axis=1)
    return float(np.mean([calibration_error(top, rng.random(len(top)) < top) for _ in range(50)]))


def adaptive_scores(proba: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Probability above each class, and a random share of its own (Romano et al. 2020): (N, C)."""
    import torch

    ordered, order = proba.sort(dim=1, descending=True)
    return torch.zeros_like(proba).scatter(1, order, ordered.cumsum(dim=1) - u * ordered)


def summarise(rows: list[Row]) -> dict[str, Any]:
    """Means over seeds by graph, and over graphs with a 95% bootstrap interval over graphs."""
    import numpy as np
    from scipy.stats import bootstrap

    graphs: dict[str, dict[str, float]] = {}
    for name in sorted({row["graph"] for row in rows}):
        flat = [flatten(row) for row in rows if row["graph"] == name]
        graphs[name] = {k: float(np.mean([f[k] for f in flat])) for k in flat[0]}
        graphs[name]["num_seeds"] = len(flat)
    means = {}
    for k in next(iter(graphs.values())):
        values = np.array([g[k] for g in graphs.values()])
        means[k] = {"mean": float(values.mean())}
        if len(values) > 1 and np.ptp(values) > 0:
            interval = bootstrap(
                (values,), np.mean, method="percentile", rng=np.random.default_rng(0)
            ).confidence_interval
            means[k] |= {"low": float(interval.low), "high": float(interval.high)}
    return {"graphs": graphs, "mean": means}


def flatten(row: Row) -> dict[str, float]:
    """The numbers of a row, ``smoothed.size`` for those of a method; and what is told of them."""
    import numpy as np

    flat = {k: float(v) for k, v in row.items() if isinstance(v, int | float) and k != "seed"}
    for method in METHODS:
        flat |= {f"{method}.{k}": v for k, v in row[method].items()}
    flat["log_t_minus_held"] = float(np.log(row["temperature"] / row["temperature_held"]))
    flat["size_saved"] = row["plain"]["size"] - row["smoothed"]["size"]
    return flat


COLUMNS = {
    "accuracy": "accuracy",
    "temperature": "T",
    "ece_before": "ECE before",
    "ece_after": "after",
    "ece_floor": "of honest ones",
    "plain.coverage": "plain: coverage",
    "plain.size": "size",
    "smoothed.coverage": "smoothed: coverage",
    "smoothed.coverage_unfilled": "unfilled",
    "smoothed.size": "size",
    "aps.size": "APS: size",
    "daps.size": "DAPS: size",
}


def markdown(summary: dict[str, Any]) -> str:
    """A line a graph, then the mean with its interval."""
    out = [
        "| graph | calibrated on | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name, g in summary["graphs"].items():
        cells = [f"{g[k]:.3f}" for k in COLUMNS]
        out.append(f"| {name} | {g['num_calibration']:,.0f} | " + " | ".join(cells) + " |")
    means = summary["mean"]
    cells = [f"**{means[k]['mean']:.3f}**{_interval(means[k])}" for k in COLUMNS]
    out.append("| **mean** | | " + " | ".join(cells) + " |")
    for k in ("log_t_minus_held", "size_saved", "novel_95", "brier_before", "brier_after"):
        out.append(f"\n{k}: {means[k]['mean']:.4f}{_interval(means[k])}")
    return "\n".join(out)


def _interval(mean: dict[str, float]) -> str:
    return f" ({mean['low']:.3f} to {mean['high']:.3f})" if "low" in mean else ""


def read_rows(lines: Path) -> list[Row]:
    """Whole lines of the file; one that an interrupted run left half-written is passed over."""
    rows = []
    if lines.exists():
        for number, line in enumerate(lines.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                print(f"{lines}, line {number}: cut off, measured again", file=sys.stderr)
    return rows


def append(lines: Path, row: Row) -> None:
    """Add a line; one that an interrupted run left half-written is ended first."""
    with lines.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(row).encode() + b"\n")


def key_of(args: argparse.Namespace) -> str:
    """A short hash of all that a line depends on beside the code."""
    depends = [FORMAT, args.tune, args.coverage, SPLIT]
    return hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:12]


if __name__ == "__main__":
    from graphfm.errors import GraphFMError

    try:
        sys.exit(main())
    except GraphFMError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
