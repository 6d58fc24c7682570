"""What the folder of a fitted model tells by itself: the sections that need no graph.

Shapes:
    C  classes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphfm.graphs.graph import Graph
from graphfm.report import pictures
from graphfm.report.svg import interval
from graphfm.report.text import short


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the folder of a fitted model holds.

    Args:
        folder: Its path, as it was given.
        saved: ``config.json``: how it was fitted, history, environment.
        fit: ``split.json``: what was asked for, scores, ids of the split; empty for a fit from
            Python.
        commands: Command lines by what they do.
        columns: How columns of the user's table became features, as the fit kept it.
    """

    folder: str
    saved: Mapping[str, Any]
    fit: Mapping[str, Any]
    commands: Mapping[str, str]
    columns: Sequence[Mapping[str, Any]] = ()

    @property
    def estimator(self) -> Mapping[str, Any]:
        """How it was fitted."""
        found: Mapping[str, Any] = self.saved["estimator"]
        return found


def lead_of(run: Run, methods: list[dict[str, Any]], metric: str) -> list[str]:
    """What was found, in two sentences."""
    estimator = run.estimator
    num = f"{len(estimator['classes'])} classes"
    start = run.fit.get("from") or estimator["params"].get("checkpoint")
    start = start or estimator.get("weights") or "random"  # older folders do not say
    model = "A model begun at random"
    if start != "random":
        model = f"A model pretrained in {short(str(start))}"
    if not methods:
        return [f"{model}, fitted to predict {num}."]
    own, others = methods[0], methods[1:]
    name = metric.replace("_", " ")
    lead = [
        f"{model}, fitted to predict {num}: {name} {own['score']:.3f} on {own['num']} test nodes "
        f"(95% interval {own['low']:.3f} to {own['high']:.3f})."
    ]
    if others:
        best = max(others, key=lambda m: m["score"])
        apart = own["low"] > best["high"] or best["low"] > own["high"]
        lead.append(
            f"The best of the other methods on the same split is {best['name']} with "
            f"{best['score']:.3f}; the intervals {'do not overlap' if apart else 'overlap'}."
        )
    return lead


def methods_of(scores: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """Rows of the comparison: the fit's first, then those of the baselines."""
    rows = []
    for name, score in scores.items():
        low, high = score["interval"]
        own = name == "graphfm"
        rows.append(
            {
                "name": short(name),
                "score": score[metric],
                "low": low,
                "high": high,
                "macro_f1": score["macro_f1"],
                "num": f"{score['num_nodes']:,}",
                "picture": interval(score[metric], low, high, look="c0" if own else "c8"),
            }
        )
    return rows


def score_card(row: Mapping[str, Any], metric: str) -> tuple[str, str, str]:
    """The score of a row as a card."""
    name = metric.replace("_", " ")
    return (name, f"{row['score']:.3f}", f"{row['low']:.3f}–{row['high']:.3f} (95%)")


def of_graph(run: Run, graph: Graph | None) -> dict[str, str]:
    """Facts about the graph; without it, those that the folder knows."""
    fit, classes = run.fit, run.estimator["classes"]
    facts = {
        "name": short(str(run.estimator["graph"])),
        "read from": fit.get("graph"),
        "nodes file": fit.get("node_table"),
        "predicts": fit.get("target"),
    }
    if graph is not None:
        kind = "directed" if graph.directed else "undirected"
        edges = graph.num_edges if graph.directed else (graph.num_edges + graph.num_self_loops) // 2
        facts |= {
            "nodes": f"{graph.num_nodes:,}, of them {int(graph.labelled.sum()):,} labelled",
            "edges": f"{edges:,} {kind}",
            "feature columns": f"{graph.num_features:,}",
        }
    names = ", ".join(short(str(c)) for c in classes[:12])
    facts["classes"] = f"{len(classes)}: {names}" + (", …" if len(classes) > 12 else "")
    named = fit.get("nodes", {})
    if named:
        facts["split"] = ", ".join(f"{len(ids):,} {part}" for part, ids in named.items())
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def of_fit(run: Run) -> dict[str, str]:
    """Facts about the fit."""
    estimator = run.estimator
    params, history = estimator["params"], estimator["history"]
    steps = max((int(r["step"]) for r in history if "loss" in r), default=0)
    facts = {
        "begun from": params.get("checkpoint") or "random weights",
        "depth": depth_of(estimator),
        "chosen because": run.fit.get("tune_reason"),
        "gradient steps": f"{steps}, best at {estimator['best_step']}" if steps else "none",
        "validation accuracy": None
        if estimator["val_score"] is None
        else f"{estimator['val_score']:.3f}",
        "temperature": _number(estimator.get("calibration", {}).get("temperature")),
        "seed": params.get("seed"),
        "time": f"{estimator['fit_seconds']:.1f} s",
        "must not be judged on": ", ".join(run.saved.get("not_judged_on", [])[:6]),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def depth_of(estimator: Mapping[str, Any]) -> str:
    """How deep the fit reached into the model, whoever chose it."""
    return str(estimator.get("tune") or estimator["params"].get("tune", "?"))


def _number(value: Any) -> str | None:
    return None if value is None else f"{value:.3f}"


def curves_of(estimator: Mapping[str, Any]) -> list[str]:
    """Pictures of the history; none for a fit without gradient steps."""
    history, best = estimator["history"], estimator["best_step"]
    drawn = [pictures.loss_curves(history, best), pictures.accuracy_curve(history, best)]
    return [picture for picture in drawn if picture]


def versions_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """Packages, Python, machine and commit of the fit."""
    versions = dict(environment.get("versions", {}))
    for name in ("python", "platform", "threads", "cuda", "commit"):
        if environment.get(name) is not None:
            versions[name] = environment[name]
    return {name: str(value) for name, value in versions.items()}
