"""The graphs that models are judged on: a suite by name, or a folder with a ``MANIFEST.csv``.

The folder is laid out as the real-data bundle: a row of the manifest is a root of PyG's raw files
(``pyg_class``, ``root``, ``name``) or, without a class, one ``.npz`` (``name``, or ``npz/ID.npz``).
What the catalog knows of an id holds: how it is read, and its group.
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
    "pretraining": "its real graphs to learn from that are here, for choosing between ideas",
}
MANIFEST = "MANIFEST.csv"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Graphs by id, the smallest first.

    Args:
        name: As it was asked for.
        groups: Group of each graph, by id.
        sources: How each is read, where that is not the catalog's to say.
        folder: Where these lie.
    """

    name: str
    groups: Mapping[str, str]
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)
    folder: Path | None = None

    def load(self, id: str) -> Graph:
        """One of its graphs."""
        if self.folder is None:
            return Catalog.read().load(id)
        return self.sources[id].build(name=id, data=self.folder)

    def only(self, ids: list[str]) -> Suite:
        """The same with some of its graphs.

        Raises:
            DataError: GFM711 for an id that it has not.
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
    """A suite by its name, or by the folder that holds it.

    Raises:
        DataError: GFM711 for one that is neither, or whose manifest cannot be used.
    """
    if name not in NAMED:
        if Path(name).is_dir():
            return _of_folder(Path(name))
        raise DataError(
            "GFM711",
            f"no suite {name!r}.{did_you_mean(name, NAMED)}",
            fix=f"choose one of {', '.join(NAMED)}, or a folder with a {MANIFEST}",
        )
    catalog = Catalog.read()
    entries = [e for e in catalog.entries.values() if e.task == "classify"]
    if name == "pretraining":
        fits = [
            e
            for e in entries
            if e.role == "pretraining"
            and not (e.synthetic or e.size == "large")
            and e.group not in catalog.judged_groups
            and catalog.is_here(e.id)
        ]
    else:
        fits = [e for e in entries if e.role == "evaluation"]
    if not fits:
        raise DataError(
            "GFM711",
            f"suite {name} has no graph whose raw files are here",
            where=str(data_folder()),
            fix="set GRAPHFM_DATA to the folder that holds them, or graphfm datasets fetch",
        )
    fits.sort(key=lambda e: e.num_nodes or 0)
    return Suite(name=name, groups={e.id: e.group for e in fits})


def _of_folder(folder: Path) -> Suite:
    """Every row of its manifest that is not there to learn from."""
    path = folder / MANIFEST
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "GFM711",
            f"a folder of graphs needs a table {MANIFEST}: {error}",
            where=str(folder),
            fix="write one with the columns id, role, group, pyg_class, root, name, nodes",
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
                "a graph has no id" if not id else f"the id {id!r} is there twice",
                where=str(path),
                fix="ids are compared in small letters, with - for _",
            )
        entry = catalog.entries.get(id)
        given = (row.get("group") or id).replace("_", "-").lower()
        groups[id] = given if entry is None else entry.group
        sources[id] = _source(row, id, entry, folder, at)
    if not groups:
        raise DataError(
            "GFM711",
            f"{MANIFEST} names no graph to judge on",
            where=str(path),
            why="rows of role pretraining are left out",
        )
    return Suite(name=folder.name, groups=groups, sources=sources, folder=folder.resolve())


def _source(
    row: Mapping[str, str], id: str, entry: DatasetSpec | None, folder: Path, at: str
) -> SourceConfig:
    """How a row is read: as the catalog says where those files are here, else as the row says."""
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
    """The fields of ``sources/pyg.py`` for a root of raw files."""
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
        # Only what belongs to this name: a root of TU datasets holds a hundred others.
        "raw": found[0].relative_to(folder / root).as_posix() if found else "",
        "args": {"use_node_attr": True, "cleaned": True} if cleaned else {},
    }


def _num_nodes(row: Mapping[str, str]) -> int:
    text = (row.get("nodes") or "").replace(",", "")
    return int(text) if text.isdigit() else 0
