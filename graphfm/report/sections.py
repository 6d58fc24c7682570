"""Sections of the page about evaluated nodes: confusion, classes, calibration, importances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphfm.metrics import brier, calibration_error, roc_auc, top_confidence
from graphfm.report import pictures
from graphfm.report.evidence import (
    Evaluated,
    class_rows,
    confusion,
    frequent_errors,
    reliability_bins,
)
from graphfm.report.importance import Importances
from graphfm.report.svg import bar
from graphfm.report.text import short

COVERAGE = 0.9  # share of prediction sets that should hold the true class
MAX_CLASSES = 20  # in the confusion matrix
MAX_ROWS = 200  # in the per-class table
MAX_COLUMNS = 20  # in the table of importances
HEAT = (0.005, 0.05, 0.2, 0.5, 0.8)  # share of a row above which a cell gets one shade darker


def evaluation_sections(evaluated: Evaluated, estimator: Mapping[str, Any]) -> dict[str, Any]:
    """Build the sections about evaluated nodes, by the name of the page's field, and cards.

    Args:
        evaluated: Predictions for nodes whose label is known.
        estimator: Settings and results of the fit, with its calibration.
    """
    after = calibration_error(*top_confidence(evaluated.y, evaluated.proba))
    return {
        "evaluated": f"{len(evaluated.y):,} {evaluated.part} nodes",
        "confusion": None if evaluated.multilabel else _confusion(evaluated),
        "classes": _classes(evaluated),
        "calibration": _calibration(evaluated, after, estimator),
        "cards": _cards(evaluated, after),
    }


def importance_section(found: Importances, part: str) -> dict[str, Any]:
    """Build the section about importances; ``part`` names the evaluated nodes."""
    tried = len(found.columns)
    columns = (
        f"All {tried:,} columns"
        if tried == found.num_columns
        else (
            f"The {tried:,} of {found.num_columns:,} columns that are most associated with the "
            "label"
        )
    )
    rounds = max((d.rounds for d in found.columns), default=0)
    how = (
        f"One column at a time is shuffled over all nodes, and {found.num_nodes:,} {part} nodes "
        f"are predicted again. The drop of accuracy, from {found.base:.3f}, shows how much the "
        f"model uses the column. {columns} were shuffled, "
        f"{'once' if rounds == 1 else f'up to {rounds} times'} each, in {found.seconds:.0f} s. "
        "If two columns hold the same information, each of them alone costs little. “Edges” "
        "means that every node gets the edges of another node."
    )
    sides = [("all features together", found.features), ("edges", found.edges)]
    top = max([d.accuracy for _, d in sides] + [0.01])
    shown = found.columns[:MAX_COLUMNS]
    top_column = max([d.accuracy + d.spread for d in shown] + [0.005])
    return {
        "how": how,
        "sides": [
            {
                "name": name,
                "points": f"{100 * d.accuracy:.1f}",
                "picture": bar(d.accuracy, top=top, spread=d.spread),
            }
            for name, d in sides
        ],
        "columns": [
            {
                "name": short(d.name),
                "points": f"{100 * d.accuracy:.2f}",
                "spread": f"{100 * d.spread:.2f}" if d.rounds > 1 else "–",
                "loss": f"{d.loss:+.3f}",
                "picture": bar(d.accuracy, top=top_column, spread=d.spread),
            }
            for d in shown
        ],
    }


def _cards(evaluated: Evaluated, error: float) -> list[tuple[str, str, str]]:
    before = calibration_error(*top_confidence(evaluated.y, evaluated.uncalibrated))
    rows = [r.f1 for r in class_rows(evaluated) if r.num_true]
    cards = [
        ("macro F1", f"{np.mean(rows):.3f}", f"over {len(rows)} classes"),
        ("calibration error", f"{error:.3f}", f"{before:.3f} before temperature scaling"),
    ]
    if evaluated.sets is not None and not evaluated.multilabel:
        hit = float(evaluated.sets[np.arange(len(evaluated.y)), evaluated.y].mean())
        size = float(evaluated.sets.sum(axis=1).mean())
        about = f"contain the true class; {size:.2f} classes each"
        cards.append((f"{COVERAGE:.0%} prediction sets", f"{hit:.1%}", about))
    return cards


def _confusion(evaluated: Evaluated) -> dict[str, Any]:
    matrix = confusion(evaluated)
    counts = matrix.sum(axis=1) + matrix.sum(axis=0)
    kept = np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES])
    kept = kept[counts[kept] > 0]
    names = [short(c) for c in evaluated.classes]
    rows = []
    for i in kept.tolist():
        total = max(1, int(matrix[i].sum()))
        heats = np.searchsorted(HEAT, matrix[i, kept] / total, side="right").tolist()
        cells = [
            {"num": f"{n:,}" if n else "·", "heat": heat}
            for n, heat in zip(matrix[i, kept].tolist(), heats, strict=True)
        ]
        rows.append({"name": names[i], "cells": cells})
    left_out = ""
    if len(kept) < len(names):
        left_out = f"The {len(kept)} most frequent of {len(names)} classes are shown."
    return {
        "classes": [names[i] for i in kept.tolist()],
        "rows": rows,
        "left_out": left_out,
        "errors": [
            {
                "true": names[i],
                "predicted": names[j],
                "num": f"{n:,}",
                "share": f"{n / max(1, int(matrix[i].sum())):.0%}",
            }
            for i, j, n in frequent_errors(matrix)
        ],
    }


def _classes(evaluated: Evaluated) -> list[dict[str, Any]]:
    rows = sorted(class_rows(evaluated), key=lambda r: -r.num_true)[:MAX_ROWS]
    return [
        {
            **vars(r),
            "name": short(r.name),
            "num_train": "–" if r.num_train is None else f"{r.num_train:,}",
            "num_true": f"{r.num_true:,}",
            "num_predicted": f"{r.num_predicted:,}",
            "picture": bar(0.0 if r.f1 != r.f1 else r.f1, top=1.0),
        }
        for r in rows
    ]


def _calibration(
    evaluated: Evaluated, error: float, estimator: Mapping[str, Any]
) -> dict[str, Any]:
    same = np.allclose(evaluated.proba, evaluated.uncalibrated, atol=1e-6)
    before = [] if same else reliability_bins(evaluated.y, evaluated.uncalibrated)
    confidence, right = top_confidence(evaluated.y, evaluated.proba)
    auc = roc_auc(evaluated.y, evaluated.proba)
    temperature = estimator.get("calibration", {}).get("temperature", 1.0)
    num_fit = estimator.get("calibration", {}).get("num_nodes", 0)
    facts = {
        "expected calibration error": (
            f"{error:.3f} (mean difference between confidence and accuracy, over at most 15 "
            "bins of equal size)"
        ),
        "before temperature scaling": None
        if same
        else f"{calibration_error(*top_confidence(evaluated.y, evaluated.uncalibrated)):.3f}",
        "temperature": f"{temperature:.3f}, from {num_fit:,} validation nodes"
        if num_fit
        else "not fitted: there were too few validation nodes",
        "Brier score": (
            f"{brier(evaluated.y, evaluated.proba):.3f} (mean squared error of the probabilities; "
            "0 is best)"
        ),
        "ROC-AUC": None
        if auc is None
        else f"{auc:.3f} (mean over classes, each against the rest; 0.5 is chance)",
        "mean confidence": (
            f"{confidence.mean():.3f}; {right.mean():.3f} of the predictions are correct"
        ),
    }
    if evaluated.sets is not None and not evaluated.multilabel:
        sizes = evaluated.sets.sum(axis=1)
        hit = float(evaluated.sets[np.arange(len(evaluated.y)), evaluated.y].mean())
        facts[f"{COVERAGE:.0%} prediction sets"] = (
            f"{hit:.1%} contain the true class; {sizes.mean():.2f} classes each on average; "
            f"{(sizes == 1).mean():.0%} hold one class"
        )
    picture = pictures.reliability_diagram(
        reliability_bins(evaluated.y, evaluated.proba), before, error
    )
    return {"picture": picture, "facts": {k: v for k, v in facts.items() if v is not None}}
