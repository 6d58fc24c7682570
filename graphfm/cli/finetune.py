"""The command ``graphfm finetune``: fit a pretrained model to one graph."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from graphfm.cli.fit import calibration_lines, fit, warn_if_unlike_corpus
from graphfm.cli.inputs import (
    DestinationOption,
    DirectedOption,
    DropOption,
    DuplicateOption,
    Duplicates,
    FeaturesOption,
    GraphOption,
    HeaderOption,
    IdOption,
    NodesOption,
    ObspOption,
    SourceOption,
    StripOption,
    TargetOption,
    TaskKind,
    TaskOption,
    Unknown,
    UnknownOption,
    read_input,
)
from graphfm.cli.terminal import next_step, note, pairs, show, show_json, unused


class Tune(StrEnum):
    """Parts of the pretrained model that a fit changes."""

    AUTO = "auto"
    PROBE = "probe"
    ADAPTER = "adapter"
    DECODER = "decoder"
    FULL = "full"


def finetune(
    graph: GraphOption,
    nodes: NodesOption = None,
    target: TargetOption = None,
    task: TaskOption = TaskKind.AUTO,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SHARES",
            help="Training, validation and test shares, few:K for K labels a class without "
            "validation nodes, a table with the columns id and split, or "
            "the number of one of several splits in the file. "
            "Default: the split of the dataset, or 0.6/0.2/0.2.",
            rich_help_panel="Input",
        ),
    ] = None,
    features: FeaturesOption = None,
    drop: DropOption = None,
    header: HeaderOption = None,
    source: SourceOption = None,
    destination: DestinationOption = None,
    id: IdOption = None,
    directed: DirectedOption = None,
    unknown_nodes: UnknownOption = Unknown.ERROR,
    duplicate_weights: DuplicateOption = Duplicates.SUM,
    strip_ids: StripOption = False,
    obsp: ObspOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="CKPT",
            help="Pretrained weights: a run or checkpoint folder, owner/name on the Hugging Face "
            "Hub, or random. Default: the weights that come with the package.",
            rich_help_panel="Model",
        ),
    ] = None,
    tune: Annotated[
        Tune,
        typer.Option(
            help="Part of the model to train. probe: only the head, in closed form. auto: the "
            "probe, then more if that helps on validation nodes.",
            rich_help_panel="Model",
        ),
    ] = Tune.AUTO,
    ensemble: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of fits with different seeds; their predictions are averaged.",
            rich_help_panel="Model",
        ),
    ] = 1,
    refit_all: Annotated[
        bool,
        typer.Option(
            "--refit-all",
            help="At the end, fit again on every label, at the depth that was chosen. The scores "
            "are those of the fit before. --max-time does not limit this second fit.",
            rich_help_panel="Model",
        ),
    ] = False,
    max_steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Maximum number of gradient steps. Default: 20.",
            rich_help_panel="Training",
        ),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time limit for the fit and the GCN comparison: 60s, 10m. Default: none.",
            rich_help_panel="Training",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0, help="Random seed of the split and the fit.", rich_help_panel="Training"
        ),
    ] = 0,
    device: Annotated[
        str,
        typer.Option(
            help="Where to compute: auto, cpu, cuda or cuda:1.", rich_help_panel="Training"
        ),
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write the model to. Default: runs/NAME.", rich_help_panel="Output"
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing folder.", rich_help_panel="Output"),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be fitted, and how long it takes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit a pretrained model to one graph, and compare it with simple baselines.

    Example: `graphfm finetune --graph edges.csv --nodes nodes.csv --target label --out runs/mine`
    """
    from graphfm.cli.comparison import comparison_table, split_graph
    from graphfm.cli.numbers import interval_line, number_table
    from graphfm.cli.output import folder_for_one, make_folder, new_folder
    from graphfm.config.recipe import duration

    number = int(split) if split is not None and split.isdecimal() else None
    read = read_input(
        graph,
        nodes=nodes,
        target=target,
        task=task,
        features=features,
        drop=drop,
        header=header,
        source=source,
        destination=destination,
        id=id,
        directed=directed,
        unknown_nodes=unknown_nodes,
        duplicate_weights=duplicate_weights,
        strip_ids=strip_ids,
        obsp=obsp,
        split=number,
    )
    whole = split_graph(read.graph, split if number is None else None, seed=seed)
    seconds = duration(max_time)
    out = out or Path("runs") / whole.name
    new_folder(out, overwrite=overwrite, dry_run=True)
    asked = {
        "graph": graph,
        "node_table": str(nodes) if nodes else None,
        "target": target,
        "from": start,
        "tune": tune.value,
        "max_steps": max_steps,
        "max_time": seconds,
        "ensemble": ensemble,
        "refit_all": refit_all,
        "seed": seed,
    }
    if dry_run:
        from graphfm.cli.fit_plan import plan_lines
        from graphfm.fitting.dry_run import fit_plan

        plan = {**asked, **fit_plan(whole, asked, device=device), "out": str(out)}
        if as_json:
            show_json(plan)
        else:
            show(f"{whole!r}\n{pairs(plan_lines(plan))}")
        note("Nothing was fitted or written (--dry-run).")
        next_step("graphfm", *(word for word in sys.argv[1:] if word != "--dry-run"))
        return
    kept = {**asked, "command": shlex.join(["graphfm", *sys.argv[1:]])}
    with folder_for_one(out):
        new_folder(out, overwrite=overwrite, dry_run=True)  # another process may have written
        make_folder(out.resolve().parent)
        result = fit(replace(read, graph=whole), out=out, asked=kept, device=device)
    if as_json:
        show_json({**asked, **result["json"], "out": str(out)})
    elif not result["scores"]:
        pass
    elif "intervals" in result["json"]:
        show(number_table(result["scores"]))
        note(interval_line(result["json"]["intervals"]))
    else:
        show(comparison_table(result["scores"]))
        note(calibration_lines(result["scores"]["graphfm"], result["json"]))
    note(f"depth {result['json']['depth']}: {result['json']['tune_reason']}")
    warn_if_unlike_corpus(result["json"]["corpus_novelty"], result["json"]["far_states"])
    note(f"fitted in {result['json']['fit_seconds']:.1f} s, saved to {out}")
    if result["json"]["verdict"]:
        note("\n".join(result["json"]["verdict"]["text"]))
    beside = ["--nodes", nodes] if nodes else []
    next_step(
        "graphfm predict --out", unused("preds.csv"), "--model", out, "--graph", graph, *beside
    )
