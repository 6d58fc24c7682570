"""Catalog of datasets: entries and mixtures of ``datasets/*.yaml``, and their graphs.

Graphs are cached under a hash of their raw files and of the fields and version that read them, so a
cached graph is never out of date.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphfm.config.load import shipped
from graphfm.config.parts import config_class, did_you_mean, validated
from graphfm.config.yaml_text import read_yaml
from graphfm.errors import DataError, OfflineError
from graphfm.graphs.catalog.cache import read_graph, write_graph
from graphfm.graphs.catalog.fetch import fetch, known_hashes, locked_hashes, verify_hash
from graphfm.graphs.catalog.mixture import Mixture, Selector
from graphfm.graphs.catalog.source import SourceConfig
from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import DatasetSpec
from graphfm.storage import cache_folder, file_sha256, from_cache

log = logging.getLogger(__name__)

PARSER_VERSION = 1
"""Raise it when a source reads the same files differently, or when the cache's layout changes."""

# Fields that do not change the graph.
_NOT_IN_KEY = {"url", "files", "max_mb"}


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All graphs and mixtures with a name.

    Args:
        entries: Entries by id, in the order of the files.
        mixtures: Mixtures by name, as in the YAML files.
    """

    entries: dict[str, DatasetSpec]
    mixtures: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path | None = None) -> Catalog:
        """Read every YAML file below a folder.

        Args:
            folder: The folder. Default: the catalog of the package.

        Raises:
            RecipeError: GFM201 or GFM203 for a wrong entry, GFM205 for a file that is not YAML.
            DataError: GFM122 for an id or a mixture that occurs twice.
        """
        folder = folder or shipped("datasets")
        entries: dict[str, DatasetSpec] = {}
        mixtures: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.rglob("*.yaml")):
            content = read_yaml(path) or {}
            for raw in content.get("datasets") or []:
                at = f"{path.name}, {raw.get('id', raw)}"
                entry = validated(DatasetSpec, raw, path=at)
                _add(entries, entry.id, entry, path)
            for name, raw in (content.get("mixtures") or {}).items():
                validated(Mixture, raw, path=f"{path.name}, {name}")
                _add(mixtures, name, raw, path)
        return cls(entries=entries, mixtures=mixtures)

    def entry(self, id: str) -> DatasetSpec:
        """Return an entry; in the id, ``_`` equals ``-`` and capitals equal small letters.

        Raises:
            DataError: GFM120 for an id that is not in the catalog.
        """
        wanted = id.replace("_", "-").lower()
        if wanted not in self.entries:
            raise DataError(
                "GFM120",
                f"no dataset {id!r} in the catalog.{did_you_mean(wanted, self.entries)}",
                fix="graphfm datasets list shows them all",
            )
        return self.entries[wanted]

    def mixture(self, name: str) -> dict[str, float]:
        """Return the relative weight of each graph of a mixture, by id.

        Raises:
            DataError: GFM120 for an unknown name or id, GFM136 if the mixture holds an evaluation
                graph, or a graph of the same group.
        """
        if name not in self.mixtures:
            raise DataError(
                "GFM120",
                f"no mixture {name!r} in the catalog.{did_you_mean(name, self.mixtures)}",
                fix=f"choose one of {', '.join(self.mixtures)}",
            )
        mixture = validated(Mixture, self.mixtures[name], path=name)
        chosen = {id for pick in mixture.include for id in self._matching(pick, name)}
        chosen -= {id for pick in mixture.exclude for id in self._matching(pick, name)}
        self._refuse_evaluation(chosen, name)
        return mixture.weigh({id: e for id, e in self.entries.items() if id in chosen})

    def fetch(self, id: str) -> tuple[SourceConfig, Path]:
        """Return the source of an entry and the folder of its raw files; fetch them if needed.

        Files below the data folder are only read. Fetched files go to the cache folder.

        Raises:
            DataError: GFM120 for an unknown id, GFM140 to GFM142 for files that fail a check.
            OfflineError: GFM401 for raw files that are missing here and cannot be fetched.
        """
        entry = self.entry(id)
        for source in _sources(entry):
            for data in (data_folder(), fetched_folder()):
                if _is_here(source, data):
                    return source, data
        for source in _sources(entry):
            if files := source.downloads():
                fetch(files, fetched_folder())
                return source, fetched_folder()
        source = _sources(entry)[0]
        source.raw_files(data_folder())  # raises GFM401 with the missing files
        return source, data_folder()

    def load(self, id: str) -> Graph:
        """Return the graph of an entry, from the cache or, the first time, from its raw files.

        Raises:
            DataError: The errors of :meth:`fetch`; GFM103 or GFM138 for damaged raw files, GFM143
                for a graph whose size differs from its entry.
            OfflineError: The errors of :meth:`fetch`.
        """
        entry = self.entry(id)
        source, data = self.fetch(id)
        graph = from_cache(
            cache_folder() / "graphs" / _key(entry.id, source, data),
            read=read_graph,
            make=lambda: source.build(name=entry.id, data=data),
            write=write_graph,
            name=entry.id,
        )
        _check_counts(entry, graph)
        return graph

    def is_here(self, id: str) -> bool:
        """Return true if an entry needs no raw files, or if they are on this machine."""
        folders = (data_folder(), fetched_folder())
        return any(_is_here(s, data) for s in _sources(self.entry(id)) for data in folders)

    def is_cached(self, id: str) -> bool:
        """Return true if the cache holds the graph of an entry."""
        return (cache_folder() / "graphs" / _key(id, *self.fetch(id))).is_dir()

    def files(self, id: str) -> list[dict[str, str]]:
        """Return the raw files of an entry that can be fetched, with their addresses and hashes."""
        known, locked = known_hashes(), locked_hashes(fetched_folder())
        return [
            {**file.model_dump(), "sha256": known.get(file.path) or locked.get(file.path, "")}
            for source in _sources(self.entry(id))
            for file in source.downloads()
        ]

    def verify(self, id: str) -> str:
        """Check the raw files of an entry by their hashes, and its cached graph; fetch nothing.

        Returns:
            The result in words; a fault begins with its GFM code.
        """
        if not self.is_here(id):
            return "not here"
        source, data = self.fetch(id)
        try:
            folder = cache_folder() / "graphs" / _key(id, source, data)
            if folder.is_dir():
                read_graph(folder)
        except Exception as error:  # a damaged cache fails in many ways
            return str(error) if isinstance(error, DataError) else f"GFM139  {error}"
        paths = {path.relative_to(data).as_posix() for path in source.raw_files(data)}
        known = len(paths & known_hashes().keys())
        locked = len(paths & locked_hashes(fetched_folder()).keys()) if data != data_folder() else 0
        kinds = {
            "as shipped": known,
            "as first fetched": locked,
            "without a known hash": len(paths) - known - locked,
        }
        return ", ".join(f"{n} {kind}" for kind, n in kinds.items() if n) or "needs no file"

    @property
    def judged_groups(self) -> dict[str, str]:
        """Evaluation graph of each group that holds one."""
        return {e.group: e.id for e in self.entries.values() if e.role == "evaluation"}

    def _matching(self, pick: str | Selector, name: str) -> list[str]:
        """Return the ids that a glob or a selector of a mixture matches."""
        selector = Selector(id=pick) if isinstance(pick, str) else pick
        judged = self.judged_groups
        found = [id for id, entry in self.entries.items() if selector.fits(entry, judged)]
        if not found:
            hint = did_you_mean(pick, self.entries) if isinstance(pick, str) else ""
            raise DataError("GFM120", f"{pick!r} matches no dataset.{hint}", where=name)
        return found[: selector.first]

    def _refuse_evaluation(self, chosen: set[str], name: str) -> None:
        """Raise GFM136 if a mixture holds graphs of an evaluation group."""
        judged = self.judged_groups
        leaks = [id for id in sorted(chosen) if self.entries[id].group in judged]
        if leaks:
            group = self.entries[leaks[0]].group
            raise DataError(
                "GFM136",
                f"a mixture must not hold an evaluation graph or its group, but {', '.join(leaks)} "
                f"{'is' if len(leaks) == 1 else 'are'} of an evaluation group",
                where=name,
                why=f"group {group!r} holds the evaluation graph {judged[group]}",
                fix="exclude them from the mixture",
            )


def data_folder() -> Path:
    """Return the folder of raw files, for reading: ``GRAPHFM_DATA``, else the fetched one."""
    given = os.environ.get("GRAPHFM_DATA")
    return Path(given) if given else cache_folder() / "data"


def fetched_folder() -> Path:
    """Return the folder of fetched raw files; it has the layout of the data folder."""
    return cache_folder() / "data"


def _sources(entry: DatasetSpec) -> list[SourceConfig]:
    """Return the sources that an entry can be read from, the first choice first."""
    found = []
    for field in ("source", "origin"):
        if raw := getattr(entry, field):
            kind = config_class("graphs.catalog.sources", str(raw.get("kind")))
            found.append(validated(kind, raw, path=f"{entry.id}.{field}"))
    return found


def _is_here(source: SourceConfig, data: Path) -> bool:
    """Return true if all raw files of a source lie below a folder."""
    try:
        source.raw_files(data)
    except OfflineError:
        return False
    return True


def _key(id: str, source: SourceConfig, data: Path) -> str:
    """Return the cache key of a graph: a hash of its raw files and of the fields of its source."""
    raw = []
    for path in source.raw_files(data):
        hashed = file_sha256(path)
        verify_hash(path.relative_to(data).as_posix(), hashed, where=path)
        raw.append((path.name, hashed))
    fields = source.model_dump(mode="json", exclude=_NOT_IN_KEY)
    whole = [PARSER_VERSION, id, fields, raw]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _check_counts(entry: DatasetSpec, graph: Graph) -> None:
    """Compare the size of a graph with its entry."""
    have = {field: getattr(graph, field) for field in entry.count}
    off = [
        f"{have[field]:,} {field.removeprefix('num_')}, but the catalog has {count:,}"
        for field, count in entry.count.items()
        if count is not None and count != have[field]
    ]
    if off and entry.counts == "measured":
        raise DataError(
            "GFM143",
            f"{entry.id} has {', '.join(off)}",
            why="its raw files differ from those that the entry was written for",
            fix="fetch them again, or give the graph an entry of its own",
        )
    if off:
        log.info("%s has %s (as published)", entry.id, ", ".join(off))


def _add(known: dict[str, Any], name: str, value: Any, path: Path) -> None:
    """Add an entry or a mixture under a new name."""
    if name in known:
        raise DataError("GFM122", f"{name!r} is in the catalog twice", where=str(path))
    known[name] = value
