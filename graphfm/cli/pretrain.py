"""``graphfm pretrain``."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from graphfm.cli.terminal import brief, next_step, note, pairs, show, show_json, unused


def pretrain(
    recipe: Annotated[str, typer.Argument(help="A name (`graphfm recipes list`) or a .yaml file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Change keys of the recipe: train.steps=500"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.", rich_help_panel="Output")] = None,
    resume: Annotated[
        str,
        typer.Option(
            metavar="auto|never|PATH",
            help="auto resumes from the newest good checkpoint in --out; never starts anew.",
            rich_help_panel="Output",
        ),
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing run.", rich_help_panel="Output")
    ] = False,
    skip_broken: Annotated[
        bool,
        typer.Option(
            "--skip-broken",
            help="Leave out graphs that cannot be read; run.json names them.",
            rich_help_panel="Data",
        ),
    ] = False,
    trust_shards: Annotated[
        bool,
        typer.Option(
            "--trust-shards",
            help="Resume from a folder with shards outside --out. Only for runs of your own.",
            rich_help_panel="Output",
        ),
    ] = False,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="30m|6h",
            help="Save and stop after this time (exit 75); the same command resumes.",
            rich_help_panel="Runtime",
        ),
    ] = None,
    nproc: Annotated[
        int | None,
        typer.Option(help="Processes on this machine.", rich_help_panel="Runtime"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed. Default: the recipe's.", rich_help_panel="Runtime"),
    ] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel="Runtime")
    ] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate the cost, write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Pretrain one model on a mixture of graphs.

    The run folder holds checkpoints, metrics.jsonl, run.json and TensorBoard events. The same
    command resumes a run that stopped. SIGTERM and SIGUSR1 (exit 75) and Ctrl-C (exit 130) save
    first.

    Example: `graphfm pretrain demo train.steps=200 --out runs/mine`
    """
    from graphfm.cli.output import new_folder
    from graphfm.config.load import is_incontext, load_incontext, load_recipe
    from graphfm.config.recipe import duration
    from graphfm.training.run_folder import LOCK, lock_folder

    limit = duration(max_time)
    rank = int(os.environ.get("RANK", "0"))
    launched = "WORLD_SIZE" in os.environ  # by torchrun, or by --nproc below
    if rank:
        logging.getLogger("graphfm").setLevel(logging.ERROR)  # only the first process reports
    changes = list(overrides or []) + ([f"seed={seed}"] if seed is not None else [])
    in_context = is_incontext(recipe)
    resolved: Any = (load_incontext if in_context else load_recipe)(recipe, changes)
    if in_context:
        begins = resume if resume not in ("auto", "never") else None
        _refuse(resume=begins, skip_broken=skip_broken, trust_shards=trust_shards, nproc=nproc)
    out = out or Path("runs") / resolved.name
    words: list[object] = [recipe, *changes, "--out", out, "--device", device]
    words += ["--max-time", max_time] if max_time is not None else []
    words += ["--skip-broken"] if skip_broken else []
    words += ["--trust-shards"] if trust_shards else []
    words += ["--json"] if as_json else []
    if nproc is not None:
        from graphfm.machine import pick_device

        pick_device(device)  # before a folder is emptied
    # A folder that holds something else than a run is refused, also with --resume auto.
    is_run = any((out / name).exists() for name in ("config.resolved.yaml", LOCK))
    if not launched and (overwrite or resume == "never" or not is_run):
        # The lock shows whether a run is writing to the folder that is to be replaced.
        with lock_folder(out) if is_run and not dry_run else nullcontext():
            pass
        # One process empties the folder itself, when everything else is known to work.
        empties_itself = nproc is None and not in_context
        new_folder(out, overwrite=overwrite, dry_run=dry_run or empties_itself)
    if nproc is not None and not launched and not dry_run:
        from graphfm.training.launch import launch

        restart = "auto" if resume == "never" else resume  # a process that is restarted resumes
        raise typer.Exit(launch(nproc, ["pretrain", *map(str, words), "--resume", restart]))
    from graphfm.training.pretrain import pretrain as run
    from graphfm.training.stops import Interrupted, exit_code

    try:
        if in_context:
            from graphfm.training.incontext import pretrain_incontext

            receipt = pretrain_incontext(
                resolved, out=out, device=device, dry_run=dry_run, max_time=limit
            )
        else:
            receipt = run(
                resolved,
                out=out,
                resume=resume,
                device=device,
                dry_run=dry_run,
                max_time=limit,
                skip_broken=skip_broken,
                trust_shards=trust_shards,
                overwrite=overwrite and not launched,
            )
    except Interrupted as signal:
        note(f"stopped by {signal.reason} before the first step; nothing was saved")
        raise typer.Exit(exit_code(signal.reason)) from None
    if rank:
        raise typer.Exit(exit_code(receipt["stopped"]))
    if as_json:
        show_json(receipt)
    else:
        shown = {
            k: brief(v)
            for k, v in receipt.items()
            if k == "params" or not isinstance(v, (dict, list))
        }
        show(f"{resolved.name}\n{pairs(shown)}")
    if not dry_run and receipt["stopped"] is not None:
        note(f"stopped by {receipt['stopped']}, saved at step {receipt['steps']:,}.")
        next_step("graphfm pretrain", *words)
        raise typer.Exit(exit_code(receipt["stopped"]))
    if dry_run:
        note("Nothing written.")
        next_step("graphfm pretrain", recipe, *changes, "--out", out)
    elif in_context:
        note(f"The network lies in {out}/checkpoints; no fit reads it yet.")
    else:
        next_step("graphfm finetune --graph digits --out", unused("runs/digits"), "--from", out)


def _refuse(**options: object) -> None:
    """Raise an error for options that in-context pretraining does not have."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
    if given:
        raise typer.BadParameter(f"{', '.join(given)}: a recipe with tasks does not have this")
