"""``graphfm finetune``."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphfm.cli.fit import fit, honesty, warn_of_novelty
from graphfm.cli.inputs import (
    DestinationOption,
    DirectedOption,
    DuplicateOption,
    Duplicates,
    FeaturesOption,
    GraphOption,
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
)
from graphfm.cli.terminal import next_step, note, pairs, show, show_json

if TYPE_CHECKING:
    pass


class Tune(StrEnum):
    """How deep a fit reaches into the pretrained model."""

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
            help="Shares of the labelled nodes, or a table of id and split. Default: the graph's "
            "own split, or 0.6/0.2/0.2.",
            rich_help_panel="Input",
        ),
    ] = None,
    features: FeaturesOption = None,
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
            help="Run or checkpoint folder, owner/name on the Hugging Face Hub, or random. "
            "Default: the weights that come with the package.",
            rich_help_panel="Model",
        ),
    ] = None,
    tune: Annotated[
        Tune,
        typer.Option(
            help="What is learned; auto: the probe, then deeper where validation nodes say so.",
            rich_help_panel="Model",
        ),
    ] = Tune.AUTO,
    ensemble: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Fits of other seeds, whose probabilities are averaged.",
            rich_help_panel="Model",
        ),
    ] = 1,
    max_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Most gradient steps.", rich_help_panel="Training"),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Of the fit and a GCN beside it: 60s, 10m. Default: what they take.",
            rich_help_panel="Training",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the split and of the fit.", rich_help_panel="Training")
    ] = 0,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel="Training")
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the fitted model.", rich_help_panel="Output"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace it.", rich_help_panel="Output")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fitted, write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Fit a pretrained model to one graph, and compare it with what costs nothing.

    Example: `graphfm finetune --graph edges.csv --nodes nodes.csv --target label --out runs/mine`
    """
    from graphfm.cli.comparison import comparison_table, split_graph
    from graphfm.cli.numbers import number_table, promise
    from graphfm.cli.output import folder_for_one, new_folder
    from graphfm.config.recipe import duration
    from graphfm.graphs.inputs import read_input

    given = read_input(
        graph,
        nodes=nodes,
        target=target,
        task=task,
        features=features,
        source=source,
        destination=destination,
        id=id,
        directed=directed,
        unknown_nodes=unknown_nodes,
        duplicate_weights=duplicate_weights,
        strip_ids=strip_ids,
        obsp=obsp,
    )
    whole = split_graph(given.graph, split, seed=seed)
    seconds = duration(max_time)
    out = out or Path("runs") / whole.name
    new_folder(out, overwrite=overwrite, dry_run=dry_run)
    asked = {
        "graph": graph,
        "node_table": str(nodes) if nodes else None,
        "target": target,
        "from": start,
        "tune": tune.value,
        "max_steps": max_steps,
        "max_time": seconds,
        "ensemble": ensemble,
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
        note("Nothing written.")
        next_step("graphfm", *(word for word in sys.argv[1:] if word != "--dry-run"))
        return
    kept = {**asked, "input": given.to_json(), "command": shlex.join(["graphfm", *sys.argv[1:]])}
    with folder_for_one(out):
        new_folder(out, overwrite=overwrite)  # again: another process may have filled it meanwhile
        result = fit(whole, out=out, asked=kept, device=device)
    if as_json:
        show_json({**asked, **result["json"], "out": str(out)})
    elif "intervals" in result["json"]:
        show(number_table(result["scores"]))
        note(promise(result["json"]["intervals"]))
    else:
        show(comparison_table(result["scores"]))
        note(honesty(result["scores"]["graphfm"], result["json"]))
    note(f"depth {result['json']['depth']}: {result['json']['tune_reason']}")
    warn_of_novelty(result["json"]["corpus_novelty"], result["json"]["far_states"])
    note(f"fitted in {result['json']['fit_seconds']:.1f} s, saved in {out}")
    beside = ["--nodes", nodes] if nodes else []
    next_step("graphfm predict --out preds.csv --model", out, "--graph", graph, *beside)
