"""The catalog: ``datasets/*.yaml`` -> entries and mixtures -> graphs, through a cache.

The cache is content-addressed: a graph lies under the hash of its raw files, of how they are read
and of who reads them, so nothing in it can be out of date.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphfm.config.load import read_yaml, shipped
from graphfm.config.parts import config_class, did_you_mean, validated
from graphfm.errors import DataError, OfflineError
from graphfm.graphs.catalog.cache import read_graph, write_graph
from graphfm.graphs.catalog.fetch import fetch, known_hashes, locked_hashes, verify_hash
from graphfm.graphs.catalog.mixture import Mixture, Selector
from graphfm.graphs.catalog.source import SourceConfig
from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import DatasetSpec
from graphfm.storage import cache_folder as cache_folder
from graphfm.storage import file_sha256, from_cache

log = logging.getLogger(__name__)

PARSER_VERSION = 1
"""Raise it when a source gives another graph for the same files, or the cache's layout changes."""

# Where a file comes from changes nothing about what is in it.
_NOT_IN_KEY = {"url", "files", "max_mb"}


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All graphs and mixtures that are known by name.

    Args:
        entries: By id, in the order of the files.
        mixtures: By name, as they stand in the YAML.
    """

    entries: dict[str, DatasetSpec]
    mixtures: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path | None = None) -> Catalog:
        """Read every YAML file below a folder.

        Args:
            folder: None = the catalog that comes with the package.

        Raises:
            RecipeError: GFM201 or GFM203 for an entry that is wrong, GFM205 for a file that is not
                YAML.
            DataError: GFM122 for an id or a mixture that is there twice.
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
        """One entry; ``_`` and capitals are taken for ``-`` and small letters.

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
        """Relative weight of each graph of a mixture, by id.

        Raises:
            DataError: GFM120 for a name or an id that is not there, GFM136 when the mixture holds a
                graph that models are judged on, or one of the same group.
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
        """The source of an entry and the folder that holds its raw files, fetched if need be.

        Files below the data folder are used as they are, and nothing is ever written there; what is
        fetched lies in the cache folder.

        Raises:
            DataError: GFM120 for an unknown id, GFM140 to GFM142 for what must not be used.
            OfflineError: GFM401 for raw files that are not here and cannot be fetched.
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
        source.raw_files(data_folder())  # says which are missing
        return source, data_folder()

    def load(self, id: str) -> Graph:
        """The graph of an entry: from the cache, or from its raw files the first time.

        Raises:
            DataError: as :meth:`fetch`; GFM103 and GFM138 for raw files that are damaged, GFM143
                for a graph that is not of the size its entry says.
            OfflineError: as :meth:`fetch`.
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
        """Whether an entry needs no raw files, or they are on this machine."""
        folders = (data_folder(), fetched_folder())
        return any(_is_here(s, data) for s in _sources(self.entry(id)) for data in folders)

    def is_cached(self, id: str) -> bool:
        """Whether :meth:`load` has no more to do than to read."""
        return (cache_folder() / "graphs" / _key(id, *self.fetch(id))).is_dir()

    def files(self, id: str) -> list[dict[str, str]]:
        """The raw files of an entry that can be fetched, with what is known of each."""
        known, locked = known_hashes(), locked_hashes(fetched_folder())
        return [
            {**file.model_dump(), "sha256": known.get(file.path) or locked.get(file.path, "")}
            for source in _sources(self.entry(id))
            for file in source.downloads()
        ]

    def verify(self, id: str) -> str:
        """What the hashes of an entry's raw files, and its cached graph, are worth.

        Nothing is fetched. A fault is told as a text that begins with its code.
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
        """Groups that hold an evaluation graph, and that graph."""
        return {e.group: e.id for e in self.entries.values() if e.role == "evaluation"}

    def _matching(self, pick: str | Selector, name: str) -> list[str]:
        selector = Selector(id=pick) if isinstance(pick, str) else pick
        judged = self.judged_groups
        found = [id for id, entry in self.entries.items() if selector.fits(entry, judged)]
        if not found:
            hint = did_you_mean(pick, self.entries) if isinstance(pick, str) else ""
            raise DataError("GFM120", f"{pick!r} matches no dataset.{hint}", where=name)
        return found[: selector.first]

    def _refuse_evaluation(self, chosen: set[str], name: str) -> None:
        judged = self.judged_groups
        leaks = [id for id in sorted(chosen) if self.entries[id].group in judged]
        if leaks:
            group = self.entries[leaks[0]].group
            raise DataError(
                "GFM136",
                f"a mixture must not hold what models are judged on, but {', '.join(leaks)} "
                f"{'is' if len(leaks) == 1 else 'are'} of an evaluation group",
                where=name,
                why=f"group {group!r} holds the evaluation graph {judged[group]}",
                fix="exclude them from the mixture",
            )


def data_folder() -> Path:
    """Where raw files lie: ``GRAPHFM_DATA``, or ``data`` in the cache folder. Never written to."""
    given = os.environ.get("GRAPHFM_DATA")
    return Path(given) if given else cache_folder() / "data"


def fetched_folder() -> Path:
    """Where raw files that were fetched lie, laid out as the data folder."""
    return cache_folder() / "data"


def _sources(entry: DatasetSpec) -> list[SourceConfig]:
    """Where an entry can be read from, the first choice first."""
    found = []
    for field in ("source", "origin"):
        if raw := getattr(entry, field):
            kind = config_class("graphs.catalog.sources", str(raw.get("kind")))
            found.append(validated(kind, raw, path=f"{entry.id}.{field}"))
    return found


def _is_here(source: SourceConfig, data: Path) -> bool:
    try:
        source.raw_files(data)
    except OfflineError:
        return False
    return True


def _key(id: str, source: SourceConfig, data: Path) -> str:
    raw = []
    for path in source.raw_files(data):
        hashed = file_sha256(path)
        verify_hash(path.relative_to(data).as_posix(), hashed, where=path)
        raw.append((path.name, hashed))
    fields = source.model_dump(mode="json", exclude=_NOT_IN_KEY)
    whole = [PARSER_VERSION, id, fields, raw]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _check_counts(entry: DatasetSpec, graph: Graph) -> None:
    have = {field: getattr(graph, field) for field in entry.count}
    off = [
        f"{have[field]:,} {field.removeprefix('num_')} where the catalog says {said:,}"
        for field, said in entry.count.items()
        if said is not None and said != have[field]
    ]
    if off and entry.counts == "measured":
        raise DataError(
            "GFM143",
            f"{entry.id} has {', '.join(off)}",
            why="its raw files are not those that the entry was written for",
            fix="fetch them again, or give the graph an entry of its own",
        )
    if off:
        log.info("%s has %s; that count is as published", entry.id, ", ".join(off))


def _add(known: dict[str, Any], name: str, value: Any, path: Path) -> None:
    if name in known:
        raise DataError("GFM122", f"{name!r} is in the catalog twice", where=str(path))
    known[name] = value
