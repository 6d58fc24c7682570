"""Summarize receipts: means, ranks, Elo ratings, pairs and costs of every split.

Shapes:
    G  graphs   M  models   S  seeds   B  bootstrap resamples
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from graphfm.benchmark import statistics
from graphfm.benchmark.cells import DONE, FAILED, LEFT_OUT, Cell, Plan, Receipt
from graphfm.benchmark.models import ANCHOR, Competitor
from graphfm.benchmark.statistics import Array

MISSING = "not done yet"
Receipts = dict[Cell, Receipt]


def summarise(plan: Plan) -> dict[str, Any]:
    """Summarize all receipts of a plan as plain data; failed and missing cells are counted."""
    found: Receipts = {}
    for cell in plan.cells():
        if (receipt := plan.receipt(cell)) is not None:
            found[cell] = receipt
    counts = Counter(receipt["status"] for receipt in found.values())
    num_cells = sum(1 for _ in plan.cells())
    return {
        "plan": plan.to_json(),
        "cells": {
            "all": num_cells,
            **{status: counts[status] for status in (DONE, FAILED, LEFT_OUT)},
            MISSING: num_cells - len(found),
        },
        "failed": [
            {**vars(cell), "error": receipt["error"]}
            for cell, receipt in found.items()
            if receipt["status"] == FAILED
        ],
        "left_out": sorted(
            {
                (cell.split, cell.graph, receipt["error"])
                for cell, receipt in found.items()
                if receipt["status"] == LEFT_OUT
            }
        ),
        "machines": sorted({r["machine"] for r in found.values()}),
        "commits": sorted({str(r["environment"]["commit"]) for r in found.values()}),
        "splits": {split: _summarise_split(plan, split, found) for split in plan.splits},
    }


def _summarise_split(plan: Plan, split: str, found: Receipts) -> dict[str, Any]:
    """Summarize one split."""
    models = [model.name for model in plan.models]
    done = {
        (cell.graph, cell.model, cell.seed): receipt
        for cell, receipt in found.items()
        if cell.split == split and receipt["status"] == DONE
    }
    graphs, ranked, not_ranked = {}, [], {}
    for graph in plan.suite.groups:
        receipts = [r for (g, _, _), r in done.items() if g == graph]
        if receipts:
            graphs[graph] = _summarise_graph(plan, graph, done, receipts[0])
        cells = [
            found.get(Cell(split=split, graph=graph, seed=seed, model=model))
            for model in models
            for seed in range(plan.seeds)
        ]
        states = Counter(MISSING if cell is None else cell["status"] for cell in cells)
        if states[DONE] == len(cells):
            ranked.append(graph)
        else:
            not_ranked[graph] = ", ".join(f"{n} {s}" for s, n in states.items() if s != DONE)
    result: dict[str, Any] = {
        "graphs": graphs,
        "ranked": ranked,
        "not_ranked": not_ranked,
        "costs": _costs(plan, done),
    }
    if ranked:
        scores = np.array(
            [[[done[g, m, s]["score"] for s in range(plan.seeds)] for m in models] for g in ranked]
        )  # (G, M, S)
        groups = [plan.suite.groups[graph] for graph in ranked]
        result |= _compare_models(plan.models, scores, groups)
    return result


def _summarise_graph(
    plan: Plan, graph: str, done: dict[tuple[str, str, int], Receipt], any_receipt: Receipt
) -> dict[str, Any]:
    """Compute mean and interval of each model on one graph, with facts about the graph."""
    facts = ("num_nodes", "num_edges", "num_features", "num_classes", "num_test", "metric")
    scores = {}
    for model in plan.models:
        receipts = [
            done[graph, model.name, seed]
            for seed in range(plan.seeds)
            if (graph, model.name, seed) in done
        ]
        if receipts:
            mean, half = statistics.mean_interval(np.array([r["score"] for r in receipts]))
            scores[model.name] = {"mean": mean, "half": half, "seeds": len(receipts)}
    return {**{name: any_receipt[name] for name in facts}, "scores": scores}


def _compare_models(
    models: Sequence[Competitor], scores: Array, groups: Sequence[str]
) -> dict[str, Any]:
    """Compute ranks, Elo, wins and pairs from scores of graphs that every model has, (G, M, S)."""
    names = [model.name for model in models]
    num_graphs, num_models, _ = scores.shape
    means = scores.mean(axis=2)
    ranked = statistics.ranks(means)
    won = statistics.wins(scores)
    anchor = names.index(ANCHOR) if ANCHOR in names else None
    elo = statistics.elo(won.sum(axis=0), anchor=anchor)
    average = ranked.mean(axis=0)
    rank_samples = statistics.bootstrap_groups(
        groups, lambda counts: statistics.weighted_mean(counts, ranked)
    )
    flat = won.reshape(num_graphs, -1)
    elo_samples = statistics.bootstrap_groups(
        groups,
        lambda counts: statistics.elo(
            (counts @ flat).reshape(-1, num_models, num_models), anchor=anchor
        ),
    )
    standing = {
        name: {
            "rank": float(average[i]),
            "rank_interval": statistics.interval(rank_samples[:, i]),
            "elo": float(elo[i]),
            "elo_interval": statistics.interval(elo_samples[:, i]),
            "first_on": int((ranked[:, i] < 1.5).sum()),
        }
        for i, name in enumerate(names)
    }
    return {
        "models": standing,
        "elo_anchor": ANCHOR if anchor is not None else None,
        "wins": {
            a: {b: float(won[:, i, j].mean()) for j, b in enumerate(names) if i != j}
            for i, a in enumerate(names)
        },
        "friedman_p": statistics.friedman(ranked),
        "critical_difference": (
            statistics.critical_difference(num_models, num_graphs) if num_models > 1 else None
        ),
        "num_groups": len(set(groups)),
        "pairs": _pairs(models, means, groups),
        "leads": _leads(models, elo, elo_samples, average, rank_samples),
    }


def _pairs(
    models: Sequence[Competitor], means: Array, groups: Sequence[str]
) -> list[dict[str, Any]]:
    """Compare each graphfm model with every other; without one, each peer with the anchor."""
    place = {model.name: i for i, model in enumerate(models)}
    own = [model.name for model in models if model.own and not model.control]
    pairs = [(a, b.name) for a in own for b in models if b.name not in own]
    pairs += [(a, b) for i, a in enumerate(own) for b in own[i + 1 :]]
    if not own and ANCHOR in place:
        pairs = [(model.name, ANCHOR) for model in models if model.name != ANCHOR]
    found = [
        {
            "a": a,
            "b": b,
            **asdict(statistics.compare_pair(means[:, place[a]], means[:, place[b]], groups)),
        }
        for a, b in pairs
    ]
    if found:
        adjusted = statistics.holm(np.array([each["wilcoxon_p"] for each in found]))
        for each, p in zip(found, adjusted, strict=True):
            each["wilcoxon_holm_p"] = float(p)
    return found


def _leads(
    models: Sequence[Competitor],
    elo: Array,
    elo_samples: Array,
    average: Array,
    rank_samples: Array,
) -> list[dict[str, Any]]:
    """Compute the lead of each graphfm model over the best tuned peer, in Elo and rank.

    The peer is chosen on the same graphs, which favours it: the lead is a conservative estimate.
    """
    rivals = [i for i, model in enumerate(models) if model.tuned]
    if not rivals:
        return []
    best = max(rivals, key=lambda i: elo[i])
    return [
        {
            "model": model.name,
            "best_tuned": models[best].name,
            "elo": float(elo[i] - elo[best]),
            "elo_interval": statistics.interval(elo_samples[:, i] - elo_samples[:, best]),
            "rank": float(average[best] - average[i]),
            "rank_interval": statistics.interval(rank_samples[:, best] - rank_samples[:, i]),
            "first_by_elo": bool(elo[i] >= elo.max()),
            "first_by_rank": bool(average[i] <= average.min()),
        }
        for i, model in enumerate(models)
        if model.own and not model.control
    ]


def _costs(plan: Plan, done: dict[tuple[str, str, int], Receipt]) -> dict[str, Any]:
    """Compute the seconds of each model, and their ratio to one GCN and to its search.

    A ratio compares the same split on the same machine. The geometric mean is taken over seeds and
    then over graphs, so that large graphs do not dominate.
    """
    searched = f"{ANCHOR}-tuned"
    costs = {}
    for model in plan.models:
        own = {(g, s): r for (g, m, s), r in done.items() if m == model.name}
        if not own:
            continue
        seconds = [r["seconds"] for r in own.values()]
        costs[model.name] = {
            "fits": len(own),
            "seconds_total": math.fsum(seconds),
            "seconds_median": float(np.median(seconds)),
            "trials": float(np.mean([r["trials"] for r in own.values()])),
            "over_gcn": _ratios(own, done, ANCHOR, prepare=False),
            "over_gcn_prepared": (
                _ratios(own, done, ANCHOR, prepare=True) if model.prepared else None
            ),
            "over_search": _ratios(own, done, searched, prepare=False),
            "flops_over_gcn": _ratios(own, done, ANCHOR, prepare=False, quantity="flops"),
        }
    return costs


def _ratios(
    own: dict[tuple[str, int], Receipt],
    done: dict[tuple[str, str, int], Receipt],
    unit: str,
    *,
    prepare: bool,
    quantity: str = "seconds",
) -> dict[str, Any] | None:
    """Ratio of seconds or FLOPs to those of another model: geometric mean, minimum, maximum."""
    logs: dict[str, list[float]] = {}
    for (graph, seed), receipt in own.items():
        other = done.get((graph, unit, seed))
        if other is None or other["machine"] != receipt["machine"]:
            continue
        if receipt.get(quantity) and other.get(quantity):
            cost = receipt[quantity] + (receipt["prepare_seconds"] if prepare else 0.0)
            logs.setdefault(graph, []).append(math.log(cost / other[quantity]))
    if not logs:
        return None
    ratio_of = {graph: float(np.exp(np.mean(values))) for graph, values in logs.items()}
    return {
        "mean": float(np.exp(np.mean(np.log(list(ratio_of.values()))))),
        "least": min(ratio_of.values()),
        "most": max(ratio_of.values()),
        "graphs": len(ratio_of),
    }
