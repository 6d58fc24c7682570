"""Suites: the graphs of a benchmark, by name or from a folder with a ``MANIFEST.csv``.

The folder has the layout of the real-data bundle. A row of the manifest names a root of PyG's raw
files (``pyg_class``, ``root``, ``name``) or, without a class, one ``.npz`` (``name``, or
``npz/ID.npz``). For ids of the catalog, the catalog's source and group take precedence.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphfm.config.parts import config_class, did_you_mean, validated
from graphfm.errors import DataError, OfflineError
from graphfm.graphs.catalog.catalog import Catalog, data_folder
from graphfm.graphs.catalog.source import SourceConfig
from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import DatasetSpec

NAMED = {
    "evaluation-15": "the evaluation graphs of the catalog",
    "corpus-groups": "one real pretraining graph of each group on this machine, for models that "
    "learned nothing from it; the pool of experts was designed on these graphs",
    "pretraining": "the real pretraining graphs on this machine, for decisions during development",
}
# With fewer nodes a test set has less than 30; a large graph would take hours for one peer.
CORPUS_NODES = range(100, 60_001)
MANIFEST = "MANIFEST.csv"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Graphs of a benchmark, the smallest first.

    Args:
        name: Name of the suite.
        groups: Group of each graph, by id.
        sources: Source of each graph, by id, for a suite from a folder. Default: the catalog's.
        folder: Folder of these sources. Default: none.
    """

    name: str
    groups: Mapping[str, str]
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)
    folder: Path | None = None

    def load(self, id: str) -> Graph:
        """Load one graph of the suite."""
        if self.folder is None:
            return Catalog.read().load(id)
        return self.sources[id].build(name=id, data=self.folder)

    def only(self, ids: list[str]) -> Suite:
        """Return a suite with some of the graphs.

        Raises:
            DataError: GFM711 for an id outside the suite.
        """
        wanted = [id.replace("_", "-").lower() for id in ids]
        for id in wanted:
            if id not in self.groups:
                raise DataError(
                    "GFM711",
                    f"suite {self.name} has no graph {id!r}.{did_you_mean(id, self.groups)}",
                    fix=f"choose among {', '.join(self.groups)}",
                )
        groups = {id: group for id, group in self.groups.items() if id in wanted}
        return Suite(name=self.name, groups=groups, sources=self.sources, folder=self.folder)


def read_suite(name: str) -> Suite:
    """Read a suite by name or from a folder.

    Raises:
        DataError: GFM711 for an unknown name or an unusable manifest.
    """
    if name not in NAMED:
        if Path(name).is_dir():
            return _read_folder(Path(name))
        raise DataError(
            "GFM711",
            f"unknown suite {name!r}.{did_you_mean(name, NAMED)}",
            fix=f"choose {' or '.join(NAMED)}, or a folder with a {MANIFEST}",
        )
    catalog = Catalog.read()
    entries = [e for e in catalog.entries.values() if e.task == "classify"]
    if name == "evaluation-15":
        chosen = [e for e in entries if e.role == "evaluation"]
    else:
        chosen = [
            e
            for e in entries
            if e.role == "pretraining"
            and not (e.synthetic or e.size == "large")
            and e.group not in catalog.judged_groups
            and catalog.is_here(e.id)
        ]
    if name == "corpus-groups":
        usable = [e for e in chosen if e.num_nodes in CORPUS_NODES]
        largest = {e.group: e for e in sorted(usable, key=lambda e: (e.num_nodes or 0, e.id))}
        chosen = list(largest.values())
    if not chosen:
        raise DataError(
            "GFM711",
            f"the raw files of suite {name} are not on this machine",
            where=str(data_folder()),
            fix="set GRAPHFM_DATA to their folder, or run graphfm datasets fetch",
        )
    chosen.sort(key=lambda e: e.num_nodes or 0)
    return Suite(name=name, groups={e.id: e.group for e in chosen})


def _read_folder(folder: Path) -> Suite:
    """Read the rows of a manifest, except those with the role ``pretraining``."""
    path = folder / MANIFEST
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "GFM711",
            f"cannot read {MANIFEST} of this folder: {error}",
            where=str(folder),
            fix=f"write {MANIFEST} with the columns id, role, group, pyg_class, root, name, nodes",
        ) from None
    rows = [row for row in rows if row.get("role") != "pretraining"]
    catalog = Catalog.read()
    groups: dict[str, str] = {}
    sources: dict[str, SourceConfig] = {}
    for row in sorted(rows, key=_num_nodes):
        id = (row.get("id") or "").strip().replace("_", "-").lower()
        at = f"{path}, {row.get('id')!r}"
        if not id or id in groups:
            raise DataError(
                "GFM711",
                "a row has no id" if not id else f"two rows have the id {id!r}",
                where=str(path),
                fix="make ids unique; they are compared in lower case, with - for _",
            )
        entry = catalog.entries.get(id)
        given = (row.get("group") or id).replace("_", "-").lower()
        groups[id] = given if entry is None else entry.group
        sources[id] = _source(row, id, entry, folder, at)
    if not groups:
        raise DataError(
            "GFM711",
            f"{MANIFEST} lists no graph to benchmark on",
            where=str(path),
            why="rows of role pretraining are left out",
        )
    return Suite(name=folder.name, groups=groups, sources=sources, folder=folder.resolve())


def _source(
    row: Mapping[str, str], id: str, entry: DatasetSpec | None, folder: Path, at: str
) -> SourceConfig:
    """Choose the source of a row: the catalog's if its files are here, else the row's own."""
    if entry is not None:
        known = _validated(entry.source, at)
        try:
            known.raw_files(folder)
        except OfflineError:
            pass
        else:
            return known
    if row.get("pyg_class"):
        return _validated(_pyg(row, folder), at)
    return _validated({"kind": "npz", "file": row.get("name") or f"npz/{row['id']}.npz"}, at)


def _validated(raw: dict[str, Any], at: str) -> SourceConfig:
    found: SourceConfig = validated(
        config_class("graphs.catalog.sources", str(raw["kind"])), raw, path=at
    )
    return found


def _pyg(row: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Return the fields of ``sources/pyg.py`` for a root of raw files."""
    root, name = row.get("root") or row["pyg_class"], row.get("name") or ""
    cleaned = row["pyg_class"] == "TUDataset"
    found = [
        path
        for path in sorted((folder / root).rglob("raw_cleaned" if cleaned else "raw"))
        if not name or name.lower() in (part.lower() for part in path.parts)
    ]
    return {
        "kind": "pyg",
        "dataset": row["pyg_class"],
        "root": root,
        "name": name,
        # Only the files of this name: a root of TU datasets holds a hundred others.
        "raw": found[0].relative_to(folder / root).as_posix() if found else "",
        "args": {"use_node_attr": True, "cleaned": True} if cleaned else {},
    }


def _num_nodes(row: Mapping[str, str]) -> int:
    text = (row.get("nodes") or "").replace(",", "")
    return int(text) if text.isdigit() else 0
