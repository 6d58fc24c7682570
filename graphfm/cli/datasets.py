"""``graphfm datasets list | stats | prepare``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from graphfm.cli.terminal import next_step, note, show, show_json, table
from graphfm.errors import RecipeError

app = typer.Typer(no_args_is_help=True, help="List, describe and prepare graphs of the catalog.")


@app.command("list")
def list_datasets(
    role: Annotated[str | None, typer.Option(help="pretraining or evaluation.")] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    mixture: Annotated[str | None, typer.Option(help="Only the graphs of this mixture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """List the graphs of the catalog; nothing is read or fetched."""
    from graphfm.graphs.catalog import Catalog

    catalog = Catalog.read()
    among = catalog.mixture(mixture) if mixture else catalog.entries
    entries = [
        entry
        for entry in catalog.entries.values()
        if entry.id in among
        and (role is None or entry.role == role)
        and (domain is None or entry.domain == domain)
    ]
    if as_json:
        show_json(
            {
                "datasets": [entry.model_dump(mode="json") for entry in entries],
                "mixtures": list(catalog.mixtures),
            }
        )
        return
    rows = [
        [
            e.id,
            f"{e.num_nodes:,}",
            f"{e.num_edges:,}",
            f"{e.num_features:,}",
            f"{e.num_classes:,}",
            e.domain,
            e.role,
        ]
        for e in entries
    ]
    show(table(rows, head=["id", "nodes", "edges", "features", "classes", "domain", "role"]))
    note(f"{len(entries)} graphs; mixtures: {', '.join(catalog.mixtures)}")
    next_step(f"graphfm datasets stats {entries[0].id if entries else 'ID'}")


@app.command()
def stats(
    graph: Annotated[str, typer.Argument(help="An id, or a .graphml, .gml or .gexf file.")],
    target: Annotated[
        str | None, typer.Option(help="Node attribute to predict, for a file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Describe one graph: size, degrees, labels, homophily."""
    from graphfm.cli.description import graph_lines
    from graphfm.cli.inputs import read_graph
    from graphfm.graphs.statistics import describe

    facts = describe(read_graph(graph, target=target))
    if as_json:
        show_json(facts)
        return
    show(graph_lines(facts))
    flag = [] if target is None else ["--target", target]
    next_step("graphfm finetune --graph", graph, *flag, "--out", f"runs/{facts['name']}")


@app.command()
def prepare(
    names: Annotated[list[str] | None, typer.Argument(help="Ids.")] = None,
    mixture: Annotated[str | None, typer.Option(help="Every graph of this mixture.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every graph whose raw files are here.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Read graphs and compute what training needs of them, into the cache."""
    from graphfm.graphs.cache import cache_folder
    from graphfm.graphs.catalog import Catalog, data_folder
    from graphfm.graphs.prepare import prepare_many

    catalog = Catalog.read()
    ids = [catalog.entry(name).id for name in names or []]
    ids += list(catalog.mixture(mixture)) if mixture else []
    if every:
        here = [id for id in catalog.entries if catalog.is_here(id)]
        ids += here
        if len(here) < len(catalog.entries):
            gone = len(catalog.entries) - len(here)
            note(f"{gone} graphs are left out: their raw files are not below {data_folder()}")
    if not ids:
        raise RecipeError("GFM210", "which graphs?", fix="name ids, or use --mixture or --all")
    began = time.perf_counter()
    prepared = prepare_many(list(dict.fromkeys(ids)), catalog, jobs=jobs)
    seconds = time.perf_counter() - began
    if as_json:
        show_json(
            {
                "cache": str(cache_folder()),
                "seconds": seconds,
                "prepared": {g.name: [g.num_nodes, g.num_features] for g in prepared},
            }
        )
        return
    rows = [[g.name, f"{g.num_nodes:,}", f"{g.num_features:,}"] for g in prepared]
    show(table(rows, head=["id", "nodes", "features"]))
    note(f"{len(prepared)} graphs in {cache_folder()}, {seconds:.1f} s")
    next_step("graphfm recipes list")
