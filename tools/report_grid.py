"""Receipts of a grid of runs -> two small tables, laws, held-out errors, pictures, a page.

    python tools/report_grid.py runs/grid        # collects the receipts first
    python tools/report_grid.py                  # from the tables that are there

Writes local-grid.csv (a row for each run), local-grid-losses.csv (its loss on every graph) and
local-grid.json into docs/results/, pictures/scaling-*.png, and what stands below the mark in
docs/scaling-local.md. A grid that is not finished is reported as far as it is.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report_grid_fits import (
    NEVER_SEEN,
    RESAMPLES,
    Losses,
    Row,
    effects,
    fit_record,
    laws,
    mixed_laws,
)
from report_grid_held_out import held_out, held_out_unseen
from report_grid_page import MEANING, draw_axes, page

from graphfm.cli.scaling_grid import write_csv
from graphfm.errors import DataError
from graphfm.scaling.fitted import Fit, finite
from graphfm.scaling.grid import GridConfig, cells, losses, read_grid, rows

ROOT = Path(__file__).resolve().parents[1]
TEXT = ("run", "size", "commit")


def collect(config: GridConfig, grid: Path, out: Path) -> None:
    """Write both tables from the receipts of a grid's folder."""
    found = list(rows(config, grid))
    if not found:
        raise DataError("GFM701", "no run of the grid has finished", where=str(grid))
    write_csv(out / "local-grid.csv", [_short(row) for row in found])
    wide = [
        {"run": cell, "steps": steps, **each} for cell, steps, each in losses(config, grid)
    ]  # fmt: skip
    write_csv(out / "local-grid-losses.csv", [_short(row) for row in wide])


def read_tables(out: Path) -> tuple[list[Row], Losses]:
    """What :func:`collect` wrote; an empty cell is left out of its row."""
    with (out / "local-grid.csv").open(encoding="utf-8", newline="") as file:
        found = [_typed(row) for row in csv.DictReader(file)]
    with (out / "local-grid-losses.csv").open(encoding="utf-8", newline="") as file:
        wide = [_typed(row) for row in csv.DictReader(file)]
    return found, {(row.pop("run"), row.pop("steps")): row for row in wide}


def report(
    config: GridConfig, found: Sequence[Row], each: Losses, *, resamples: int, mixed: int
) -> tuple[dict[str, Any], dict[str, Fit | str]]:
    """The results as one JSON object, and the fits for the pictures."""
    finished = _finished_cells(config, found)
    done = laws(found, resamples=resamples)
    tested = held_out(found, resamples=resamples)
    drawn: dict[str, Fit | str] = {"corpus": done["corpus-targets"]}
    record: dict[str, Any] = {
        "cells": {"in": len(finished), "of": len(cells(config)), "runs": len(found)},
        "commits": sorted({row["commit"] for row in found}),
        "sizes": {row["size"]: row["params"] for row in found},
        "hours": _cost(found),
        "resamples": {"laws": resamples, "mixed": mixed},
        "laws": {name: fit_record(one) for name, one in done.items()},
        "mixed": {
            name: fit_record(one) for name, one in mixed_laws(found, each, resamples=mixed).items()
        },
        "effects": effects(found),
    }
    if not isinstance(tested, str):
        drawn["corpus"] = tested.pop("fit")
    judged = {"corpus": tested} | {
        MEANING[f"{on}-nodes"][0]: held_out_unseen(found, each, on=on, resamples=resamples)
        for on in NEVER_SEEN
    }
    record["held_out"] = {
        name: {"refused": one} if isinstance(one, str) else one for name, one in judged.items()
    }
    plain: dict[str, Any] = finite(record)
    return plain, drawn


def _finished_cells(config: GridConfig, found: Sequence[Row]) -> list[str]:
    last = {row["run"] for row in found if row["steps"] == config.steps[-1]}
    judged = {row["run"] for row in found if "loss_unseen" in row}
    return sorted(last & judged if config.unseen else last)


def _cost(found: Sequence[Row]) -> dict[str, float]:
    """Wall time of the training of each size, in hours: a longer run's seconds hold the shorter's.

    Wall time beside other work; the unseen graphs are not in it.
    """
    last: dict[str, Row] = {}
    for row in found:
        if row["seconds"] >= last.get(row["run"], row)["seconds"]:
            last[row["run"]] = row
    total: dict[str, float] = {}
    for row in last.values():
        total[row["size"]] = total.get(row["size"], 0.0) + row["seconds"] / 3600
    return {size: round(hours, 3) for size, hours in total.items()}


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """Five digits: losses differ between seeds in the third."""
    return {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}


def _typed(row: Mapping[str, str]) -> Row:
    found: Row = {}
    for name, text in row.items():
        if text:
            whole = text.isdigit() and name not in ("node_share", "graph_share")
            found[name] = text if name in TEXT else int(text) if whole else float(text)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Collect, fit, draw, write the page."""
    parser = argparse.ArgumentParser(description="The page of a grid of runs.")
    parser.add_argument("grid", type=Path, nargs="?", help="folder of `graphfm scaling grid --out`")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes/scaling/local-grid.yaml")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--mixed-resamples", type=int, default=RESAMPLES)
    args = parser.parse_args(argv)
    config = read_grid(args.recipe)
    for folder in ("results", "pictures"):
        (args.docs / folder).mkdir(parents=True, exist_ok=True)
    results = args.docs / "results"
    if args.grid is not None:
        collect(config, args.grid, results)
    found, each = read_tables(results)
    record, fits = report(
        config, found, each, resamples=args.resamples, mixed=args.mixed_resamples
    )  # fmt: skip
    text = json.dumps(record, indent=1) + "\n"
    (results / "local-grid.json").write_text(text, encoding="utf-8")
    pictures = args.docs / "pictures"
    if isinstance(fits["corpus"], Fit):
        from graphfm.scaling.plot import draw_fit

        draw_fit(fits["corpus"], pictures / "scaling-corpus.png")
    draw_axes(found, pictures / "scaling-axes.png")
    page(record, args.docs / "scaling-local.md")
    print(f"{record['cells']['in']} of {record['cells']['of']} cells, {len(found)} runs")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
