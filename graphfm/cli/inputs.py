"""What ``--graph`` may name, the options that go with it, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.errors import RecipeError

if TYPE_CHECKING:
    from graphfm.graphs.columns import Column
    from graphfm.graphs.files import ReadOptions
    from graphfm.graphs.graph import Graph

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


@dataclass(frozen=True, kw_only=True)
class GraphInput:
    """A graph as it was asked for; :meth:`to_json` is kept beside a fitted model.

    Args:
        graph: It.
        options: How it was read.
        plan: How the columns of its table became features; None without a table.
    """

    graph: Graph
    options: ReadOptions
    plan: tuple[Column, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """What reading a further graph in the same way needs."""
        from graphfm.graphs.columns import plan_to_json

        kept = ("source", "destination", "id", "directed", "duplicate_weights", "strip_ids",
                "features", "obsp")  # fmt: skip
        return {
            **{name: getattr(self.options, name) for name in kept},
            "task": "regress" if self.graph.task.kind == "regress" else "classify",
            "columns": None if self.plan is None else plan_to_json(self.plan),
        }


def read_graph(text: str, *, target: str | None = None, need_target: bool = True) -> Graph:
    """Read a graph from a file, or from the catalog by its id.

    Args:
        text: The file, folder or id.
        target: Column to predict, for a file; the catalog knows its own labels.
        need_target: Whether a file without that column is an error.

    Raises:
        DataError: As :func:`read_input`.
    """
    return read_input(text, target=target, need_target=need_target).graph


def read_input(text: str, *, like: dict[str, Any] | None = None, **options: Any) -> GraphInput:
    """Read a graph as the command line asks for it.

    Args:
        text: A file, a folder, or an id of the catalog.
        like: What :meth:`GraphInput.to_json` gave for the graph that a model was fitted to: its
            options count where none are given, and its columns become the same features.
        **options: The fields of :class:`graphfm.graphs.files.ReadOptions`; None = not given.

    Raises:
        DataError: For whatever is wrong with the file, GFM120 for an id that is not there.
        RecipeError: GFM210 for an option of files beside a catalog id.
    """
    from graphfm.graphs.columns import plan_from_json
    from graphfm.graphs.files import ReadOptions, is_graph_file, read_file

    like = dict(like or {})
    columns = like.pop("columns", None)
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if options.get("directed") is False:
        given["directed"] = False
    for choice in ("unknown_nodes", "duplicate_weights", "task"):
        if choice in given:
            given[choice] = str(given[choice])
    need_target = bool(options.get("need_target", True))
    if is_graph_file(text):
        asked = ReadOptions(**{**like, **given, "need_target": need_target})
        plan = None if columns is None else plan_from_json(columns)
        read = read_file(Path(text), asked, plan=plan)
        return GraphInput(graph=read.graph, options=asked, plan=read.plan)
    usual = {"unknown_nodes": "error", "duplicate_weights": "sum", "task": "auto"}
    for choice in usual:
        if given.get(choice) == usual[choice]:
            del given[choice]
    given.pop("need_target", None)
    if given:
        flags = {"source", "destination", "directed"} & given.keys() or given.keys()
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(flags))
        raise RecipeError(
            "GFM210",
            f"{named} is about a file, but {text!r} is not a file",
            fix=f"check the path, or leave {named} out for a graph of the catalog",
        )
    from graphfm.graphs.catalog import Catalog

    return GraphInput(graph=Catalog.read().load(text), options=ReadOptions())
