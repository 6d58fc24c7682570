"""``graphfm finetune``."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from graphfm.cli.terminal import next_step, note, pairs, show, show_json


class Tune(StrEnum):
    """How deep a fit reaches into the pretrained model."""

    PROBE = "probe"
    ADAPTER = "adapter"
    DECODER = "decoder"
    FULL = "full"


def finetune(
    graph: Annotated[
        str,
        typer.Option(
            help="A catalog id, or a .graphml, .gml or .gexf file.", rich_help_panel="Input"
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(help="Node attribute to predict, for a file.", rich_help_panel="Input"),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIN/VAL/TEST",
            help="Shares of the labelled nodes. Default: the graph's own split, or 0.6/0.2/0.2.",
            rich_help_panel="Input",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CKPT",
            help="Run or checkpoint folder. Without it the model begins at random.",
            rich_help_panel="Model",
        ),
    ] = None,
    tune: Annotated[
        Tune, typer.Option(help="What is learned.", rich_help_panel="Model")
    ] = Tune.DECODER,
    max_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Most gradient steps.", rich_help_panel="Training"),
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

    Example: `graphfm finetune --graph my.graphml --target label --from runs/small --out runs/mine`
    """
    from graphfm.cli.comparison import comparison_table, split_graph
    from graphfm.cli.inputs import read_graph
    from graphfm.cli.output import new_folder

    whole = read_graph(graph, target=target)
    whole = split_graph(whole, split, seed=seed)
    out = out or Path("runs") / whole.name
    new_folder(out, overwrite=overwrite, dry_run=dry_run)
    asked = {
        "graph": graph,
        "target": target,
        "from": str(start) if start else None,
        "tune": tune.value,
        "max_steps": max_steps,
        "seed": seed,
    }
    if dry_run:
        sizes = {
            part: int(mask.sum())
            for part in ("train", "val", "test")
            if (mask := getattr(whole, f"{part}_mask")) is not None
        }
        plan = {**asked, "num_nodes": whole.num_nodes, **sizes, "out": str(out)}
        if as_json:
            show_json(plan)
        else:
            show(f"{whole!r}\n{pairs({k: v for k, v in plan.items() if v is not None})}")
        note("Nothing written.")
        return
    result = fit(whole, out=out, asked=asked, device=device)
    if as_json:
        show_json({**asked, **result["json"], "out": str(out)})
    else:
        show(comparison_table(result["scores"]))
    note(f"fitted in {result['json']['fit_seconds']:.1f} s, saved in {out}")
    next_step("graphfm predict --out preds.csv --model", out, "--graph", graph)


def fit(whole: Any, *, out: Path, asked: dict[str, Any], device: str) -> dict[str, Any]:
    """Fit, save, compare: ``{"model", "scores" by method, "json"}``.

    Args:
        whole: The graph, with its split.
        out: Folder to save in.
        asked: ``from``, ``tune``, ``max_steps`` and ``seed``; kept beside the model.
        device: Where to compute.
    """
    from graphfm.cli.comparison import compare, save_split
    from graphfm.estimator import GraphFMClassifier
    from graphfm.training.receipt import MetricsLog

    steps = {} if asked["max_steps"] is None else {"max_steps": asked["max_steps"]}
    model = GraphFMClassifier(
        asked["from"], tune=asked["tune"], seed=asked["seed"], device=device, verbose=True, **steps
    )
    began = time.perf_counter()
    model.fit(whole)
    seconds = time.perf_counter() - began
    model.save(out)
    log = MetricsLog(out)
    for record in model.history_:
        values = {k: v for k, v in record.items() if k != "step"}
        log.write("train" if "loss" in record else "eval", int(record["step"]), values)
    log.close()
    results = compare(model, whole, seed=asked["seed"])
    facts = {
        "fit_seconds": seconds,
        "best_step": model.best_step_,
        "val_score": model.val_score_,
        "test": {name: s.to_json() for name, s in results.items()},
    }
    save_split(out, whole, {**asked, **facts})
    return {"model": model, "scores": results, "json": facts}
