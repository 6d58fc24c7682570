"""The command ``graphfm report``: write a page about a fitted model."""

from __future__ import annotations

import logging
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.terminal import next_step, note, show_json, unused
from graphfm.errors import DataError, GraphFMError, OfflineError, OutputError

if TYPE_CHECKING:
    from graphfm.checkpoint.folder import Checkpoint
    from graphfm.report.fit_record import FitRecord
    from graphfm.report.subject import ModelOnGraph


def report(
    run: Annotated[Path, typer.Argument(help="Folder written by `graphfm finetune`.")],
    out: Annotated[Path, typer.Option(help="File to write, .html.")] = Path("report.html"),
    graph: Annotated[
        str | None,
        typer.Option(help="The graph, if its file has moved since the fit."),
    ] = None,
    nodes: Annotated[
        Path | None,
        typer.Option(help="The node table, if its file has moved since the fit."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Column of the labels. Default: that of the fit."),
    ] = None,
    tsne: Annotated[
        bool,
        typer.Option(
            "--tsne",
            help="Draw the map of nodes with t-SNE instead of principal components (slower).",
        ),
    ] = False,
    max_time: Annotated[
        str,
        typer.Option(
            metavar="20s|1m", help="Time limit for feature importances; 0: leave them out."
        ),
    ] = "20s",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of samples and shuffles.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write an HTML report about a fitted model.

    It shows the graph, the fit, scores beside baselines, calibration, frequent errors, uncertain
    nodes and feature importances. The page is one file. It loads nothing and runs no scripts.

    Example: `graphfm report runs/mine --out report.html`
    """
    from graphfm.cli.output import check_file
    from graphfm.config.recipe import duration
    from graphfm.places import stream_number

    if stream_number(out) is None and out.suffix not in (".html", ".htm"):
        raise OutputError("GFM402", f"--out must end in .html, got {out.name}", where=str(out))
    check_file(out, overwrite=overwrite)
    from graphfm.checkpoint.folder import Checkpoint
    from graphfm.report.build import write_report
    from graphfm.report.fit_record import read_fit_record

    began = time.perf_counter()
    limit = duration(max_time, zero=True) or 0.0
    options = {"graph": graph, "nodes": nodes, "target": target, "max-time": max_time, "seed": seed}
    defaults = {"max-time": "20s", "seed": 0, "graph": None, "nodes": None, "target": None}
    words = ["graphfm", "report", str(run), "--out", str(out), *(["--tsne"] if tsne else [])]
    for name, value in options.items():
        words += [] if value == defaults[name] else [f"--{name}", str(value)]
    checkpoint = Checkpoint.open(run)
    record = read_fit_record(checkpoint)
    record = replace(record, commands={**record.commands, "This page": shlex.join(words)})
    subject, missing = open_subject(checkpoint, record, graph, nodes, target)
    page = write_report(
        out, record, subject, missing=missing, tsne=tsne, max_seconds=limit, seed=seed
    )
    seconds = time.perf_counter() - began
    facts: dict[str, Any] = {
        "out": str(out),
        "bytes": out.stat().st_size,
        "seconds": seconds,
        "graph": subject is not None,
        "warnings": page.warnings,
        "missing": page.missing,
    }
    if as_json:
        show_json(facts)
    for sentence in page.missing:
        note(f"warning: {sentence}")
    note(f"{out}: {facts['bytes'] / 1000:.0f} kB in {seconds:.1f} s")
    if subject is None:
        next_step("graphfm inspect", run)
        return
    table = nodes or (record.fit.get("node_table") if graph is None else None)
    more = ["--nodes", table] if table else []
    source = graph or record.graph_source
    next_step(
        "graphfm predict --out", unused("preds.csv"), "--model", run, "--graph", source, *more
    )


def open_subject(
    checkpoint: Checkpoint,
    record: FitRecord,
    graph: str | None,
    nodes: Path | None,
    target: str | None,
) -> tuple[ModelOnGraph | None, list[str]]:
    """Open the model and its graph.

    Args:
        checkpoint: The fitted model.
        record: The fit.
        graph: Graph to read. None reads the graph of the fit.
        nodes: Node table. None uses the one of the fit.
        target: Node attribute to predict. None uses the one of the fit.

    Returns:
        The model on its graph, or None and sentences about the missing graph.

    Raises:
        GraphFMError: If ``graph`` cannot be read.
    """
    from graphfm.cli.fitted import open_fitted
    from graphfm.estimator import GraphFMClassifier
    from graphfm.log_lines import collect_log_lines
    from graphfm.report.subject import ModelOnGraph

    # The key "nodes" of split.json holds the node ids of the split.
    table = nodes or (record.fit.get("node_table") if graph is None else None)
    source = graph or record.graph_source
    try:
        with collect_log_lines(logging.INFO) as lines:
            fitted, read, _ = open_fitted(
                checkpoint, source, target, nodes=Path(table) if table else None
            )
    except (DataError, OfflineError) as error:
        if graph is not None:
            raise
        return None, _how_to_find(checkpoint.path, source, error)
    assert isinstance(fitted, GraphFMClassifier)  # read_fit_record refuses a regressor
    return ModelOnGraph(model=fitted, graph=read, log_lines=lines), []


def _how_to_find(folder: Path, source: str, error: GraphFMError) -> list[str]:
    """Sentences for a page without its graph: what is missing, and how to add it."""
    where = f" ({error.where})" if error.where else ""
    return [
        f"The graph {source} could not be read: {error.code}, {error.what}{where}.",
        "This page therefore lacks the confusion matrix, class scores, calibration, map of nodes, "
        "uncertain nodes, feature importances and remarks on the data. To add them: "
        f"{shlex.join(['graphfm', 'report', str(folder), '--graph'])} FILE",
    ]
