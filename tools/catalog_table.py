"""Write datasets/README.md: every graph of the catalog in one table.

    python tools/catalog_table.py > datasets/README.md

It reads the entries only, so it says the same on every machine.
"""

from __future__ import annotations

from collections import Counter

from graphfm.cli.description import counts
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.catalog.fetch import known_hashes
from graphfm.graphs.spec import DatasetSpec

HEAD = """\
# The catalog

{num} graphs: {real} real, {synthetic} synthetic. One entry each in the YAML files of this
folder; this page is written by `tools/catalog_table.py`, and a test holds it to the entries.

- **~** a count as published, not measured by us; **?** not said. An undirected edge counts twice.
- **hashes** `shipped`: each raw file is checked against `sha256.txt`. `first use`: we could not
  fetch it, so its hash is recorded when it is first fetched and checked from then on. `by hand`: no
  address is known from which the same bytes come; it is read where it lies under `GRAPHFM_DATA`.
  `none`: comes with a package, or is generated.
- **personal** rows are people's attributes; a mixture leaves them out with
  `exclude: [{{personal: true}}]`.
- **judged** models are judged on it (`role: evaluation`), or it is of a group with such a graph: no
  mixture may hold it.
- **large** too large to prepare on a machine with 24 GiB.

Look at one: `graphfm datasets show ID`, `graphfm datasets stats ID`. Add one: an entry, then this
page.
"""


def hashes(catalog: Catalog, entry: DatasetSpec) -> str:
    """How the raw files of an entry are known to be the right ones."""
    known = known_hashes()
    files = [file["path"] for file in catalog.files(entry.id)]
    if entry.source["kind"] in {"npz", "edgelist"} or entry.source.get("root") or files:
        own = [path for path in known if _reads(entry, path)]
        if own:
            return "shipped"
        return "first use" if files else "by hand"
    return "none"


def _reads(entry: DatasetSpec, path: str) -> bool:
    source = entry.source
    if source.get("root"):
        return path.startswith(f"{source['root']}/{source.get('raw', '')}/")
    return path in {source.get("file"), source.get("edges"), source.get("labels")}


def marks(entry: DatasetSpec, judged: dict[str, str]) -> str:
    """What a person should know before taking a graph."""
    said = {
        "personal": entry.personal,
        "judged": entry.group in judged,
        "large": entry.size == "large",
    }
    return ", ".join(word for word, true in said.items() if true)


def row(cells: list[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Print the page."""
    catalog = Catalog.read()
    entries = sorted(catalog.entries.values(), key=lambda e: (e.domain, e.id))
    synthetic = sum(entry.synthetic for entry in entries)
    print(HEAD.format(num=len(entries), real=len(entries) - synthetic, synthetic=synthetic))
    print("## Mixtures\n")
    print(row(["mixture", "graphs", "about"]) + "\n|---|---:|---|")
    for name, raw in catalog.mixtures.items():
        print(row([f"`{name}`", str(len(catalog.mixture(name))), raw.get("about", "")]))
    print("\n## Domains\n")
    print(row(["domain", "graphs"]) + "\n|---|---:|")
    for domain, num in Counter(entry.domain for entry in entries).most_common():
        print(row([domain, str(num)]))
    print("\n## Graphs\n")
    head = ["id", "title", "nodes", "edges", "features", "classes", "split", "group", "marks"]
    print(row([*head, "licence", "hashes", "citation"]))
    print("|---|---" + "|---:" * 4 + "|---" * 6 + "|")
    for entry in entries:
        cells = [f"`{entry.id}`", entry.title, *counts(entry).values(), entry.split, entry.group]
        cells += [marks(entry, catalog.judged_groups), entry.license]
        print(row([*cells, hashes(catalog, entry), entry.citation]))


if __name__ == "__main__":
    main()
