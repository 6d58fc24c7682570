"""``graphfm datasets landscape``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from graphfm.cli.output import check_file
from graphfm.cli.terminal import next_step, note, show, show_json
from graphfm.errors import OutputError
from graphfm.storage import whole_file


def landscape(
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.")] = Path(
        "landscape.png"
    ),
    mixture: Annotated[str | None, typer.Option(help="Only the graphs of this mixture.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the picture.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Draw the graphs whose files are here, by homophily and size. Nothing is fetched."""
    from graphfm.graphs.catalog.catalog import Catalog
    from graphfm.graphs.catalog.landscape import FORMATS, draw_landscape, spots

    if out.suffix not in FORMATS:
        raise OutputError(
            "GFM403", f"--out must end in {', '.join(FORMATS)}, got {out.name!r}", where=str(out)
        )
    check_file(out, overwrite=overwrite)
    catalog = Catalog.read()
    ids = list(catalog.mixture(mixture) if mixture else catalog.entries)
    here = [id for id in ids if catalog.is_here(id)]
    found = spots(catalog, here)
    with whole_file(out) as path:
        draw_landscape(found, path)
    gone, without = len(ids) - len(here), len(here) - len(found)
    if gone:
        note(f"{gone:,} graphs are left out, because their raw files are not here")
    if without:
        note(f"{without:,} graphs are left out, because they have no homophily")
    if as_json:
        show_json(
            {
                "picture": str(out),
                "not_here": gone,
                "without_homophily": without,
                "graphs": [asdict(spot) for spot in found],
            }
        )
        return
    show(f"{out}: {len(found):,} graphs")
    next_step("graphfm datasets stats", found[0].id)
