"""``graphfm scaling grid``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphfm.cli.terminal import next_step, note, show, show_json, table
from graphfm.storage import whole_file


def grid(
    file: Annotated[Path, typer.Argument(help="A grid, as recipes/scaling/local-grid.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder of all runs; the same command goes on.")],
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Cells side by side.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to do, run nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Pretrain a grid of sizes, shares of the data and seeds; leave receipts and one table.

    Runs that finished are not done again. The table is OUT/grid.csv, which `scaling fit` reads.
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
            "These runs are of several commits (column commit): where judging changed between "
            "them, losses differ for that alone"
        )
    if as_json:
        show_json({"runs": found, "table": str(path)})
    else:
        shown = ("run", "steps", "params", "unique", "targets", "loss")
        cells_of = [[_short(row[name]) for name in shown] for row in found]
        show(table(cells_of, head=shown))
    next_step("graphfm scaling fit", path)


def write_csv(path: Path, found: list[dict[str, object]]) -> None:
    """One line for each run; a value that a run has not is an empty cell."""
    import csv

    names = list(dict.fromkeys(name for row in found for name in row))
    with whole_file(path) as half, half.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(found)


def _short(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value}"
