"""``graphfm pretrain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphfm.cli.terminal import brief, next_step, note, pairs, show, show_json


def pretrain(
    recipe: Annotated[str, typer.Argument(help="A name (`graphfm recipes list`) or a .yaml file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Keys of the recipe: train.steps=500"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.", rich_help_panel="Output")] = None,
    resume: Annotated[
        str,
        typer.Option(
            metavar="auto|never|PATH",
            help="auto goes on from the newest good checkpoint in --out, if there is one.",
            rich_help_panel="Output",
        ),
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run.", rich_help_panel="Output")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The recipe's seed.", rich_help_panel="Runtime")
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel="Runtime")
    ] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it costs, write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Pretrain one model on a mixture of graphs.

    The run folder holds checkpoints, metrics.jsonl, run.json and TensorBoard events; the same
    command again goes on where it stopped.

    Example: `graphfm pretrain demo train.steps=200 --out runs/mine`
    """
    from graphfm.cli.output import new_folder
    from graphfm.config import load_recipe

    changes = list(overrides or []) + ([f"seed={seed}"] if seed is not None else [])
    read = load_recipe(recipe, changes)
    out = out or Path("runs") / read.name
    # `--resume auto` is only for a run: in a folder that holds something else it is refused too.
    if overwrite or resume == "never" or not (out / "config.resolved.yaml").exists():
        new_folder(out, overwrite=overwrite, dry_run=dry_run)
    from graphfm.pretrain import pretrain as run

    receipt = run(read, out=out, resume=resume, device=device, dry_run=dry_run)
    if as_json:
        show_json(receipt)
    else:
        shown = {
            k: brief(v)
            for k, v in receipt.items()
            if k == "params" or not isinstance(v, (dict, list))
        }
        show(f"{read.name}\n{pairs(shown)}")
    if dry_run:
        note("Nothing written.")
        next_step("graphfm pretrain", recipe, *changes, "--out", out)
    else:
        next_step("graphfm finetune --graph digits --out runs/digits --from", out)
