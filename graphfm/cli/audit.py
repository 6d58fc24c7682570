"""``graphfm datasets audit``, and the warning for a test on a graph of the pretraining corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.terminal import next_step, note, show, show_json, table
from graphfm.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Collection

    from graphfm.graphs.audit.report import AuditReport
    from graphfm.graphs.catalog.catalog import Catalog
    from graphfm.graphs.graph import Graph

HEAD = [
    "corpus",
    "evaluation",
    "evidence",
    "matched nodes",
    "of corpus",
    "of evaluation",
    "edge overlap",
    "relation",
]
SHOWN_HINTS = 10


def audit(
    corpus: Annotated[
        str,
        typer.Argument(
            help="Pretraining graphs: a mixture, a role, ids with commas, a run or checkpoint "
            "folder, or a .graphml, .gml or .gexf file."
        ),
    ],
    evaluation: Annotated[
        str, typer.Argument(help="Evaluation graphs, given in the same ways.")
    ] = "evaluation",
    declared: Annotated[
        bool,
        typer.Option(
            "--declared/--no-declared", help="Compare ids, aliases and groups, or the data alone."
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find pretraining graphs that overlap with evaluation graphs.

    The exit code is 0 without an overlap, and 3 with one; then a table lists the overlaps. Nothing
    is fetched: a graph whose files are missing here is compared by its catalog entry alone.

    Example: `graphfm datasets audit runs/small my.graphml`
    """
    from graphfm.graphs.audit.audit import LazyGraphs
    from graphfm.graphs.audit.audit import audit as compare
    from graphfm.graphs.catalog.catalog import Catalog

    catalog = Catalog.read()
    sides, absent = [], []
    for text in (corpus, evaluation):
        ids, given = _named(text, catalog)
        here = [id for id in ids if id in catalog.entries and catalog.is_here(id)]
        sides.append(LazyGraphs(catalog, here, given))
        absent.append([id for id in ids if id not in here])
    report = compare(
        sides[0],
        sides[1],
        catalog.entries,
        absent=(absent[0], absent[1]),
        use_declared=declared,
        cache=True,
    )
    if as_json:
        show_json(report.to_json())
    elif report.overlaps:
        show(table(_rows(report), head=HEAD))
    else:
        show("clean")
    _note_rest(report)
    if not report.clean:
        num = len(report.overlaps)
        one = report.overlaps[0]
        raise DataError(
            "GFM147",
            f"{num} pair{'' if num == 1 else 's'} of graphs overlap{'s' if num == 1 else ''}",
            where=f"{one.corpus} ~ {one.judged}" + (" and others" if num > 1 else ""),
            fix="leave one graph of each pair out of the corpus or out of the evaluation",
        )
    next_step("graphfm recipes list")


def warn_if_seen(graph: Graph, limits: Collection[str]) -> None:
    """Warn on stderr if the pretraining corpus holds a graph, or one of the same group.

    Args:
        graph: The graph that a model is tested on.
        limits: Ids that the model must not be tested on, from its checkpoint.
    """
    from graphfm.graphs.catalog.catalog import Catalog

    entries = Catalog.read().entries if limits else {}
    kin = [id for id in limits if id in entries and graph.name in entries]
    kin = [id for id in kin if entries[id].group == entries[graph.name].group]
    if graph.name in limits or kin:
        group = f" (group {entries[graph.name].group})" if graph.name in entries else ""
        note(
            f"warning: the pretraining corpus holds {graph.name}, or a graph that shares nodes or "
            f"features with it{group}; this score does not estimate the score on a new graph"
        )


def _named(text: str, catalog: Catalog) -> tuple[list[str], dict[str, Graph]]:
    """Return the ids and graphs that an argument names.

    Raises:
        DataError: GFM148 for a name that is not found.
    """
    from graphfm.graphs.inputs import as_graph, is_file

    path = Path(text)
    if not path.is_dir() and is_file(text):
        graph = as_graph(text)
        return [], {graph.name: graph}
    if path.is_dir():
        from graphfm.checkpoint.folder import Checkpoint

        config = Checkpoint.open(path).config
        return list(config.get("corpus") or config.get("not_judged_on") or []), {}
    if text in ("pretraining", "evaluation"):
        return [e.id for e in catalog.entries.values() if e.role == text], {}
    if text in catalog.mixtures:
        return list(catalog.mixture(text)), {}
    try:
        return [catalog.entry(id.strip()).id for id in text.split(",")], {}
    except DataError as error:
        raise DataError(
            "GFM148",
            f"{text!r} is not a mixture, role, id, checkpoint folder or graph file",
            why=error.what,
            fix="`graphfm datasets list` shows ids and mixtures",
        ) from None


def _rows(report: AuditReport) -> list[list[str]]:
    """Return the rows of the table of overlaps."""
    rows = []
    for overlap in report.overlaps:
        data: Any = overlap.data
        is_matched = bool(data.kinds)
        jaccard = "-" if data.jaccard is None else f"{data.jaccard:.3f}"
        rows.append(
            [
                overlap.corpus,
                overlap.judged,
                ", ".join(overlap.kinds),
                f"{data.matched:,}" if is_matched else "-",
                f"{data.shares[0]:.0%}" if is_matched else "-",
                f"{data.shares[1]:.0%}" if is_matched else "-",
                jaccard,
                overlap.relation,
            ]
        )
    return rows


def _note_rest(report: AuditReport) -> None:
    """Print hints, graphs without files, and the duration to stderr."""
    for one, other, why in report.hints[:SHOWN_HINTS]:
        note(f"look at {one} ~ {other}: {why}")
    if len(report.hints) > SHOWN_HINTS:
        note(f"... and {len(report.hints) - SHOWN_HINTS} more hints: --json")
    if report.declared_only:
        gone = report.declared_only
        some = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
        note(f"{len(gone)} graphs have no files here; only their entries were compared: {some}")
    note(
        f"{len(report.corpus)} graphs against {len(report.judged)}, {report.compared:,} pairs "
        f"compared node by node, {report.seconds:.1f} s"
    )
