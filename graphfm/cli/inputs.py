"""What ``--graph`` may name, the options that go with it, and how it is read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass

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
