"""``graphfm datasets list | show | stats | prepare | verify | landscape | audit``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from graphfm.cli.audit import audit
from graphfm.cli.inputs import (
    DestinationOption,
    DirectedOption,
    DropOption,
    FeaturesOption,
    GraphArgument,
    HeaderOption,
    IdOption,
    NodesOption,
    NumberOfSplitOption,
    ObspOption,
    SourceOption,
    StripOption,
    TargetOption,
    Unknown,
    UnknownOption,
    collected_warnings,
    read_input,
)
from graphfm.cli.landscape import landscape
from graphfm.cli.terminal import brief, next_step, note, pairs, show, show_json, table
from graphfm.errors import RecipeError

app = typer.Typer(
    no_args_is_help=True, help="List, describe, prepare and check graphs of the catalog."
)


@app.command("list")
def list_datasets(
    role: Annotated[str | None, typer.Option(help="pretraining or evaluation.")] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain.")] = None,
    mixture: Annotated[str | None, typer.Option(help="Only the graphs of this mixture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the graphs of the catalog. No graph is read or fetched."""
    from graphfm.cli.description import counts
    from graphfm.graphs.catalog.catalog import Catalog

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
        show_json([entry.model_dump(mode="json") for entry in entries])
        return
    head = ["id", "nodes", "edges", "features", "classes", "domain", "role"]
    rows = [[e.id, *counts(e).values(), e.domain, e.role] for e in entries]
    show(table(rows, head=head))
    if any(e.counts == "published" for e in entries):
        note("~ the published count, which we have not measured")
    note(f"{len(entries)} graphs; mixtures: {', '.join(catalog.mixtures)}")
    here = next((entry.id for entry in entries if catalog.is_here(entry.id)), None)
    next_step(*(["graphfm datasets list"] if here is None else ["graphfm datasets stats", here]))


@app.command("show")
def show_entry(
    name: Annotated[str, typer.Argument(help="Id of a graph, or name of a mixture.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the catalog's entry of a graph, or a mixture. No graph is read or fetched."""
    from graphfm.graphs.catalog.catalog import Catalog

    catalog = Catalog.read()
    if name in catalog.mixtures:
        weights = catalog.mixture(name)
        facts = {"name": name, **catalog.mixtures[name], "graphs": weights}
        if not as_json:
            total = sum(weights.values())
            rows = [[id, f"{weight / total:.2%}"] for id, weight in weights.items()]
            show(table(rows, head=["id", "share of visits"]))
            note(f"{len(weights)} graphs. {catalog.mixtures[name].get('about', '')}")
    else:
        entry = catalog.entry(name)
        facts = {**entry.model_dump(mode="json"), "here": catalog.is_here(entry.id)}
        facts["files"] = catalog.files(entry.id)
        if not as_json:
            show(
                pairs(
                    {
                        key: value if isinstance(value, str) else brief(value)
                        for key, value in facts.items()
                        if value not in ("", [], None)
                    }
                )
            )
    if as_json:
        show_json(facts)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Ids. Default: all graphs whose files are here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare raw files with their known hashes, and check the cached graphs.

    The exit code is 3 if a file differs. Nothing is fetched.
    """
    from graphfm.graphs.catalog.catalog import Catalog

    catalog = Catalog.read()
    ids = [catalog.entry(name).id for name in names or []]
    found = {id: catalog.verify(id) for id in ids or catalog.entries if ids or catalog.is_here(id)}
    bad = {id: state for id, state in found.items() if state.startswith("GFM")}
    if as_json:
        show_json(found)
    else:
        show(table([[id, state] for id, state in found.items()], head=["id", "raw files"]))
    if bad:
        note(f"{len(bad)} of {len(found)} graphs have a damaged or altered file")
        raise typer.Exit(3)


@app.command()
def stats(
    graph: GraphArgument,
    nodes: NodesOption = None,
    target: TargetOption = None,
    features: FeaturesOption = None,
    drop: DropOption = None,
    header: HeaderOption = None,
    source: SourceOption = None,
    destination: DestinationOption = None,
    id: IdOption = None,
    directed: DirectedOption = None,
    unknown_nodes: UnknownOption = Unknown.ERROR,
    strip_ids: StripOption = False,
    obsp: ObspOption = None,
    split: NumberOfSplitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Describe a graph: size, degrees, labels, homophily."""
    from graphfm.cli.description import graph_lines, suggest_fit
    from graphfm.graphs.statistics import describe

    with collected_warnings() as warnings:
        given = read_input(
            graph,
            nodes=nodes,
            target=target,
            features=features,
            drop=drop,
            header=header,
            source=source,
            destination=destination,
            id=id,
            directed=directed,
            unknown_nodes=unknown_nodes,
            strip_ids=strip_ids,
            obsp=obsp,
            split=split,
        )
    facts = describe(given.graph)
    if as_json:
        show_json({**facts, "warnings": warnings})
        return
    show(graph_lines(facts))
    flag = [] if target is None else ["--target", target]
    flag += [] if nodes is None else ["--nodes", str(nodes)]
    suggest_fit(given.graph, graph, *flag)


@app.command()
def prepare(
    names: Annotated[list[str] | None, typer.Argument(help="Ids.")] = None,
    mixture: Annotated[str | None, typer.Option(help="All graphs of this mixture.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All graphs whose raw files are here.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of processes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Read graphs, encode positions, transform features, and cache the results."""
    from graphfm.graphs.catalog.catalog import Catalog, data_folder
    from graphfm.graphs.prepare_many import prepare_many
    from graphfm.storage import cache_folder

    catalog = Catalog.read()
    ids = [catalog.entry(name).id for name in names or []]
    ids += list(catalog.mixture(mixture)) if mixture else []
    if every:
        here = [id for id in catalog.entries if catalog.is_here(id)]
        ids += here
        if len(here) < len(catalog.entries):
            gone = len(catalog.entries) - len(here)
            note(
                f"{gone} graphs are left out, because their raw files are not below {data_folder()}"
            )
    if not ids:
        raise RecipeError(
            "GFM210", "no graphs were named", fix="give ids, or --mixture NAME, or --all"
        )
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


app.command()(landscape)
app.command()(audit)
