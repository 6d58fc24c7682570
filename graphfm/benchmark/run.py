"""Run the cells of a plan that have no receipt, in several processes.

Before a process times a model for the first time, it fits the model to a graph of 60 nodes:
otherwise the first model pays 2 s for imports.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from graphfm.benchmark.cells import (
    DONE,
    FAILED,
    LEFT_OUT,
    MIN_SEARCH_SECONDS,
    OFFICIAL,
    Cell,
    Plan,
    Receipt,
    Unit,
    check_unseen,
    sizes_of_parts,
)
from graphfm.benchmark.fit import measure
from graphfm.benchmark.models import ANCHOR, Competitor, competitors
from graphfm.benchmark.workers import run_in_processes, warm_up
from graphfm.errors import GraphFMError
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from graphfm.graphs.graph import Graph
from graphfm.graphs.splits import with_split
from graphfm.log_lines import collect_log_lines
from graphfm.machine import environment, give_back_memory, machine_name, peak_memory_gib
from graphfm.metrics import accuracy, roc_auc
from graphfm.storage import write_json

log = logging.getLogger(__name__)

RARE = 0.25  # share of the smaller of two classes below which the metric is ROC-AUC
MAX_WARNINGS = 5  # warnings of one receipt
KILLED = "the process was killed: out of memory?"


def run(plan: Plan, *, jobs: int = 1) -> None:
    """Run the missing cells; a cell that fails leaves a receipt with the error.

    Args:
        plan: The benchmark.
        jobs: Number of processes, each with one thread, so that seconds are those of one core.

    Raises:
        DataError: GFM147 if the model was pretrained on a graph of the suite.
    """
    check_unseen(plan)
    missing = list(plan.units(missing_only=True))
    num_cells = sum(len(unit.models) for unit in missing)
    with tqdm(total=num_cells, unit="cell", desc=plan.suite.name, disable=None) as bar:
        # Seed 0 first: a search runs on it, and its settings serve all seeds.
        killed = run_in_processes(
            run_unit, plan, [unit for unit in missing if unit.seed == 0], jobs=jobs, bar=bar
        )
        killed += run_in_processes(
            run_unit, plan, [unit for unit in missing if unit.seed > 0], jobs=jobs, bar=bar
        )
        # If one process dies, the pool loses all units: run each of them in its own process.
        for unit in killed:
            while untried := [m for m in unit.models if plan.receipt(_cell(unit, m)) is None]:
                again = [replace(unit, models=tuple(untried))]
                if not run_in_processes(run_unit, plan, again, jobs=1, bar=bar):
                    break
                culprit = next(m for m in untried if plan.receipt(_cell(unit, m)) is None)
                _keep(plan, _cell(unit, culprit), {"status": FAILED, "error": KILLED})


def run_unit(plan: Plan, unit: Unit) -> int:
    """Fit some models on one split of one graph and return the number of cells."""
    torch.set_num_threads(1)

    def keep(model: Competitor, receipt: Receipt) -> None:
        _keep(plan, _cell(unit, model), receipt)

    try:
        whole = plan.suite.load(unit.graph)
        split, facts = _split(whole, unit)
        if split is not None:
            facts["prepare_seconds"] = _prepare_seconds(plan, whole)
            prepared = prepare(split)
    except Exception as error:  # an unreadable graph must not end the benchmark
        for model in unit.models:
            keep(model, {"status": FAILED, "error": _error_text(error)})
        return len(unit.models)
    if split is None:
        for model in unit.models:
            keep(model, {"status": LEFT_OUT, **facts})
        return len(unit.models)
    assert split.y is not None and split.test_mask is not None
    test_mask = split.test_mask & split.labelled
    y = split.y[test_mask].numpy()
    # Hide the test labels from every model.
    split = split.replace(y=split.y.masked_fill(split.test_mask, -1), test_mask=test_mask)
    prepared = replace(prepared, y=split.y, test_mask=test_mask)
    for model in unit.models:
        try:
            warm_up(model, facts["metric"])
            # Thousands of fits: their warnings go to the receipt, not to the screen.
            with collect_log_lines(logging.WARNING, max_lines=MAX_WARNINGS, quiet=True) as warnings:
                found = _measure_cell(plan, unit, model, split, prepared, y, facts["metric"])
            receipt = {"status": DONE, **found, "warnings": [line[:200] for line in warnings]}
        except Exception as error:  # a model that fails must not end it either
            log.warning("%s, %s: %s", unit.graph, model.name, _error_text(error))
            receipt = {"status": FAILED, "error": _error_text(error)}
        keep(model, {**receipt, **facts, "num_test": len(y)})
    give_back_memory()
    return len(unit.models)


def choose_metric(y: np.ndarray) -> str:
    """Choose ``roc_auc`` for two classes of which one is rare, else ``accuracy``.

    Args:
        y: Classes of the labelled nodes of a graph.

    >>> choose_metric(np.array([0] * 80 + [1] * 20)), choose_metric(np.array([0] * 70 + [1] * 30))
    ('roc_auc', 'accuracy')
    """
    counts = np.bincount(y)
    counts = counts[counts > 0]
    return "roc_auc" if len(counts) == 2 and counts.min() < RARE * counts.sum() else "accuracy"


def _measure_cell(
    plan: Plan,
    unit: Unit,
    model: Competitor,
    split: Graph,
    prepared: PreparedGraph,
    y: np.ndarray,
    metric: str,
) -> Receipt:
    """Fit and score one model; a tuned peer searches on seed 0 and reuses those settings."""
    searched: Receipt | None = None
    if model.tuned and unit.seed > 0:
        searched = plan.receipt(_cell(replace(unit, seed=0), model))
        if searched is None or searched["status"] != DONE:
            raise ValueError("the search on seed 0 failed, and other seeds reuse its settings")
    search_seconds = None
    if model.tuned and searched is None and plan.search_cost is not None:
        gcn = _gcn_seconds(plan, split, prepared, metric)
        search_seconds = max(MIN_SEARCH_SECONDS, plan.search_cost * gcn)
    found = measure(
        model,
        split,
        prepared,
        checkpoint=None if plan.checkpoint is None else plan.opened,
        seed=unit.seed,
        steps=plan.steps,
        trials=plan.trials,
        settings=None if searched is None else searched["settings"],
        search_seconds=search_seconds,
        max_seconds=plan.max_seconds,
        metric=metric,
    )
    if not np.isfinite(found.proba).all():
        raise ValueError("some predicted probabilities are not finite")
    binary = split.num_classes == 2
    scores = {
        "accuracy": accuracy(y, found.proba),
        "roc_auc": roc_auc(y, found.proba) if binary else None,
    }
    if scores[metric] is None:
        raise ValueError("all test nodes have the same class: ROC-AUC is undefined")
    return {
        "score": scores[metric],
        **scores,
        "val_score": found.val_score,
        # The search counts for every seed that uses its settings.
        "seconds": found.seconds + (0.0 if searched is None else searched["seconds"]),
        "wall_seconds": found.wall_seconds,
        "fit_seconds": found.fit_seconds,
        "trials": found.trials if searched is None else searched["trials"],
        "search_seconds": search_seconds,
        "max_seconds": plan.max_seconds,
        "flops": found.flops,
        "settings": dict(found.settings),
    }


def _split(whole: Graph, unit: Unit) -> tuple[Graph | None, Receipt]:
    """Split a graph and return facts about it; None and the reason if it must be left out."""
    if whole.y is None or not whole.has_classes:
        return None, {"error": "the graph has no single class per node"}
    y = whole.y[whole.labelled].numpy()
    facts: Receipt = {
        "num_nodes": whole.num_nodes,
        "num_edges": whole.num_edges,
        "num_features": whole.num_features,
        "num_classes": whole.num_classes,
        "metric": choose_metric(y),
    }
    if unit.split != OFFICIAL:
        return with_split(whole, sizes_of_parts(unit.split), seed=unit.seed), facts
    if whole.train_mask is None or whole.test_mask is None:
        return None, {**facts, "error": "the graph has no split of its own"}
    return whole, facts


def _prepare_seconds(plan: Plan, graph: Graph) -> float:
    """Processor time to prepare a graph, in seconds, measured once for all its cells."""

    def seconds() -> float:
        began = time.process_time()
        prepare(graph, cache=False)
        return time.process_time() - began

    return _once(plan.out / "prepare" / f"{graph.name}.json", seconds)


def _gcn_seconds(plan: Plan, split: Graph, prepared: PreparedGraph, metric: str) -> float:
    """Processor time of one training of the default GCN, measured once per graph.

    The unit of ``search_cost``.
    """

    def seconds() -> float:
        (anchor,) = competitors(ANCHOR)
        warm_up(anchor, metric)
        return measure(anchor, split, prepared, checkpoint=None, seed=0, metric=metric).seconds

    return _once(plan.out / "gcn" / f"{split.name}.json", seconds)


def _once(path: Path, seconds: Callable[[], float]) -> float:
    """Read seconds from a file, or measure them and write the file."""
    if not path.exists():
        measured = seconds()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # another process may have written it: all use one value
            write_json(path, {"graph": path.stem, "seconds": measured})
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])


def _keep(plan: Plan, cell: Cell, receipt: Receipt) -> None:
    path = plan.path(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"peak_gib": peak_memory_gib(), "machine": machine_name(), "environment": _versions()}
    write_json(path, {**vars(cell), "key": plan.keys[cell.model], **receipt, **about})


def _cell(unit: Unit, model: Competitor) -> Cell:
    return Cell(split=unit.split, graph=unit.graph, seed=unit.seed, model=model.name)


def _error_text(error: Exception) -> str:
    if isinstance(error, GraphFMError):
        return f"{error.code} {error.what}"[:500]
    return f"{type(error).__name__}: {error}"[:500]


@lru_cache(maxsize=1)
def _versions() -> dict[str, Any]:
    found = environment(0)
    return {name: found[name] for name in ("versions", "python", "platform", "threads", "commit")}
