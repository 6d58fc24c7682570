"""The command ``graphfm inspect``: describe a run, a checkpoint, a model or a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from graphfm.cli.inputs import read_input
from graphfm.cli.terminal import brief, next_step, pairs, show, show_json, unused
from graphfm.errors import CheckpointError


def inspect(
    thing: Annotated[
        str, typer.Argument(help="Run folder, checkpoint, fitted model, graph file or dataset id.")
    ],
    target: Annotated[str | None, typer.Option(help="Column to predict, for a graph file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Describe a run, a checkpoint, a fitted model or a graph. Loads no weights."""
    folder = Path(thing)
    if folder.is_dir():
        facts = _folder(folder)
        if as_json:
            show_json(facts)
        else:
            show(f"{thing}\n{pairs({key: brief(value) for key, value in facts.items()})}")
        if "estimator" in facts:
            graph = facts.get("graph") or facts["estimator"]["graph"]
            beside = facts.get("node_table")
            more = ["--nodes", beside] if beside else []
            next_step(
                "graphfm predict --out",
                unused("preds.csv"),
                "--model",
                thing,
                "--graph",
                graph,
                *more,
            )
        else:
            next_step(
                "graphfm finetune --graph digits --out", unused("runs/digits"), "--from", thing
            )
        return
    from graphfm.cli.description import graph_lines, suggest_fit
    from graphfm.graphs.statistics import describe

    graph = read_input(thing, target=target).graph
    facts = describe(graph)
    if as_json:
        show_json(facts)
    else:
        show(graph_lines(facts))
    suggest_fit(graph, thing, *([] if target is None else ["--target", target]))


def _folder(folder: Path) -> dict[str, Any]:
    """Return the facts about a run, checkpoint or fitted model in a folder."""
    from graphfm.checkpoint.folder import Checkpoint
    from graphfm.checkpoint.manifest import read_json
    from graphfm.checkpoint.split_json import read_split
    from graphfm.model.graphfm import GraphFM

    checkpoint = Checkpoint.open(folder)
    kept: dict[str, Any] = {}
    if (folder / "run.json").is_file():
        kept = read_json(folder / "run.json")
        if not isinstance(kept, dict):
            raise CheckpointError(
                "GFM302", "the file must hold an object", where=str(folder / "run.json")
            )
    kept |= read_split(checkpoint)
    kept.pop("nodes", None)  # one id per node: too long for the screen
    model = checkpoint.outline(GraphFM.from_config)
    return {
        **kept,
        "folder": str(checkpoint.path),
        "verified": True,
        "params": model.num_params(),
        "datasets": len(model.specs),
        **checkpoint.config,
    }
