"""``graphfm inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from graphfm.cli.terminal import brief, next_step, pairs, show, show_json
from graphfm.errors import CheckpointError


def inspect(
    thing: Annotated[
        str, typer.Argument(help="Run folder, checkpoint, fitted model, graph file or catalog id.")
    ],
    target: Annotated[
        str | None, typer.Option(help="Node attribute to predict, for a graph file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what a run, a checkpoint, a fitted model or a graph is. Loads no weights."""
    folder = Path(thing)
    if folder.is_dir():
        facts = _folder(folder)
        if as_json:
            show_json(facts)
        else:
            show(f"{thing}\n{pairs({key: brief(value) for key, value in facts.items()})}")
        if "estimator" in facts:
            graph = facts.get("graph") or facts["estimator"]["graph"]
            next_step("graphfm predict --out preds.csv --model", thing, "--graph", graph)
        else:
            next_step("graphfm finetune --graph digits --out runs/digits --from", thing)
        return
    from graphfm.cli.description import graph_lines
    from graphfm.graphs.inputs import read_graph
    from graphfm.graphs.statistics import describe

    facts = describe(read_graph(thing, target=target))
    if as_json:
        show_json(facts)
    else:
        show(graph_lines(facts))
    next_step("graphfm finetune --graph", thing, "--out", f"runs/{facts['name']}")


def _folder(folder: Path) -> dict[str, Any]:
    from graphfm.checkpoint.folder import Checkpoint
    from graphfm.model.graphfm import GraphFM

    kept: dict[str, Any] = {}
    for name in ("run.json", "split.json"):
        if (folder / name).is_file():
            try:
                kept |= json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError as error:
                raise CheckpointError(
                    "GFM302", f"not readable as JSON: {error}", where=str(folder / name)
                ) from None
    kept.pop("nodes", None)  # the ids of a split are many, and the file itself shows them
    checkpoint = Checkpoint.open(folder)
    model = GraphFM.from_config(checkpoint.model_config, specs=checkpoint.specs())
    return {
        **kept,
        "folder": str(checkpoint.path),
        "verified": True,
        "params": model.num_params(),
        "datasets": len(model.specs),
        **checkpoint.config,
    }
