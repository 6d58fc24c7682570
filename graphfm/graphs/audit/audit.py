"""Leakage audit: find graphs of a corpus that overlap with evaluation graphs.

Two graphs overlap if their catalog entries share an id, an alias or a group, or if their data does:
:mod:`graphfm.graphs.audit.signatures` matches their nodes, and :mod:`graphfm.graphs.audit.overlap`
decides whether edges or feature rows agree beyond chance. Labels are never read. docs/audit.md has
figures on which overlaps are found and which are not.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphfm.graphs.audit.overlap import Comparison, compare
from graphfm.graphs.audit.report import AuditReport, Overlap
from graphfm.graphs.audit.signatures import VERSION, Signatures, signatures
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import DatasetSpec
from graphfm.storage import cache_errors, cache_folder, replace_text

log = logging.getLogger(__name__)

TOO_SMALL = 0.02  # share of the evaluation graph's nodes; smaller graphs of the corpus are skipped


def audit(
    corpus: Mapping[str, Graph],
    judged: Mapping[str, Graph],
    specs: Mapping[str, DatasetSpec] | None = None,
    *,
    absent: tuple[Collection[str], Collection[str]] = ((), ()),
    use_declared: bool = True,
    cache: bool = False,
) -> AuditReport:
    """Compare each graph of a corpus with each evaluation graph.

    Args:
        corpus: Graphs by id; read one at a time, so that the mapping can load them on demand.
        judged: Evaluation graphs by id.
        specs: Catalog entries. Graphs without an entry are compared by their data alone, and
            generated graphs by their entry alone.
        absent: Further ids of the corpus and of evaluation graphs that have an entry but no data.
        use_declared: Compare ids, aliases and groups too; if false, the data alone decides.
        cache: Keep the results of pairs in the cache folder, by the fingerprints of both graphs.
    """
    began = time.perf_counter()
    specs = specs or {}
    ones, others = (*corpus, *absent[0]), (*judged, *absent[1])
    found: dict[tuple[str, str], Comparison] = {}
    for one, other, data in _compare_all(corpus, judged, specs, cache):
        found[one, other] = data
    overlaps, hints = [], []
    names = _Names(specs)
    for one in ones:
        for other in others:
            data = found.get((one, other), Comparison())
            declared = names.declared(one, other) if use_declared else ()
            if declared or data.kinds:
                overlaps.append(Overlap(corpus=one, judged=other, declared=declared, data=data))
            elif why := data.hint or (names.hint(one, other) if use_declared else ""):
                hints.append((one, other, why))
    overlaps.sort(key=lambda o: (-max(o.data.shares), -len(o.kinds)))
    return AuditReport(
        corpus=ones,
        judged=others,
        overlaps=tuple(overlaps),
        hints=tuple(hints),
        compared=len(found),
        declared_only=tuple(dict.fromkeys([*absent[0], *absent[1]])),
        seconds=time.perf_counter() - began,
    )


def audit_ids(
    corpus: Collection[str],
    judged: Collection[str],
    catalog: Catalog,
    *,
    use_declared: bool = True,
) -> AuditReport:
    """Audit entries of the catalog; those without files here are compared by their fields alone."""
    here = [[id for id in ids if catalog.is_here(id)] for ids in (corpus, judged)]
    return audit(
        LazyGraphs(catalog, here[0]),
        LazyGraphs(catalog, here[1]),
        catalog.entries,
        absent=([i for i in corpus if i not in here[0]], [i for i in judged if i not in here[1]]),
        use_declared=use_declared,
        cache=True,
    )


def not_judged_on(corpus: Collection[str], catalog: Catalog) -> list[str]:
    """Return the ids that a model trained on a corpus must not be tested on: it and its groups."""
    groups = {catalog.entries[id].group for id in corpus if id in catalog.entries}
    return sorted({*corpus, *(e.id for e in catalog.entries.values() if e.group in groups)})


class LazyGraphs(Mapping[str, Graph]):
    """Graphs of the catalog by id, each loaded when it is read.

    Args:
        catalog: The catalog.
        ids: Ids of the graphs.
        given: Further graphs by id, already loaded.
    """

    def __init__(
        self, catalog: Catalog, ids: Sequence[str], given: Mapping[str, Graph] | None = None
    ):
        self.catalog, self.given = catalog, dict(given or {})
        self.ids = list(dict.fromkeys([*ids, *self.given]))

    def __getitem__(self, id: str) -> Graph:
        """Load the graph of an id."""
        if id not in self.ids:
            raise KeyError(id)
        return self.given[id] if id in self.given else self.catalog.load(id)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids."""
        return iter(self.ids)

    def __len__(self) -> int:
        """Return the number of graphs."""
        return len(self.ids)


