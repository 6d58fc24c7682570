"""``graphfm report``."""

from __future__ import annotations

import logging
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.terminal import next_step, note, show_json
from graphfm.errors import DataError, GraphFMError, OfflineError, OutputError

if TYPE_CHECKING:
    from graphfm.report.build import Subject
    from graphfm.report.folder import Run


def report(
    run: Annotated[Path, typer.Argument(help="Folder that `graphfm finetune` wrote.")],
    out: Annotated[Path, typer.Option(help="Page to write: .html.")] = Path("report.html"),
    graph: Annotated[
        str | None,
        typer.Option(help="The graph, where it is no longer where the fit read it."),
    ] = None,
    nodes: Annotated[
        Path | None,
        typer.Option(help="The node table that goes with an edge list, where it has moved."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Node attribute that was predicted; default: the one of the fit."),
    ] = None,
    tsne: Annotated[
        bool, typer.Option("--tsne", help="Draw the map of nodes by t-SNE: slower, no distances.")
    ] = False,
    max_time: Annotated[
        str, typer.Option(metavar="20s|1m", help="Time for feature importances; 0 = none.")
    ] = "20s",
    seed: Annotated[int, typer.Option(min=0, help="Of samples and shuffles.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write one page about a fitted model, to look at and to send on.

    It says what was fitted on what, how good and how sure the model is, where it errs and what it
    leans on. The page is one file that loads nothing and runs nothing.

    Example: `graphfm report runs/mine --out report.html`
    """
    from graphfm.cli.output import check_file
    from graphfm.config.recipe import duration
    from graphfm.storage import whole_file

    if out.suffix not in (".html", ".htm"):
        raise OutputError("GFM402", f"--out must end in .html, got {out.name}", where=str(out))
    check_file(out, overwrite=overwrite)
    from graphfm.report.build import build_page
    from graphfm.report.page import render

    began = time.perf_counter()
    limit = duration(max_time, zero=True) or 0.0
    options = {"graph": graph, "nodes": nodes, "target": target, "max-time": max_time, "seed": seed}
    changed = {"max-time": "20s", "seed": 0, "graph": None, "nodes": None, "target": None}
    words = ["graphfm", "report", str(run), "--out", str(out), *(["--tsne"] if tsne else [])]
    for name, value in options.items():
        words += [] if value == changed[name] else [f"--{name}", str(value)]
    read = read_run(run, shlex.join(words))
    subject, missing = open_subject(run, read, graph, nodes, target)
    page = build_page(read, subject, missing=missing, tsne=tsne, max_seconds=limit, seed=seed)
    html = render(page)
    with whole_file(out) as path:
        path.write_text(html, encoding="utf-8")
    seconds = time.perf_counter() - began
    facts: dict[str, Any] = {
        "out": str(out),
        "bytes": len(html.encode()),
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
    next_step("graphfm predict --out preds.csv --model", run, "--graph", _source(read, graph))


def read_run(folder: Path, command: str) -> Run:
    """What a fitted model's folder holds, without its weights.

    Raises:
        CheckpointError: GFM301 for a folder that is none, GFM302 for a damaged one, GFM307 for a
            model that is not fitted.
        DataError: GFM134 for one that predicts a number.
    """
    from graphfm.checkpoint.folder import Checkpoint
    from graphfm.cli.comparison import read_split
    from graphfm.errors import CheckpointError, DataError
    from graphfm.report.folder import Run

    saved = Checkpoint.open(folder).config
    if "estimator" not in saved:
        raise CheckpointError(
            "GFM307",
            f"{folder} is a pretrained model, not fitted to a graph yet",
            fix="graphfm finetune --from it first",
        )
    if saved["estimator"].get("kind") == "regress":
        raise DataError(
            "GFM134",
            "the report page is about classes, this model predicts a number",
            where=str(folder),
            fix="graphfm evaluate has its scores, graphfm predict its intervals",
        )
    fit = read_split(folder)
    return Run(
        folder=str(folder),
        saved=saved,
        fit=fit,
        commands={**_fit_command(fit, folder), "This page": command},
        columns=_columns(fit),
    )


def open_subject(
    folder: Path, run: Run, graph: str | None, nodes: Path | None, target: str | None
) -> tuple[Subject | None, list[str]]:
    """The graph and the model; without the graph None, and sentences that say what to do.

    Raises:
        GraphFMError: If a graph was named and cannot be read.
    """
    from graphfm.cli.fitted import open_fitted
    from graphfm.report.build import Subject
    from graphfm.report.sections import COVERAGE

    # `nodes` of split.json are the ids of the split.
    table = nodes or (run.fit.get("node_table") if graph is None else None)
    table = Path(table) if table else None
    heard = _Heard()
    log = logging.getLogger("graphfm")
    log.addHandler(heard)
    try:
        fitted, read, _ = open_fitted(folder, _source(run, graph), target, nodes=table)
    except (DataError, OfflineError) as error:
        if graph is not None:
            raise
        return None, _how_to_find(folder, run, error)
    finally:
        log.removeHandler(heard)

    def answer(g: Any, mask: Any) -> Any:
        # A graph with shuffled columns asks for probabilities alone.
        return fitted.answer(g, mask, coverage=COVERAGE if g is read else None)

    return Subject(graph=read, answer=answer, embed=fitted.embed, said=heard.lines), []


class _Heard(logging.Handler):
    """Keeps what the readers of a graph say: merged, left out, filled in."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line not in self.lines:
            self.lines.append(line)


def _source(run: Run, graph: str | None) -> str:
    """What was read: as given now, as the fit was asked for, or by the name that was kept."""
    return graph or str(run.fit.get("graph") or run.estimator["graph"])


def _how_to_find(folder: Path, run: Run, error: GraphFMError) -> list[str]:
    where = f" ({error.where})" if error.where else ""
    return [
        f"The graph {_source(run, None)} could not be read: {error.code}, {error.what}{where}.",
        "So confusion, classes, calibration, the map, uncertain nodes, importances and remarks on "
        "the data are missing here. To have them: "
        f"{shlex.join(['graphfm', 'report', str(folder), '--graph'])} FILE",
    ]


def _columns(fit: dict[str, Any]) -> list[dict[str, Any]]:
    """How the columns of a table became features, wherever the fit keeps it."""
    for place in (fit, *(value for value in fit.values() if isinstance(value, dict))):
        if place.get("columns"):
            return list(place["columns"])
    return []


def _fit_command(fit: dict[str, Any], folder: Path) -> dict[str, str]:
    """The command line of the fit as it was, or made again from its settings."""
    if fit.get("command"):
        return {"The fit": str(fit["command"])}
    if not fit.get("graph"):
        return {"The fit": "GraphFMClassifier(...).fit(graph), from Python"}
    words = ["graphfm", "finetune"]
    for name in ("graph", "node_table", "target", "split", "from", "tune", "max_steps", "seed"):
        if fit.get(name) is not None:
            flag = "nodes" if name == "node_table" else name.replace("_", "-")
            words += [f"--{flag}", str(fit[name])]
    return {"The fit, from its settings": shlex.join([*words, "--out", str(folder)])}
