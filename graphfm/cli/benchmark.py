"""``graphfm benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.output import folder_for_one, make_folder
from graphfm.cli.terminal import note, pairs, show, show_json, table
from graphfm.errors import DataError
from graphfm.storage import whole_file

if TYPE_CHECKING:
    from graphfm.benchmark.cells import Plan

MODELS = "probe,decoder,auto,random,ridge,gcn,gcn-tuned"


def benchmark(
    suite: Annotated[
        str | None,
        typer.Argument(help="evaluation-15, pretraining, or a folder with a MANIFEST.csv."),
    ] = None,
    suite_too: Annotated[
        str | None, typer.Option("--suite", metavar="SUITE", help="The same as an option.")
    ] = None,
    models: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="graphfm's: probe, adapter, decoder, full, auto, states, each also with -random "
            "or -200 (steps). Peers: gcn, gcn-tuned, ... Groups: random, peers, tuned, all.",
        ),
    ] = MODELS,
    graphs: Annotated[
        str | None, typer.Option(metavar="ID,ID,...", help="Use only these graphs of the suite.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of seeds; each is another split and start.")
    ] = 5,
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="50/25/25|10/10/80|official", help="May be repeated. Default: 50/25/25."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="CKPT",
            help="Run or checkpoint folder, or owner/name on the hub. Default: shipped weights.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=0, help="Maximum gradient steps of graphfm's models.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Maximum trials of each search.")] = 10,
    search_cost: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="K",
            help="Time limit of each search: K trainings of the default GCN on the same graph, at "
            "least 10 s. Default: none.",
        ),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Time limit of each cell, such as 60s or 10m. Default: none."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of receipts and tables; a repeated command resumes.")
    ] = Path("runs/benchmark"),
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", min=1, help="Number of parallel processes.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, run nothing.")
    ] = False,
    report_only: Annotated[
        bool,
        typer.Option("--report-only", help="Write tables from existing receipts, fit nothing."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare models with tuned peer methods: scores, ranks, Elo, paired tests and cost.

    Each fit leaves a receipt in OUT/cells and is not repeated. The tables OUT/table.md and
    OUT/table.json cover all receipts so far. The exit code is 1 if a fit failed.

    Example: `graphfm benchmark evaluation-15 --models probe,gcn,gcn-tuned --out runs/bench`
    """
    from graphfm.benchmark.cells import (
        OFFICIAL,
        Plan,
        check_unseen,
        refuse_searches,
        sizes_of_parts,
    )
    from graphfm.benchmark.models import competitors
    from graphfm.benchmark.suite import read_suite
    from graphfm.config.recipe import duration
    from graphfm.fitting.finetune import MAX_STEPS
    from graphfm.graphs.splits import Few

    if (suite is None) == (suite_too is None):
        raise DataError(
            "GFM711", "name one suite", fix="for example: graphfm benchmark evaluation-15"
        )
    chosen = read_suite(str(suite or suite_too))
    if graphs is not None:
        chosen = chosen.only([id for id in graphs.split(",") if id])
    splits = tuple(dict.fromkeys(split or ["50/25/25"]))
    methods = competitors(models)
    for each in splits:
        if each != OFFICIAL and isinstance(sizes_of_parts(each), Few):
            refuse_searches(methods, each)
    plan = Plan(
        suite=chosen,
        models=methods,
        splits=splits,
        seeds=seeds,
        out=out,
        checkpoint=_weights(start) if any(model.own for model in methods) else None,
        trials=trials,
        steps=MAX_STEPS if steps is None else steps,
        max_seconds=duration(max_time),
        search_cost=search_cost,
    )
    if dry_run:
        check_unseen(plan)
        _show_plan(plan, as_json)
        return
    make_folder(out)
    if not report_only:
        from graphfm.benchmark.run import run

        with folder_for_one(out):
            run(plan, jobs=jobs)
    summary, text = _write(plan)
    if as_json:
        show_json(summary)
    else:
        show(text)
    note(f"written: {out / 'table.md'}, {out / 'table.json'}")
    if summary["failed"]:
        num_cells = summary["cells"]["all"]
        note(f"{len(summary['failed'])} of {num_cells} fits failed; repeat the command to retry")
        raise typer.Exit(1)


def _write(plan: Plan) -> tuple[dict[str, Any], str]:
    """Write tables and pictures; return the summary and its text."""
    import json

    from graphfm.benchmark.picture import draw_ranks
    from graphfm.benchmark.summary import summarise
    from graphfm.benchmark.table import markdown

    summary = summarise(plan)
    text = markdown(summary)
    own = {model.name for model in plan.models if model.own}
    for split, found in summary["splits"].items():
        if "models" in found and len(found["models"]) > 1:
            with whole_file(plan.out / f"cd-{split.replace('/', '-')}.png") as path:
                draw_ranks(found, own, path, title=f"{plan.suite.name}, {split}")
    for name, content in {"table.md": text, "table.json": json.dumps(summary, indent=1)}.items():
        with whole_file(plan.out / name) as path:
            path.write_text(content + "\n", encoding="utf-8")
    return summary, text


def _weights(given: str | None) -> str | None:
    """Find the folder of the pretrained model; None if there is none."""
    from graphfm.checkpoint.pretrained import find_weights

    folder = find_weights(given)
    return None if folder is None else str(folder)


def _show_plan(plan: Plan, as_json: bool) -> None:
    units = list(plan.units())
    missing = sum(len(unit.models) for unit in plan.units(missing_only=True))
    num_cells = sum(len(unit.models) for unit in units)
    facts = {**plan.to_json(), "cells": num_cells, "to_do": missing}
    if as_json:
        show_json(facts)
    else:
        rows = [[graph, group] for graph, group in plan.suite.groups.items()]
        show(table(rows, head=["graph", "group"]))
        lines = {
            "models": ", ".join(model.name for model in plan.models),
            "splits": ", ".join(plan.splits),
            "seeds": plan.seeds,
            "weights": plan.checkpoint or "none: random weights",
            "cells": f"{num_cells:,}, {num_cells - missing:,} of them done",
        }
        show(pairs(lines))
    note("Nothing written.")
