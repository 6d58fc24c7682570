"""Write datasets/README.md: all graphs of the catalog in one table.

    python tools/catalog_table.py > datasets/README.md

It reads the entries only, so its output is the same on every machine.
"""

from __future__ import annotations

from collections import Counter

from graphfm.cli.description import counts
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.catalog.fetch import known_hashes
from graphfm.graphs.spec import DatasetSpec

HEAD = """\
# The catalog

The catalog has {num} graphs: {real} real, {synthetic} synthetic. Each has one entry in the YAML
files of this folder. `python tools/catalog_table.py > datasets/README.md` writes this page from the
entries; a test compares them.

- **~** is a published count, which we have not measured. **?** is an unknown count. An undirected
  edge counts twice.
- **hashes** tells how raw files are checked. `shipped`: each file is compared with `sha256.txt`.
  `first use`: the hash is recorded when the file is first fetched, and checked from then on.
  `by hand`: no address with the same bytes is known; place the file below `GRAPHFM_DATA`.
  `none`: the graph comes with a package, or is generated.
- **personal**: rows hold attributes of people. A mixture leaves these graphs out with
  `exclude: [{{personal: true}}]`.
- **evaluation**: an evaluation graph (`role: evaluation`), or a graph of the same group. A mixture
  must not hold it.
- **large**: too large to prepare on a machine with 24 GiB of memory.

To see one graph: `graphfm datasets show ID` and `graphfm datasets stats ID`. To add one: write its
entry, then write this page again.
"""


def hashes(catalog: Catalog, entry: DatasetSpec) -> str:
    """Return the way in which the raw files of an entry are checked."""
    known = known_hashes()
    files = [file["path"] for file in catalog.files(entry.id)]
    if entry.source["kind"] in {"npz", "edgelist"} or entry.source.get("root") or files:
        own = [path for path in known if _reads(entry, path)]
        if own:
            return "shipped"
        return "first use" if files else "by hand"
    return "none"


def _reads(entry: DatasetSpec, path: str) -> bool:
    """Return true if a file with a shipped hash belongs to an entry."""
    source = entry.source
    if source.get("root"):
        return path.startswith(f"{source['root']}/{source.get('raw', '')}/")
    return path in {source.get("file"), source.get("edges"), source.get("labels")}


def marks(entry: DatasetSpec, judged: dict[str, str]) -> str:
    """Return the marks of an entry: personal, evaluation, large."""
    found = {
        "personal": entry.personal,
        "evaluation": entry.group in judged,
        "large": entry.size == "large",
    }
    return ", ".join(mark for mark, is_set in found.items() if is_set)


def row(cells: list[str]) -> str:
    """Return a line of a Markdown table."""
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
