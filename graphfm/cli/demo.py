"""The command ``graphfm demo``: pretrain, fit and predict on small graphs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from graphfm.cli.terminal import next_step, note, show, show_json

HELD_OUT = "digits"  # real, ten classes, 1,797 nodes; not in the mixture of the recipe `demo`
SPLIT = "0.1/0.1/0.8"  # few labels, as in practice; 1,438 test nodes: an interval of 2 points


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all output files.")] = Path("graphfm-demo"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier demo.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the split and the fit.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Pretrain on small graphs, then fit and predict a real graph that was held out.

    Takes about half a minute on 2 CPU cores and needs no network.
    """
    import json

    from graphfm.cli.comparison import comparison_table, split_graph
    from graphfm.cli.fit import fit
    from graphfm.cli.output import new_folder, write_table
    from graphfm.config.load import load_recipe
    from graphfm.graphs.catalog.catalog import Catalog
    from graphfm.graphs.inputs import as_graph, read_graph
    from graphfm.graphs.readers.export import write_tables
    from graphfm.report.curves import draw_curves
    from graphfm.storage import whole_file
    from graphfm.training.pretrain import pretrain
    from graphfm.training.stops import exit_code

    recipe = load_recipe("demo")
    mixture = Catalog.read().mixture(recipe.data.mixture)
    assert HELD_OUT not in mixture, "the demo must not pretrain on its test graph"
    new_folder(out, overwrite=overwrite)
    began = time.perf_counter()
    note(f"1/3  pretraining on {len(mixture)} graphs: {', '.join(list(mixture)[:6])} ...")
    run = out / "pretrained"
    stopped = pretrain(recipe, out=run)["stopped"]
    if stopped is not None:
        note(f"stopped: {stopped}")
        raise typer.Exit(exit_code(stopped))

    note(f"2/3  fitting {HELD_OUT}, a graph that was not used for pretraining")
    write_tables(as_graph(HELD_OUT), out)  # as a person has them: edges.csv and nodes.csv
    read = read_graph(out, target="label")
    whole = split_graph(read.graph, SPLIT, seed=seed)
    asked = {
        "graph": str(out),
        "target": "label",
        "from": str(run),
        "tune": "decoder",
        "max_steps": None,
        "seed": seed,
    }
    result = fit(replace(read, graph=whole), out=out / HELD_OUT, asked=asked, device="auto")

    note(f"3/3  predicting {whole.num_nodes:,} nodes")
    model, preds, picture = result["model"], out / "preds.csv", out / "learning-curves.png"
    write_table(preds, model.predict_table(whole, proba=False))
    draw_curves(run, picture)
    facts = {
        **asked,
        "input": read.reading.to_json() if read.reading else None,
        **result["json"],
        "seconds": time.perf_counter() - began,
        "files": [str(run), str(out / HELD_OUT), str(preds), str(picture)],
    }
    with whole_file(out / "demo.json") as path:
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    if as_json:
        show_json(facts)
    else:
        show(f"{HELD_OUT}: {comparison_table(result['scores'])}")
    note(f"{facts['seconds']:.0f} s. Predictions: {preds}. Learning curves: {picture}")
    note(f"TensorBoard: tensorboard --logdir {out}")
    next_step("graphfm datasets stats", out, "--target", "label")
