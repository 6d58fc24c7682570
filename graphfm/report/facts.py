"""Sections of the page that need no graph: title, facts, comparison of methods, versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphfm.graphs.graph import Graph
from graphfm.report import pictures
from graphfm.report.fit_record import FitRecord
from graphfm.report.svg import interval
from graphfm.report.text import short

MAX_CLASSES = 12  # class names that the facts about a graph list
BENCHMARKS = (
    "These weights learned from the public graphs listed in the model card; do not use them to "
    "benchmark on those graphs."
)


def lead_sentences(record: FitRecord, methods: list[dict[str, Any]], metric: str) -> list[str]:
    """Summarize the result of the fit in one or two sentences.

    Args:
        record: The fit.
        methods: Rows of :func:`method_rows`.
        metric: Name of the score, such as ``accuracy``.
    """
    estimator = record.estimator
    task = f"{len(estimator['classes'])} classes"
    start = weights_of(record)
    model = "A model with random initial weights"
    if start != "random":
        model = f"The pretrained model {short(start)}"
    if not methods:
        return [f"{model}, fitted to predict {task}."]
    own, name = methods[0], metric.replace("_", " ")
    lead = [
        f"{model}, fitted to predict {task}: {name} {own['score']:.3f} on {own['num']} test nodes "
        f"(95% confidence interval {own['low']:.3f} to {own['high']:.3f})."
    ]
    if record.fit.get("verdict"):  # older folders lack it
        lead = [*(f"{sentence}." for sentence in record.fit["verdict"]["text"]), *lead]
    return lead


def method_rows(scores: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """Rows of the comparison: the fitted model first, then the baselines.

    Args:
        scores: Scores as plain data, by method.
        metric: Name of the score to show.
    """
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
    """Card with the score of one row: name, value, interval."""
    name = metric.replace("_", " ")
    return (name, f"{row['score']:.3f}", f"{row['low']:.3f}–{row['high']:.3f} (95%)")


def graph_facts(record: FitRecord, graph: Graph | None) -> dict[str, str]:
    """Facts about the graph, by name.

    Args:
        record: The fit.
        graph: The graph. None shows the facts that the record holds.
    """
    fit, classes = record.fit, record.estimator["classes"]
    facts = {
        "name": short(str(record.estimator["graph"])),
        "read from": fit.get("graph"),
        "node table": fit.get("node_table"),
        "target": fit.get("target"),
    }
    if graph is not None:
        kind = "directed" if graph.directed else "undirected"
        edges = graph.num_edges if graph.directed else (graph.num_edges + graph.num_self_loops) // 2
        facts |= {
            "nodes": f"{graph.num_nodes:,}, {int(graph.labelled.sum()):,} of them labelled",
            "edges": f"{edges:,} {kind}",
            "feature columns": f"{graph.num_features:,}",
        }
    names = ", ".join(short(str(c)) for c in classes[:MAX_CLASSES])
    facts["classes"] = f"{len(classes)}: {names}" + (", …" if len(classes) > MAX_CLASSES else "")
    split = fit.get("nodes", {})
    if split:
        facts["split"] = ", ".join(f"{len(ids):,} {part}" for part, ids in split.items())
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def fit_facts(record: FitRecord) -> dict[str, str]:
    """Facts about the fit, by name."""
    estimator = record.estimator
    params, history = estimator["params"], estimator["history"]
    steps = max((int(r["step"]) for r in history if "loss" in r), default=0)
    weights = weights_of(record)
    refitted = record.fit.get("refit_all") or params.get("refit")
    temperature = estimator.get("calibration", {}).get("temperature")
    facts = {
        "pretrained weights": "none: random initial weights" if weights == "random" else weights,
        "parts that were fitted": tune_of(estimator),
        "reason": record.fit.get("tune_reason") or estimator.get("tune_reason"),
        "final fit": "on every label, after the scores were computed" if refitted else None,
        "gradient steps": f"{steps}, best at {estimator['best_step']}" if steps else "none",
        "validation accuracy": _three_digits(estimator["val_score"]),
        "temperature": _three_digits(temperature),
        "seed": params.get("random_state", params.get("seed")),
        "time": f"{estimator['fit_seconds']:.1f} s",
        "benchmarks": BENCHMARKS if record.config.get("not_judged_on") else None,
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def weights_of(record: FitRecord) -> str:
    """Name of the weights that the fit began with; ``random`` for none."""
    estimator = record.estimator
    asked = record.fit.get("from") or estimator["params"].get("checkpoint")
    return str(estimator.get("weights") or asked or "random")  # older folders lack "weights"


def tune_of(estimator: Mapping[str, Any]) -> str:
    """Name of the parts that were fitted, such as ``probe`` or ``decoder``."""
    return str(estimator.get("tune") or estimator["params"].get("tune", "?"))


def _three_digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def learning_curves(estimator: Mapping[str, Any]) -> list[str]:
    """Pictures of loss and accuracy over steps; empty for a fit without gradient steps."""
    history, best = estimator["history"], estimator["best_step"]
    drawn = [pictures.loss_curves(history, best), pictures.accuracy_curve(history, best)]
    return [picture for picture in drawn if picture]


def versions_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """Versions of packages and Python, machine and commit of the fit, by name."""
    versions = dict(environment.get("versions", {}))
    for name in ("python", "platform", "threads", "cuda", "commit"):
        if environment.get(name) is not None:
            versions[name] = environment[name]
    return {name: str(value) for name, value in versions.items()}