def _compare_all(
    corpus: Mapping[str, Graph],
    judged: Mapping[str, Graph],
    specs: Mapping[str, DatasetSpec],
    cache: bool,
) -> Iterator[tuple[str, str, Comparison]]:
    """Compare each pair that can overlap; each evaluation graph is loaded at most once."""
    graph_of = lru_cache(maxsize=None)(judged.__getitem__)
    signatures_of = lru_cache(maxsize=None)(lambda id: signatures(graph_of(id)))
    for one in corpus:
        if one in specs and specs[one].synthetic:
            continue
        graph: Graph | None = None
        size = specs[one].num_nodes if one in specs else None
        if size is None:
            graph = corpus[one]
            size = graph.num_nodes
        others = [o for o in judged if size >= TOO_SMALL * _size(o, specs, graph_of)]
        if not others:
            continue
        graph = graph or corpus[one]
        cached = _read_cached(graph) if cache else {}
        fresh = {}
        own: Signatures | None = None
        for other in others:
            key = graph_of(other).fingerprint if cache else ""
            if key in cached:
                yield one, other, cached[key]
                continue
            own = own or signatures(graph)
            fresh[key] = compare(own, signatures_of(other))
            yield one, other, fresh[key]
        if cache and fresh:
            _write_cached(graph, cached | fresh)


def _size(id: str, specs: Mapping[str, DatasetSpec], graph_of: Any) -> int:
    """Return the number of nodes by the entry of a graph, else by its data."""
    declared = specs[id].num_nodes if id in specs else None
    return declared if declared is not None else int(graph_of(id).num_nodes)


def _cached_path(graph: Graph) -> Path:
    return cache_folder() / "audit" / f"{graph.fingerprint}-{VERSION}.json"


def _read_cached(graph: Graph) -> dict[str, Comparison]:
    """Read the cached comparisons of a graph, by the fingerprint of the other graph."""
    try:
        content = json.loads(_cached_path(graph).read_text(encoding="utf-8"))
        return {
            key: Comparison(**raw | {f: tuple(raw[f]) for f in ("kinds", "shares")})
            for key, raw in content.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s: the cached audit is damaged and is made again: %s", graph.name, error)
        return {}


def _write_cached(graph: Graph, results: Mapping[str, Comparison]) -> None:
    path = _cached_path(graph)
    with cache_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps({k: asdict(data) for k, data in results.items()}))


class _Names:
    """Names and groups that catalog entries have in common.

    Args:
        specs: Entries by id.
    """

    def __init__(self, specs: Mapping[str, DatasetSpec]):
        self.specs = specs
        words = [{w for w in id.split("-") if len(w) > 3} for id in specs]
        self.common = {w for w, n in Counter(w for ws in words for w in ws).items() if n > 4}

    def declared(self, one: str, other: str) -> tuple[str, ...]:
        """Return the fields that two entries have in common: ``id``, ``alias``, ``group``."""
        if one == other:
            return ("id",)
        if one not in self.specs or other not in self.specs:
            return ()
        a, b = self.specs[one], self.specs[other]
        names = [{_plain(n) for n in (s.id, *s.aliases)} for s in (a, b)]
        equal = {"alias": bool(names[0] & names[1]), "group": a.group == b.group}
        return tuple(field for field, is_equal in equal.items() if is_equal)

    def hint(self, one: str, other: str) -> str:
        """Return a reason to look at two entries: a word that both ids and few others contain."""
        words = {w for w in one.split("-") if len(w) > 3} & set(other.split("-")) - self.common
        return f"both are called {min(words)!r}" if words else ""


def _plain(name: str) -> str:
    """Return a name in lower case, without punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
