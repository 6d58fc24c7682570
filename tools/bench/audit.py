"""Recall, false alarms and time of the leakage audit; docs/audit.md has the figures.

Recall: copies of real graphs, altered as tests/audit_plants.py names them, with other node names.
False alarms: real graphs of different groups against each other, and every graph against one drawn
again with the same degrees and columns. Seconds: local-152 against all evaluation graphs.
Names, aliases and groups are never read.

    OMP_NUM_THREADS=1 python tools/bench/audit.py --out docs/results/audit.json
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.graphs.audit import overlap
from graphfm.graphs.audit.audit import LazyGraphs, audit, audit_ids
from graphfm.graphs.audit.signatures import Signatures, signatures
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.machine import environment, peak_memory_gib

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.audit_plants import PLANTS, redrawn  # noqa: E402

GRAPHS = (  # of every kind: texts, one-hot rows, real numbers, no features; sparse and dense
    "planetoid-pubmed wiki-chameleon citationfull-dblp acm-3025 twitch-ptbr tu-enzymes nba "
    "fb100-reed98 petster-hamster wiki-tadw heco-aminer polbooks"
).split()
KNOWN = [  # pairs of the bundle that are known or thought to share something
    pair.split()
    for pair in (
        "planetoid-cora citationfull-cora-ml, acm-3025 heco-acm, webkb-cornell webkb-texas, "
        "citationfull-dblp heco-dblp, wiki-chameleon wiki-squirrel, lazega-advice lazega-cowork, "
        "celegans-herm celegans-male, physicians physicians-peoria, karate karate-club, "
        "tennis-atp tennis-wta"
    ).split(", ")
]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--graphs", nargs="+", default=GRAPHS)
    parser.add_argument("--seeds", type=int, default=3)
    parts = ["recall", "alarms", "told", "seconds"]  # as the keys of the file
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    args = parser.parse_args(argv)
    catalog = Catalog.read()
    result = json.loads(args.out.read_text()) if args.out.is_file() else {}
    makers = {
        "seconds": lambda: seconds(catalog),
        "told": lambda: [compared(catalog, *pair) for pair in KNOWN],
        "alarms": lambda: alarms(catalog),
        "recall": lambda: recall(catalog, args.graphs, args.seeds),
    }
    result |= {name: make() for name, make in makers.items() if name in args.parts}
    result["environment"] = environment(0)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report(result))
    return 0


def recall(catalog: Catalog, graphs: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """Return for every plant of every graph how often it was found, and by which kind of match."""
    rows = []
    for id in graphs:
        graph = catalog.load(id)
        own = signatures(graph)
        for plant, make in PLANTS.items():
            found = []
            for seed in range(seeds):
                copy = make(graph, np.random.default_rng(seed))
                found.append(overlap.compare(own, signatures(copy)))
            rows.append(
                {
                    "graph": id,
                    "plant": plant,
                    "copies": seeds,
                    "found": sum(bool(data.kinds) for data in found),
                    "kinds": sorted({kind for data in found for kind in data.kinds}),
                    "least_share": round(min(data.shares[1] for data in found), 4),
                }
            )
            print(id, plant, rows[-1]["kinds"], file=sys.stderr)
    return rows


def alarms(catalog: Catalog) -> dict[str, Any]:
    """Return the pairs of different groups, and the graphs drawn again, that are reported."""
    here = [e for e in catalog.entries.values() if catalog.is_here(e.id) and not e.synthetic]
    sign = functools.cache(lambda id: signatures(catalog.load(id)))
    drawn = [
        e.id
        for e in here
        if overlap.compare(
            sign(e.id), signatures(redrawn(catalog.load(e.id), np.random.default_rng(0)))
        ).kinds
    ]
    pairs = [(a, b) for a, b in itertools.combinations(here, 2) if a.group != b.group]
    found, hints, judged = [], 0, 0
    for a, b in pairs:
        data = overlap.compare(sign(a.id), sign(b.id))
        judged += "evaluation" in (a.role, b.role)
        hints += bool(data.hint)
        if data.kinds:
            found.append(compared(catalog, a.id, b.id))
            print(found[-1], file=sys.stderr)
    return {
        "drawn_again": len(here),
        "drawn_again_alarms": drawn,
        "pairs": len(pairs),
        "pairs_with_an_evaluation_graph": judged,
        "pair_alarms": found,
        "pair_hints": hints,
    }


def compared(catalog: Catalog, one: str, other: str) -> dict[str, Any]:
    """Compare two graphs by their data; labels, which the audit never reads, say if it is right."""
    a, b = signatures(catalog.load(one)), signatures(catalog.load(other))
    data = overlap.compare(a, b)
    return {
        "pair": [one, other],
        "kinds": list(data.kinds),
        "matched": data.matched,
        "shares": [round(share, 3) for share in data.shares],
        "jaccard": data.jaccard,
        "hint": data.hint,
        "labels_agree": labels_agree(catalog, a, b, data),
    }


def labels_agree(
    catalog: Catalog, a: Signatures, b: Signatures, data: overlap.Comparison
) -> float | None:
    """Return the adjusted mutual information of matched nodes' labels: 0 = chance, 1 = equal."""
    from sklearn.metrics import adjusted_mutual_info_score

    matches = [overlap._match(a, b, k) for k in data.kinds if k not in ("whole", "fields")]
    if not matches:
        return None
    nodes = max(matches, key=lambda match: len(match[0]))
    labels = [catalog.load(side.name).y for side in (a, b)]
    if any(y is None or y.ndim == 2 for y in labels):
        return None
    values = [y.numpy()[n] for y, n in zip(labels, nodes, strict=True)]
    known = (values[0] >= 0) & (values[1] >= 0)
    return round(float(adjusted_mutual_info_score(values[0][known], values[1][known])), 3)


