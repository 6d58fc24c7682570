"""Options of the command line that name a graph, and the way from them to the graph."""

from __future__ import annotations

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
    "A catalog id; an edge list (.csv, .tsv, .parquet, also .gz); a folder with edges.csv and "
    "nodes.csv; or a .graphml, .gml, .gexf, .npz, .pt or .h5ad file."
)


class TaskKind(StrEnum):
    """What the target of a file is."""

    AUTO = "auto"
    CLASSIFY = "classify"
    REGRESS = "regress"


class Unknown(StrEnum):
    """What becomes of an edge whose end the node table does not have."""

    ERROR = "error"
    DROP = "drop"
    ADD = "add"


class Duplicates(StrEnum):
    """What becomes of the weights of an edge that is listed more than once."""

    SUM = "sum"
    MEAN = "mean"
    FIRST = "first"
    ERROR = "error"


GraphOption = Annotated[str, typer.Option(help=GRAPH_HELP, rich_help_panel=PANEL)]
GraphArgument = Annotated[str, typer.Argument(help=GRAPH_HELP)]
NodesOption = Annotated[
    Path | None,
    typer.Option(help="The node table that goes with an edge list.", rich_help_panel=PANEL),
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
        help="Columns to use as features; also 'x_*', or none. Default: all.",
        rich_help_panel=PANEL,
    ),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="One end of an edge. Default: source, src, from, ... or the first column.",
        rich_help_panel=PANEL,
    ),
]
DestinationOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The other end. Default: target, dst, to, ... or the second column.",
        rich_help_panel=PANEL,
    ),
]
IdOption = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="COLUMN",
        help="Node ids. Default: id, node_id, ... or the first column.",
        rich_help_panel=PANEL,
    ),
]
DirectedOption = Annotated[
    bool | None,
    typer.Option(
        "--directed/--undirected",
        help="What a line of the edge list stands for. Default: looked at.",
        rich_help_panel=PANEL,
    ),
]
UnknownOption = Annotated[
    Unknown,
    typer.Option(
        metavar="RULE",
        help="Edges whose ends the node table does not have: error, drop, or add the nodes.",
        rich_help_panel=PANEL,
    ),
]
UnknownLikeFitOption = Annotated[
    Unknown | None,
    typer.Option(
        "--unknown-nodes",
        metavar="RULE",
        help="Edges whose ends the node table does not have: error, drop, or add the nodes. "
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
        help="Of the target: classify, regress, or auto: a number if it has fractions.",
        rich_help_panel=PANEL,
    ),
]
StripOption = Annotated[
    bool, typer.Option("--strip-ids", help="Cut space around ids.", rich_help_panel=PANEL)
]
ObspOption = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Which graph of an .h5ad.", rich_help_panel=PANEL),
]


def read_input(text: str, *, like: Reading | None = None, **flags: Any) -> ReadGraph:
    """Read the graph that ``--graph`` names, with the options beside it.

    Args:
        text: A file, a folder, or a catalog id.
        like: How the graph of a fit was read; its options count where no flag is given.
        **flags: Fields of :class:`graphfm.graphs.readers.options.ReadOptions`; None, and False for
            ``strip_ids``, means that the flag is not given.

    Raises:
        DataError: See :func:`graphfm.graphs.inputs.read_graph`.
        RecipeError: GFM210 for an option of files beside a catalog id.
    """
    from graphfm.graphs.inputs import is_file, read_graph
    from graphfm.graphs.readers.options import ReadOptions

    default = ReadOptions()
    flags["strip_ids"] = flags.get("strip_ids") or None
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
