"""The catalog: ``datasets/*.yaml`` -> entries and mixtures -> graphs, through a cache.

The cache is content-addressed: a graph lies under the hash of its raw files, of how they are read
and of who reads them, so nothing in it can be out of date.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from graphfm.config import read_yaml, shipped
from graphfm.errors import DataError, OfflineError
from graphfm.graphs.cache import cache_folder as cache_folder
from graphfm.graphs.cache import read_graph, write_graph
from graphfm.graphs.graph import Graph
from graphfm.graphs.rawfiles import file_sha256
from graphfm.graphs.spec import DatasetSpec
from graphfm.parts import config_class, did_you_mean, validated

log = logging.getLogger(__name__)

PARSER_VERSION = 1
"""Raise it when a source gives another graph for the same files, or the cache's layout changes."""


class Selector(BaseModel):
    """Entries of a mixture by what they have in common; every field that is given must match."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = "*"
    """A glob."""
    role: Literal["pretraining", "evaluation"] | None = None
    domain: str | None = None
    group: str | None = None
    source: str | None = None
    """The source's kind."""
    personal: bool | None = None
    max_nodes: int | None = Field(default=None, ge=1)
    first: int | None = Field(default=None, ge=1)
    """Keep only this many, in catalog order."""


class Mixture(BaseModel):
    """One entry of ``mixtures:``: which graphs, and how much each weighs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str = ""
    include: tuple[str | Selector, ...] = Field(min_length=1)
    """Ids, globs and selectors."""
    exclude: tuple[str | Selector, ...] = ()
    weight: str = Field(default="size^0.5", pattern=r"^size\^[0-9.]+$")
    """``size^p``: a graph weighs the p-th power of its number of nodes."""


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
        power = float(mixture.weight.removeprefix("size^"))
        return {id: e.num_nodes**power for id, e in self.entries.items() if id in chosen}

    def load(self, id: str) -> Graph:
        """The graph of an entry: from the cache, or from its raw files the first time.

        Raises:
            DataError: GFM120 for an unknown id, GFM103 and GFM138 for raw files that are damaged.
            OfflineError: GFM401 for raw files that are not here.
        """
        entry = self.entry(id)
        source, data = _source(entry), data_folder()
        folder = cache_folder() / "graphs" / _key(entry.id, source, data)
        if folder.is_dir():
            try:
                return read_graph(folder)
            except Exception as error:  # whatever is wrong with a cache, the raw files are right
                log.warning("%s: the cache is damaged and is made again: %s", entry.id, error)
                shutil.rmtree(folder, ignore_errors=True)
        graph: Graph = source.build(name=entry.id, data=data)
        write_graph(graph, folder)
        return graph

    def is_here(self, id: str) -> bool:
        """Whether an entry needs no raw files, or they are below the data folder."""
        try:
            _source(self.entry(id)).raw_files(data_folder())
        except OfflineError:
            return False
        return True

    def _matching(self, pick: str | Selector, name: str) -> list[str]:
        selector = Selector(id=pick) if isinstance(pick, str) else pick
        found = [id for id, entry in self.entries.items() if _fits(entry, selector)]
        if not found:
            hint = did_you_mean(pick, self.entries) if isinstance(pick, str) else ""
            raise DataError("GFM120", f"{pick!r} matches no dataset.{hint}", where=name)
        return found[: selector.first]

    def _refuse_evaluation(self, chosen: set[str], name: str) -> None:
        judged = {e.group: e.id for e in self.entries.values() if e.role == "evaluation"}
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


def _source(entry: DatasetSpec) -> Any:
    kind = config_class("graphs.sources", str(entry.source.get("kind")))
    return validated(kind, entry.source, path=f"{entry.id}.source")


def _key(id: str, source: Any, data: Path) -> str:
    raw = [(path.name, file_sha256(path)) for path in source.raw_files(data)]
    whole = [PARSER_VERSION, id, source.model_dump(mode="json"), raw]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _fits(entry: DatasetSpec, selector: Selector) -> bool:
    small = selector.max_nodes is None or entry.num_nodes <= selector.max_nodes
    return (
        small
        and fnmatch(entry.id, selector.id)
        and all(
            wanted is None or wanted == have
            for wanted, have in (
                (selector.role, entry.role),
                (selector.domain, entry.domain),
                (selector.group, entry.group),
                (selector.source, entry.source.get("kind")),
                (selector.personal, entry.personal),
            )
        )
    )


def _add(known: dict[str, Any], name: str, value: Any, path: Path) -> None:
    if name in known:
        raise DataError("GFM122", f"{name!r} is in the catalog twice", where=str(path))
    known[name] = value
