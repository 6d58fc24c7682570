"""Do the cells of a plan that are not done: processes side by side, one receipt each.

Before a process times a model for the first time, it lets it fit a graph of 60 nodes: importing
PyG takes 2 s, which would else be on the bill of whoever comes first.
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
    refuse_seen,
    shares,
)
from graphfm.benchmark.fit import measure
from graphfm.benchmark.models import ANCHOR, Competitor, competitors
from graphfm.benchmark.workers import side_by_side, warm_up
from graphfm.errors import GraphFMError
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from graphfm.graphs.graph import Graph
from graphfm.graphs.splits import with_split
from graphfm.log_lines import collect_log_lines
from graphfm.machine import environment, give_back_memory, machine_name, peak_memory_gib
from graphfm.metrics import accuracy, roc_auc
from graphfm.storage import write_json

log = logging.getLogger(__name__)

RARE = 0.25  # of two classes, the share below which accuracy says little: ROC-AUC is judged by
MAX_WARNINGS = 5  # warnings of one receipt
KILLED = "the process was killed: out of memory?"


def run(plan: Plan, *, jobs: int = 1) -> None:
    """Do what is missing; a cell that fails leaves a receipt that says why, and the rest goes on.

    Args:
        plan: What there is to do.
        jobs: Processes, each with one thread: seconds are of one core.

    Raises:
        DataError: GFM147 where the model has learned from a graph of the suite.
    """
    refuse_seen(plan)
    todo = list(plan.units(missing_only=True))
    num_cells = sum(len(unit.models) for unit in todo)
    with tqdm(total=num_cells, unit="cell", desc=plan.suite.name, disable=None) as bar:
        # The settings that a search finds on the first seed are those of all seeds.
        left = side_by_side(
            run_unit, plan, [unit for unit in todo if unit.seed == 0], jobs=jobs, bar=bar
        )
        left += side_by_side(
            run_unit, plan, [unit for unit in todo if unit.seed > 0], jobs=jobs, bar=bar
        )
        # A process died, and with it all that ran beside it: each of these in one of its own.
        for unit in left:
            while untried := [m for m in unit.models if plan.receipt(_cell(unit, m)) is None]:
                again = [replace(unit, models=tuple(untried))]
                if not side_by_side(run_unit, plan, again, jobs=1, bar=bar):
                    break
                culprit = next(m for m in untried if plan.receipt(_cell(unit, m)) is None)
                _keep(plan, _cell(unit, culprit), {"status": FAILED, "error": KILLED})


def run_unit(plan: Plan, unit: Unit) -> int:
    """Fit some models on one split of one graph; returns how many cells that were."""
    torch.set_num_threads(1)

    def keep(model: Competitor, receipt: Receipt) -> None:
        _keep(plan, _cell(unit, model), receipt)

    try:
        whole = plan.suite.load(unit.graph)
        split, facts = _split(whole, unit)
        if split is not None:
            facts["prepare_seconds"] = _preparing(plan, whole)
            prepared = prepare(split)
    except Exception as error:  # a graph that cannot be read must not end a night's run
        for model in unit.models:
            keep(model, {"status": FAILED, "error": _said(error)})
        return len(unit.models)
    if split is None:
        for model in unit.models:
            keep(model, {"status": LEFT_OUT, **facts})
        return len(unit.models)
    assert split.y is not None and split.test_mask is not None
    asked = split.test_mask & split.labelled
    y = split.y[asked].numpy()
    # No model of the table ever holds a test label, whatever it does inside.
    split = split.replace(y=split.y.masked_fill(split.test_mask, -1), test_mask=asked)
    prepared = replace(prepared, y=split.y, test_mask=asked)
    for model in unit.models:
        try:
            warm_up(model, facts["metric"])
            # Thousands of fits: their warnings go to the receipt, not to the screen.
            with collect_log_lines(logging.WARNING, max_lines=MAX_WARNINGS, quiet=True) as warnings:
                found = _one(plan, unit, model, split, prepared, y, facts["metric"])
            receipt = {"status": DONE, **found, "warnings": [line[:200] for line in warnings]}
        except Exception as error:  # nor must a model that fails
            log.warning("%s, %s: %s", unit.graph, model.name, _said(error))
            receipt = {"status": FAILED, "error": _said(error)}
        keep(model, {**receipt, **facts, "num_test": len(y)})
    give_back_memory()
    return len(unit.models)


def judged_by(y: np.ndarray) -> str:
    """``roc_auc`` for two classes of which one is rare, else ``accuracy``.

    Args:
        y: Classes of the labelled nodes of a graph.

    >>> judged_by(np.array([0] * 80 + [1] * 20)), judged_by(np.array([0] * 70 + [1] * 30))
    ('roc_auc', 'accuracy')
    """
    counts = np.bincount(y)
    counts = counts[counts > 0]
    return "roc_auc" if len(counts) == 2 and counts.min() < RARE * counts.sum() else "accuracy"


def _one(
    plan: Plan,
    unit: Unit,
    model: Competitor,
    split: Graph,
    prepared: PreparedGraph,
    y: np.ndarray,
    metric: str,
) -> Receipt:
    """Fit and judge one model; a tuned peer searches on the first seed and keeps what it found."""
    searched: Receipt | None = None
    if model.tuned and unit.seed > 0:
        searched = plan.receipt(_cell(replace(unit, seed=0), model))
        if searched is None or searched["status"] != DONE:
            raise ValueError("its search, which is done on seed 0, has failed")
    limits = [plan.max_seconds]
    if model.tuned and plan.search_cost is not None:
        gcn = _gcn_seconds(plan, split, prepared, metric)
        limits.append(max(MIN_SEARCH_SECONDS, plan.search_cost * gcn))
    max_seconds = min((limit for limit in limits if limit is not None), default=None)
    found = measure(
        model,
        split,
        prepared,
        start=plan.start,
        seed=unit.seed,
        steps=plan.steps,
        trials=plan.trials,
        settings=None if searched is None else searched["settings"],
        max_seconds=max_seconds,
        metric=metric,
    )
    if not np.isfinite(found.proba).all():
        raise ValueError("its answers are not all finite")
    two = split.num_classes == 2
    scores = {
        "accuracy": accuracy(y, found.proba),
        "roc_auc": roc_auc(y, found.proba) if two else None,
    }
    if scores[metric] is None:
        raise ValueError("all test nodes are of one class: there is no ROC-AUC")
    return {
        "score": scores[metric],
        **scores,
        "val_score": found.val_score,
        # A tuned answer costs its search, whichever seed asks.
        "seconds": found.seconds + (0.0 if searched is None else searched["seconds"]),
        "wall_seconds": found.wall_seconds,
        "fit_seconds": found.fit_seconds,
        "trials": found.trials if searched is None else searched["trials"],
        "max_seconds": max_seconds,
        "flops": found.flops,
        "settings": dict(found.settings),
    }


def _split(whole: Graph, unit: Unit) -> tuple[Graph | None, Receipt]:
    """The graph with its split, and what is known of it; without one, why it is left out."""
    if whole.y is None or not whole.has_classes:
        return None, {"error": "its nodes have no single class"}
    y = whole.y[whole.labelled].numpy()
    facts: Receipt = {
        "num_nodes": whole.num_nodes,
        "num_edges": whole.num_edges,
        "num_features": whole.num_features,
        "num_classes": whole.num_classes,
        "metric": judged_by(y),
    }
    if unit.split != OFFICIAL:
        return with_split(whole, shares(unit.split), seed=unit.seed), facts
    if whole.train_mask is None or whole.test_mask is None:
        return None, {**facts, "error": "it has no split of its own"}
    return whole, facts


def _preparing(plan: Plan, graph: Graph) -> float:
    """Seconds that positions and features of a graph take, measured once for all its cells."""

    def seconds() -> float:
        began = time.process_time()
        prepare(graph, cache=False)
        return time.process_time() - began

    return _once(plan.out / "prepare" / f"{graph.name}.json", seconds)


def _gcn_seconds(plan: Plan, split: Graph, prepared: PreparedGraph, metric: str) -> float:
    """Of one training of the default GCN, measured once for a graph: the unit of every search."""

    def seconds() -> float:
        (anchor,) = competitors(ANCHOR)
        warm_up(anchor, metric)
        return measure(anchor, split, prepared, start=None, seed=0, metric=metric).seconds

    return _once(plan.out / "gcn" / f"{split.name}.json", seconds)


def _once(path: Path, seconds: Callable[[], float]) -> float:
    """Seconds as the file says, measured where there is none yet."""
    if not path.exists():
        measured = seconds()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # else a process beside this one was faster: the same for all
            write_json(path, {"graph": path.stem, "seconds": measured})
    return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])


def _keep(plan: Plan, cell: Cell, receipt: Receipt) -> None:
    path = plan.path(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"peak_gib": peak_memory_gib(), "machine": machine_name(), "environment": _versions()}
    write_json(path, {**vars(cell), "key": plan.keys[cell.model], **receipt, **about})


def _cell(unit: Unit, model: Competitor) -> Cell:
    return Cell(split=unit.split, graph=unit.graph, seed=unit.seed, model=model.name)


def _said(error: Exception) -> str:
    if isinstance(error, GraphFMError):
        return f"{error.code} {error.what}"[:500]
    return f"{type(error).__name__}: {error}"[:500]


@lru_cache(maxsize=1)
def _versions() -> dict[str, Any]:
    found = environment(0)
    return {name: found[name] for name in ("versions", "python", "platform", "threads", "commit")}
