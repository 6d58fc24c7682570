"""``graphfm scaling grid``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphfm.cli.terminal import next_step, note, show, show_json, table
from graphfm.storage import whole_file


def grid(
    file: Annotated[
        Path, typer.Argument(help="YAML file of a grid, such as recipes/scaling/local-grid.yaml.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of all runs; the same command continues.")],
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Cells at once.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is missing, run nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Pretrain a grid of sizes, shares of the data and seeds; write receipts and one table.

    Finished runs are not repeated. The table is OUT/grid.csv, which `scaling fit` reads.
    """
    from graphfm.scaling.grid import cells, read_grid, receipts, rows, run_grid

    config = read_grid(file)
    todo = cells(config)
    if dry_run:
        done = len(receipts(config, out))
        facts = {"cells": len(todo), "runs": len(todo) * len(config.steps), "done": done}
        if as_json:
            show_json(facts)
        else:
            show(table([(c.name, str(max(config.steps))) for c in todo], head=("cell", "steps")))
            note(f"{facts['runs']} runs in {facts['cells']} cells, {done} of them done")
        note("Nothing written.")
        return
    run_grid(config, out, jobs=jobs, device=device)
    found = list(rows(config, out))
    path = out / "grid.csv"
    write_csv(path, found)
    if len({row["commit"] for row in found}) > 1:
        note(
            "These runs are of several commits (column commit): their losses may differ because "
            "the code changed"
        )
    if as_json:
        show_json({"runs": found, "table": str(path)})
    else:
        shown = ("run", "steps", "params", "unique", "targets", "loss")
        cells_of = [[_short(row[name]) for name in shown] for row in found]
        show(table(cells_of, head=shown))
    next_step("graphfm scaling fit", path)


def write_csv(path: Path, found: list[dict[str, object]]) -> None:
    """Write one line for each run; a missing value is an empty cell."""
    import csv

    names = list(dict.fromkeys(name for row in found for name in row))
    with whole_file(path) as half, half.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(found)


def _short(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value}"
