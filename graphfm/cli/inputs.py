"""Options that name a graph, and the function that reads it from them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.errors import RecipeError

if TYPE_CHECKING:
    from graphfm.graphs.readers.options import ReadGraph, Reading

PANEL = "Input"
GRAPH_HELP = (
    "A catalog id; an edge list (.csv, .tsv, .parquet, .jsonl, .mtx, also .gz); a folder with "
    "edges.csv and nodes.csv; or a .graphml, .gml, .gexf, .json, .npz, .pt or .h5ad file."
)


class TaskKind(StrEnum):
    """Kind of the labels in a file."""

    AUTO = "auto"
    CLASSIFY = "classify"
    REGRESS = "regress"


class Unknown(StrEnum):
    """Rule for edges with an end that is not in the node table."""

    ERROR = "error"
    DROP = "drop"
    ADD = "add"


class Duplicates(StrEnum):
    """Rule for the weights of an edge that is listed more than once."""

    SUM = "sum"
    MEAN = "mean"
    FIRST = "first"
    ERROR = "error"


GraphOption = Annotated[str, typer.Option(help=GRAPH_HELP, rich_help_panel=PANEL)]
GraphArgument = Annotated[str, typer.Argument(help=GRAPH_HELP)]
NodesOption = Annotated[
    Path | None,
    typer.Option(help="Node table beside an edge list.", rich_help_panel=PANEL),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        help="Column (node attribute) to predict; several labels: a,b,c or 'label_*'.",
        rich_help_panel=PANEL,
    ),
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Columns to use as features; also 'x_*', '!a' for all but a, or none. Default: all.",
        rich_help_panel=PANEL,
    ),
]
DropOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        help="Columns that do not become features; also 'x_*'. The same as --features '!a,!b'.",
        rich_help_panel=PANEL,
    ),
]
HeaderOption = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line of the edge list names its columns. Default: detected.",
        rich_help_panel=PANEL,
    ),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column with one end of an edge. Default: source, src, from, ... or the first.",
        rich_help_panel=PANEL,
    ),
]
DestinationOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column with the other end. Default: target, dst, to, ... or the second.",
        rich_help_panel=PANEL,
    ),
]
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLUMN",
        help="Column with node ids. Default: id, node_id, ... or the first.",
        rich_help_panel=PANEL,
    ),
]
DirectedOption = Annotated[
    bool | None,
    typer.Option(
        "--directed/--undirected",
        help="Whether edges are directed. Default: directed if some edge has no reverse.",
        rich_help_panel=PANEL,
    ),
]
UnknownOption = Annotated[
    Unknown,
    typer.Option(
        metavar="RULE",
        help="For edges with an end not in the node table: error, drop, or add the node.",
        rich_help_panel=PANEL,
    ),
]
UnknownLikeFitOption = Annotated[
    Unknown | None,
    typer.Option(
        "--unknown-nodes",
        metavar="RULE",
        help="For edges with an end not in the node table: error, drop, or add the node. "
        "Default: as in the fit.",
        rich_help_panel=PANEL,
    ),
]
DuplicateOption = Annotated[
    Duplicates,
    typer.Option(
        metavar="RULE",
        help="For edges listed with several weights: sum, mean, first or error.",
        rich_help_panel=PANEL,
    ),
]
TaskOption = Annotated[
    TaskKind,
    typer.Option(
        "--task",
        metavar="KIND",
        help="Kind of the target: classify, regress, or auto (regress if it has fractions).",
        rich_help_panel=PANEL,
    ),
]
StripOption = Annotated[
    bool, typer.Option("--strip-ids", help="Remove space around ids.", rich_help_panel=PANEL)
]
ObspOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY", help="Key of the graph to read from an .h5ad file.", rich_help_panel=PANEL
    ),
]

NumberOfSplitOption = Annotated[
    int | None,
    typer.Option(
        "--split",
        min=0,
        metavar="N",
        help="Split to take where the masks of a .pt or .npz file hold several, from 0.",
        rich_help_panel=PANEL,
    ),
]


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the warnings that are logged meanwhile, in order."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    collector = Collector(level=logging.WARNING)
    logger = logging.getLogger("graphfm")
    logger.addHandler(collector)
    try:
        yield lines
    finally:
        logger.removeHandler(collector)


def read_input(text: str, *, like: Reading | None = None, **flags: Any) -> ReadGraph:
    """Read the graph that ``--graph`` names, with the options beside it.

    Args:
        text: A file, a folder, or a catalog id.
        like: How the graph of a fit was read; its options count where no flag is given.
        **flags: Fields of :class:`graphfm.graphs.readers.options.ReadOptions`, and ``drop``; None,
            and False for ``strip_ids``, means that the flag is not given.

    Raises:
        DataError: See :func:`graphfm.graphs.inputs.read_graph`.
        RecipeError: GFM210 for an option of files beside a catalog id.
    """
    from graphfm.graphs.inputs import is_file, read_graph
    from graphfm.graphs.readers.options import ReadOptions

    default = ReadOptions()
    flags["strip_ids"] = flags.get("strip_ids") or None
    drop = flags.pop("drop", None)
    if drop is not None:
        kept = [flags["features"]] if flags.get("features") else []
        gone = ["!" + name.strip() for name in drop.split(",")]
        flags["features"] = ",".join([*kept, *gone])
    given: dict[str, Any] = {
        name: value.value if isinstance(value, StrEnum) else value
        for name, value in flags.items()
        if value is not None
    }
    if is_file(text):
        target = given.pop("target", None)
        options = replace(like.options if like else default, **{"nodes": None, **given})
        return read_graph(text, target=target, options=options, like=like)
    changed = {name for name, value in given.items() if value != getattr(default, name)}
    if changed:
        first = {"source", "destination", "directed"} & changed or changed
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(first))
        raise RecipeError(
            "GFM210",
            f"{named} is about a file, but {text!r} is not a file",
            fix=f"check the path, or leave {named} out for a graph of the catalog",
        )
    return read_graph(text)
