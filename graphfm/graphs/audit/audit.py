"""Does a corpus hold what a model will be judged on? ``audit(corpus, judged)`` -> AuditReport.

Two graphs overlap if their entries say so (id, alias, group), or if their data does: nodes matched
by :mod:`graphfm.graphs.audit.signatures`, whose edges (or feature rows) agree beyond chance.
docs/audit.md says what can be seen and what cannot, with figures. Labels are never read.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphfm.errors import DataError
from graphfm.graphs.audit.overlap import Comparison, compare
from graphfm.graphs.audit.signatures import VERSION, Signatures, signatures
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import DatasetSpec
from graphfm.storage import cache_errors, cache_folder, replace_text

log = logging.getLogger(__name__)

TOO_SMALL = 0.02  # a corpus graph of fewer nodes, relative to the judged one, gives little away


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """A graph of the corpus that must not teach if the other is to judge.

    Args:
        corpus: Id of the one.
        judged: Id of the other.
        declared: What their entries say: ``id``, ``alias``, ``group``.
        data: What their data says.
    """

    corpus: str
    judged: str
    declared: tuple[str, ...]
    data: Comparison

    @property
    def kinds(self) -> tuple[str, ...]:
        """All evidence."""
        return self.declared + self.data.kinds

    @property
    def relation(self) -> str:
        """How the node sets lie to each other, as far as nodes were matched."""
        if not self.data.kinds:
            return "declared"
        one, other = self.data.shares
        if min(one, other) > 0.9:
            return "the same nodes"
        if max(one, other) > 0.8:
            part, whole = (self.corpus, self.judged)[:: 1 if one > other else -1]
            return f"{part} is a part of {whole}"
        return "some nodes"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "corpus": self.corpus,
            "judged": self.judged,
            "kinds": list(self.kinds),
            "relation": self.relation,
            "matched": self.data.matched,
            "share_of_corpus_graph": round(self.data.shares[0], 4),
            "share_of_judged_graph": round(self.data.shares[1], 4),
            "edge_jaccard": None if self.data.jaccard is None else round(self.data.jaccard, 4),
        }


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What an audit found.

    Args:
        corpus: Ids that a model learns from.
        judged: Ids that it is judged on.
        overlaps: The worst first; one is enough to refuse the corpus.
        hints: (corpus id, judged id, why) for a person to look at; they refuse nothing.
        compared: Pairs whose data was compared.
        declared_only: Ids whose files are not here: of them only the entry was looked at.
        seconds: Time it took.
    """

    corpus: tuple[str, ...]
    judged: tuple[str, ...]
    overlaps: tuple[Overlap, ...]
    hints: tuple[tuple[str, str, str], ...]
    compared: int
    declared_only: tuple[str, ...]
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether nothing overlaps."""
        return not self.overlaps

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "clean": self.clean,
            "overlaps": [overlap.to_json() for overlap in self.overlaps],
            "hints": [list(hint) for hint in self.hints],
            "corpus": list(self.corpus),
            "judged": list(self.judged),
            "pairs_compared": self.compared,
            "declared_only": list(self.declared_only),
            "seconds": round(self.seconds, 2),
        }

    def refuse(self) -> None:
        """Raise if something overlaps.

        Raises:
            DataError: GFM147 with the worst three.
        """
        if self.clean:
            return
        worst = "; ".join(
            f"{o.corpus} ~ {o.judged} ({', '.join(o.kinds)})" for o in self.overlaps[:3]
        )
        more = f", and {len(self.overlaps) - 3} more" if len(self.overlaps) > 3 else ""
        raise DataError(
            "GFM147",
            f"the corpus overlaps with what models are judged on: {worst}{more}",
            fix="leave them out of the mixture, or with data.exclude=[ID, ...]",
        )


def audit(
    corpus: Mapping[str, Graph],
    judged: Mapping[str, Graph],
    specs: Mapping[str, DatasetSpec] | None = None,
    *,
    absent: tuple[Collection[str], Collection[str]] = ((), ()),
    use_declared: bool = True,
    cache: bool = False,
) -> AuditReport:
    """Compare every graph of a corpus with every graph that models are judged on.

    Args:
        corpus: Graphs by id; read one at a time, so the mapping may load them when asked.
        judged: Graphs by id.
        specs: Entries of the catalog; of graphs without one only the data is looked at. Of a graph
            that a generator has drawn only the entry is.
        absent: Further ids of the corpus, and judged ones, of which only the entry is known.
        use_declared: False = ignore ids, aliases and groups, to see what the data alone says.
        cache: Keep what pairs say in the cache folder, by their fingerprints.
    """
    began = time.perf_counter()
    specs = specs or {}
    ones, others = (*corpus, *absent[0]), (*judged, *absent[1])
    found: dict[tuple[str, str], Comparison] = {}
    for one, other, data in _compare_all(corpus, judged, specs, cache):
        found[one, other] = data
    overlaps, hints = [], []
    alike = _Names(specs)
    for one in ones:
        for other in others:
            data = found.get((one, other), Comparison())
            says = alike.declared(one, other) if use_declared else ()
            if says or data.kinds:
                overlaps.append(Overlap(corpus=one, judged=other, declared=says, data=data))
            elif why := data.hint or (alike.hint(one, other) if use_declared else ""):
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
    """Audit entries of the catalog; those whose files are not here by what they declare."""
    here = [[id for id in ids if catalog.is_here(id)] for ids in (corpus, judged)]
    return audit(
        Loaded(catalog, here[0]),
        Loaded(catalog, here[1]),
        catalog.entries,
        absent=([i for i in corpus if i not in here[0]], [i for i in judged if i not in here[1]]),
        use_declared=use_declared,
        cache=True,
    )


def not_judged_on(corpus: Collection[str], catalog: Catalog) -> list[str]:
    """Ids that a model which learned from a corpus must not be judged on: it, and its groups."""
    groups = {catalog.entries[id].group for id in corpus if id in catalog.entries}
    return sorted({*corpus, *(e.id for e in catalog.entries.values() if e.group in groups)})


class Loaded(Mapping[str, Graph]):
    """Graphs of the catalog by id, each loaded when it is asked for.

    Args:
        catalog: Where from.
        ids: Which.
        given: Graphs that are there already.
    """

    def __init__(
        self, catalog: Catalog, ids: Sequence[str], given: Mapping[str, Graph] | None = None
    ):
        self.catalog, self.given = catalog, dict(given or {})
        self.ids = list(dict.fromkeys([*ids, *self.given]))

    def __getitem__(self, id: str) -> Graph:
        """The graph."""
        if id not in self.ids:
            raise KeyError(id)
        return self.given[id] if id in self.given else self.catalog.load(id)

    def __iter__(self) -> Iterator[str]:
        """Ids."""
        return iter(self.ids)

    def __len__(self) -> int:
        """How many."""
        return len(self.ids)


def _compare_all(
    corpus: Mapping[str, Graph],
    judged: Mapping[str, Graph],
    specs: Mapping[str, DatasetSpec],
    cache: bool,
) -> Iterator[tuple[str, str, Comparison]]:
    """The comparison of every pair that can overlap; each judged graph is loaded at most once."""
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
        known = _read_known(graph) if cache else {}
        fresh = {}
        own: Signatures | None = None
        for other in others:
            key = graph_of(other).fingerprint if cache else ""
            if key in known:
                yield one, other, known[key]
                continue
            own = own or signatures(graph)
            fresh[key] = compare(own, signatures_of(other))
            yield one, other, fresh[key]
        if cache and fresh:
            _write_known(graph, known | fresh)


def _size(id: str, specs: Mapping[str, DatasetSpec], graph_of: Any) -> int:
    said = specs[id].num_nodes if id in specs else None
    return said if said is not None else int(graph_of(id).num_nodes)


def _known_path(graph: Graph) -> Path:
    return cache_folder() / "audit" / f"{graph.fingerprint}-{VERSION}.json"


def _read_known(graph: Graph) -> dict[str, Comparison]:
    """Comparisons of a graph that were made before, by the fingerprint of the other."""
    try:
        content = json.loads(_known_path(graph).read_text(encoding="utf-8"))
        return {
            key: Comparison(**raw | {f: tuple(raw[f]) for f in ("kinds", "shares")})
            for key, raw in content.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s: the cached audit is damaged and is made again: %s", graph.name, error)
        return {}


def _write_known(graph: Graph, known: Mapping[str, Comparison]) -> None:
    path = _known_path(graph)
    with cache_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps({k: asdict(data) for k, data in known.items()}))


class _Names:
    """What entries say about each other.

    Args:
        specs: Entries by id.
    """

    def __init__(self, specs: Mapping[str, DatasetSpec]):
        self.specs = specs
        words = [{w for w in id.split("-") if len(w) > 3} for id in specs]
        self.common = {w for w, n in Counter(w for ws in words for w in ws).items() if n > 4}

    def declared(self, one: str, other: str) -> tuple[str, ...]:
        """``id``, ``alias``, ``group``: what two entries have in common."""
        if one == other:
            return ("id",)
        if one not in self.specs or other not in self.specs:
            return ()
        a, b = self.specs[one], self.specs[other]
        names = [{_plain(n) for n in (s.id, *s.aliases)} for s in (a, b)]
        says = {"alias": bool(names[0] & names[1]), "group": a.group == b.group}
        return tuple(kind for kind, true in says.items() if true)

    def hint(self, one: str, other: str) -> str:
        """A word that both ids have and few others do."""
        words = {w for w in one.split("-") if len(w) > 3} & set(other.split("-")) - self.common
        return f"both are called {min(words)!r}" if words else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