def seconds(catalog: Catalog) -> dict[str, Any]:
    """Return the time of the corpus against all evaluation graphs, without and with the cache."""
    corpus = list(catalog.mixture("local-152"))
    judged = [e.id for e in catalog.entries.values() if e.role == "evaluation"]
    here = [[id for id in ids if catalog.is_here(id)] for ids in (corpus, judged)]
    for id in itertools.chain(*here):
        catalog.load(id)  # the time does not include reading raw files
    began = time.perf_counter(), time.process_time()
    first = audit(LazyGraphs(catalog, here[0]), LazyGraphs(catalog, here[1]), catalog.entries)
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    audit_ids(corpus, judged, catalog)
    began = time.perf_counter(), time.process_time()
    audit_ids(corpus, judged, catalog)
    again = time.perf_counter() - began[0], time.process_time() - began[1]
    return {
        "corpus": len(corpus),
        "judged": len(here[1]),
        "pairs_compared": first.compared,
        "clean": first.clean,
        "first": {"wall": round(took[0], 1), "cpu": round(took[1], 1)},
        "again": {"wall": round(again[0], 1), "cpu": round(again[1], 1)},
        "peak_memory_gib": round(peak_memory_gib(), 2),
    }


def interval(found: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share."""
    z, p = 1.96, found / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def report(result: dict[str, Any]) -> str:
    """Return the recall in Markdown, and the other parts as JSON."""
    lines = ["| plant | found | recall (95%) | missed at least once in |", "|---|---:|---:|---|"]
    for plant in PLANTS:
        rows = [row for row in result.get("recall", []) if row["plant"] == plant]
        if not rows:
            continue
        found, copies = (sum(row[key] for row in rows) for key in ("found", "copies"))
        low, high = interval(found, copies)
        missed = [row["graph"] for row in rows if row["found"] < row["copies"]]
        share = f"{found / copies:.2f} ({low:.2f}-{high:.2f})"
        lines.append(f"| {plant} | {found} of {copies} | {share} | {', '.join(missed)} |")
    for name in ("told", "alarms", "seconds"):
        lines.append(f"{name}: {json.dumps(result.get(name))}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
