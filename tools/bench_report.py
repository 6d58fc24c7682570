"""The tables of ``bench_pretraining.py``: means with intervals, ranks, pairs, costs."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

PAIRS = (
    ("states-pretrained", "states-random"),
    ("probe-pretrained", "probe-random"),
    ("decoder-pretrained", "decoder-random"),
    ("decoder-pretrained", "probe-random"),
    ("probe-pretrained", "ridge"),
    ("decoder-pretrained", "ridge"),
    ("decoder-pretrained", "gcn"),
)
Row = dict[str, Any]
Table = dict[str, dict[str, dict[int, Row]]]  # graph -> model -> seed -> row


def read_rows(lines: Path) -> list[Row]:
    """All whole lines, oldest first."""
    rows = []
    if lines.exists():
        for number, line in enumerate(lines.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                print(f"{lines}, line {number}: cut off, measured again", file=sys.stderr)
    return rows


def newest_key_only(rows: list[Row]) -> list[Row]:
    """Rows of the key each model was last measured under."""
    newest = {row["model"]: row["key"] for row in rows}
    return [row for row in rows if row["key"] == newest[row["model"]]]


def as_table(rows: list[Row], models: list[str], graphs: list[str]) -> Table:
    """Rows by graph, model and seed; failed fits left out."""
    table: Table = {}
    for row in rows:
        if row["accuracy"] is not None and row["model"] in models:
            if not graphs or row["graph"] in graphs:
                seeds = table.setdefault(row["graph"], {}).setdefault(row["model"], {})
                seeds[row["seed"]] = row
    return table


def summarise(table: Table, models: list[str]) -> dict[str, Any]:
    """Means, ranks, pairs and costs."""
    from scipy.stats import rankdata

    graphs: dict[str, Any] = {}
    for graph, by_model in table.items():
        any_row = next(iter(next(iter(by_model.values())).values()))
        cells = {m: mean_and_half([r["accuracy"] for r in s.values()]) for m, s in by_model.items()}
        graphs[graph] = {"num_nodes": any_row["num_nodes"], "accuracy": cells}
    # A rank among fewer models is no rank: only graphs that every model was fitted to count.
    whole = [g for g, by_model in table.items() if set(by_model) == set(models)]
    ranks = {m: 0.0 for m in models} if whole else {}
    for graph in whole:
        means = [-round(graphs[graph]["accuracy"][m]["mean"], 9) for m in models]
        for model, rank in zip(models, rankdata(means), strict=True):
            ranks[model] += float(rank) / len(whole)
    seconds = {}
    for model in models:
        fits = [r["fit_s"] for by in table.values() for r in by.get(model, {}).values()]
        seconds[model] = {"total": math.fsum(fits), "fits": len(fits)}
    pairs = [compare(table, a, b) for a, b in PAIRS if a in models and b in models]
    return {
        "graphs": graphs,
        "ranks": ranks,
        "num_ranked": len(whole),
        "pairs": [p for p in pairs if p["num_graphs"]],
        "fit_s": seconds,
    }


def mean_and_half(values: list[float]) -> dict[str, Any]:
    """Mean and half the width of its 95% t-interval over seeds (none for one seed)."""
    from scipy.stats import t

    n = len(values)
    mean = math.fsum(values) / n
    half = None
    if n > 1:
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
        half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    return {"mean": mean, "half": half, "seeds": n}


def compare(table: Table, a: str, b: str) -> dict[str, Any]:
    """Graphs that a wins over b, with an exact sign test, and the mean difference over graphs.

    A graph's difference is the mean over the seeds that both have; the interval of their mean is
    over graphs, for the question is about the next graph, not the next seed.
    """
    import numpy as np
    from scipy.stats import binomtest, bootstrap

    differences = {}
    for graph, by_model in table.items():
        rows_a, rows_b = by_model.get(a, {}), by_model.get(b, {})
        common = sorted(set(rows_a) & set(rows_b))
        if common:
            gains = [rows_a[s]["accuracy"] - rows_b[s]["accuracy"] for s in common]
            differences[graph] = round(math.fsum(gains) / len(gains), 9)
    gains = list(differences.values())
    won, lost = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    interval = None
    if len(gains) > 2 and len(set(gains)) > 1:  # BCa needs three values that are not all the same
        found = bootstrap((np.array(gains),), np.mean, rng=np.random.default_rng(0))
        interval = [float(found.confidence_interval.low), float(found.confidence_interval.high)]
    return {
        "a": a,
        "b": b,
        "num_graphs": len(gains),
        "won": won,
        "lost": lost,
        "tied": len(gains) - won - lost,
        "sign_test_p": float(binomtest(won, won + lost).pvalue) if won + lost else 1.0,
        "mean_difference": math.fsum(gains) / len(gains) if gains else None,
        "interval": interval,
        "by_graph": differences,
    }


def markdown(summary: dict[str, Any], models: list[str]) -> str:
    """The tables of a report, accuracies in percent."""
    lines = [
        "Test accuracy in percent, mean over seeds +- half the width of its 95% t-interval.",
        "",
        "| graph | nodes | " + " | ".join(models) + " |",
        "|---|---:|" + "---:|" * len(models),
    ]
    for graph, of in summary["graphs"].items():
        cells = [of["accuracy"].get(m) for m in models]
        best = max(c["mean"] for c in cells if c)
        row = [_cell(c, bold=bool(c) and c["mean"] == best) for c in cells]
        lines.append(f"| {graph} | {of['num_nodes']:,} | " + " | ".join(row) + " |")
    if summary["ranks"]:
        row = [f"{summary['ranks'][m]:.2f}" for m in models]
        lines.append(f"| average rank, {summary['num_ranked']} graphs | | {' | '.join(row)} |")
    row = [f"{summary['fit_s'][m]['total']:,.1f} ({summary['fit_s'][m]['fits']})" for m in models]
    lines.append("| fit seconds, total (fits) | | " + " | ".join(row) + " |")
    if summary["pairs"]:
        lines += [
            "",
            "| pair | graphs won / lost / tied | sign test p | mean difference, points (95%) |",
            "|---|---:|---:|---:|",
        ]
    for p in summary["pairs"]:
        span = (
            ""
            if p["interval"] is None
            else " ({:+.2f} to {:+.2f})".format(*(100 * v for v in p["interval"]))
        )
        lines.append(
            f"| {p['a']} - {p['b']} | {p['won']} / {p['lost']} / {p['tied']} | "
            f"{p['sign_test_p']:.3f} | {100 * p['mean_difference']:+.2f}{span} |"
        )
    return "\n".join(lines)


def _cell(cell: dict[str, Any] | None, *, bold: bool) -> str:
    if cell is None:
        return ""
    mean = f"**{100 * cell['mean']:.1f}**" if bold else f"{100 * cell['mean']:.1f}"
    return mean if cell["half"] is None else f"{mean} +- {100 * cell['half']:.1f}"
