"""Sections of the page that judge predictions: confusion, classes, calibration, importances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphfm.metrics import brier, calibration_error, roc_auc, top_confidence
from graphfm.report import pictures
from graphfm.report.evidence import Judged, class_rows, confusion, mix_ups, reliability
from graphfm.report.importance import Importances
from graphfm.report.svg import bar
from graphfm.report.text import short

COVERAGE = 0.9  # of the prediction sets that are counted
MAX_CLASSES = 20  # in the confusion matrix
MAX_ROWS = 200  # in the per-class table
MAX_COLUMNS = 20  # in the table of importances
HEAT = (0.005, 0.05, 0.2, 0.5, 0.8)  # shares of a row at which a cell gets darker


def judgement(judged: Judged, estimator: Mapping[str, Any]) -> dict[str, Any]:
    """What the judged nodes show: sections by the name of the page's field, and cards."""
    after = calibration_error(*top_confidence(judged.y, judged.proba))
    return {
        "judged": f"{len(judged.y):,} {judged.part} nodes",
        "confusion": None if judged.several else _confusion(judged),
        "classes": _classes(judged),
        "calibration": _calibration(judged, after, estimator),
        "cards": _cards(judged, after),
    }


def table_of_importances(found: Importances, on: str) -> dict[str, Any]:
    """The section of importances."""
    tried = len(found.columns)
    part = (
        f"All {tried:,} columns"
        if tried == found.num_columns
        else (
            f"{tried:,} of {found.num_columns:,} columns, those first that tell classes apart best,"
        )
    )
    rounds = max((d.rounds for d in found.columns), default=0)
    how = (
        f"A column is shuffled over all nodes, and {found.num_nodes:,} {on} nodes are "
        f"predicted again: what the model leans on costs accuracy, which is {found.base:.3f} now. "
        f"{part} were tried, {'once' if rounds == 1 else f'up to {rounds} times'} each, in "
        f"{found.seconds:.0f} s. Columns that say the same stand in for each other, and then each "
        "of them costs little. “Place in the graph” gives a node the edges of another one."
    )
    sides = [("all features together", found.features), ("place in the graph", found.place)]
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


def _cards(judged: Judged, error: float) -> list[tuple[str, str, str]]:
    before = calibration_error(*top_confidence(judged.y, judged.uncalibrated))
    rows = [r.f1 for r in class_rows(judged) if r.num_judged]
    cards = [
        ("macro F1", f"{np.mean(rows):.3f}", f"over {len(rows)} classes"),
        ("calibration error", f"{error:.3f}", f"{before:.3f} before scaling"),
    ]
    if judged.sets is not None and not judged.several:
        hit = float(judged.sets[np.arange(len(judged.y)), judged.y].mean())
        size = float(judged.sets.sum(axis=1).mean())
        cards.append((f"sets at {COVERAGE:.0%}", f"{hit:.1%}", f"hold the truth; size {size:.2f}"))
    return cards


def _confusion(judged: Judged) -> dict[str, Any]:
    matrix = confusion(judged)
    counts = matrix.sum(axis=1) + matrix.sum(axis=0)
    kept = np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES])
    kept = kept[counts[kept] > 0]
    names = [short(c) for c in judged.classes]
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
        left_out = f"{len(kept)} of {len(names)} classes are shown: the most frequent ones here."
    return {
        "classes": [names[i] for i in kept.tolist()],
        "rows": rows,
        "left_out": left_out,
        "mix_ups": [
            {
                "true": names[i],
                "guess": names[j],
                "num": f"{n:,}",
                "share": f"{n / max(1, int(matrix[i].sum())):.0%}",
            }
            for i, j, n in mix_ups(matrix)
        ],
    }


def _classes(judged: Judged) -> list[dict[str, Any]]:
    rows = sorted(class_rows(judged), key=lambda r: -r.num_judged)[:MAX_ROWS]
    return [
        {
            **vars(r),
            "name": short(r.name),
            "num_train": "–" if r.num_train is None else f"{r.num_train:,}",
            "num_judged": f"{r.num_judged:,}",
            "num_guessed": f"{r.num_guessed:,}",
            "picture": bar(0.0 if r.f1 != r.f1 else r.f1, top=1.0),
        }
        for r in rows
    ]


def _calibration(judged: Judged, error: float, estimator: Mapping[str, Any]) -> dict[str, Any]:
    same = np.allclose(judged.proba, judged.uncalibrated, atol=1e-6)
    before = [] if same else reliability(judged.y, judged.uncalibrated)
    confidence, right = top_confidence(judged.y, judged.proba)
    auc = roc_auc(judged.y, judged.proba)
    temperature = estimator.get("calibration", {}).get("temperature", 1.0)
    num_fit = estimator.get("calibration", {}).get("num_nodes", 0)
    facts = {
        "expected calibration error": f"{error:.3f} (mean gap over 15 bins of equal size)",
        "before temperature scaling": None
        if same
        else f"{calibration_error(*top_confidence(judged.y, judged.uncalibrated)):.3f}",
        "temperature": f"{temperature:.3f}, from {num_fit:,} validation nodes"
        if num_fit
        else "none was fitted: there were no validation nodes for it",
        "Brier score": f"{brier(judged.y, judged.proba):.3f} (0 is best)",
        "ROC-AUC": None if auc is None else f"{auc:.3f} (mean over classes, each against the rest)",
        "mean confidence": f"{confidence.mean():.3f}, and {right.mean():.3f} are right",
    }
    if judged.sets is not None and not judged.several:
        sizes = judged.sets.sum(axis=1)
        hit = float(judged.sets[np.arange(len(judged.y)), judged.y].mean())
        facts[f"prediction sets at {COVERAGE:.0%}"] = (
            f"{hit:.1%} hold the true class; {sizes.mean():.2f} classes each on average, "
            f"{(sizes == 1).mean():.0%} name just one"
        )
    picture = pictures.reliability_diagram(reliability(judged.y, judged.proba), before, error)
    return {"picture": picture, "facts": {k: v for k, v in facts.items() if v is not None}}
