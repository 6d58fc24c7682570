"""Build and write the report of a fitted model.

:func:`write_report` is the entry point. Without the graph the page holds only what the record of
the fit says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphfm.graphs.order import in_order
from graphfm.report.facts import (
    fit_facts,
    graph_facts,
    lead_sentences,
    learning_curves,
    method_rows,
    score_card,
    tune_of,
    versions_of,
)
from graphfm.report.fit_record import FitRecord
from graphfm.report.node_sections import node_sections
from graphfm.report.page import Page, render
from graphfm.report.subject import ModelOnGraph
from graphfm.report.text import short
from graphfm.storage import whole_file

MAX_SECONDS = 20.0  # time for the importances of columns, unless the caller says otherwise


def write_report(
    out: Path,
    record: FitRecord,
    subject: ModelOnGraph | None,
    *,
    missing: Sequence[str] = (),
    tsne: bool = False,
    max_seconds: float = MAX_SECONDS,
    seed: int = 0,
) -> Page:
    """Write the report as one HTML file, whole or not at all; arguments as :func:`build_page`.

    Args:
        out: File to write.
        record: The fit.
        subject: The model and its graph. None writes what the record holds.
        missing: Sentences about what the page lacks, and why.
        tsne: If true, draw the map of nodes by t-SNE.
        max_seconds: Time for the importances of columns, in seconds; 0 leaves them out.
        seed: Seed of samples and shuffles.

    Returns:
        The content of the page.
    """
    page = build_page(
        record, subject, missing=missing, tsne=tsne, max_seconds=max_seconds, seed=seed
    )
    html = render(page)
    with whole_file(out) as path:
        path.write_text(html, encoding="utf-8")
    return page


def build_page(
    record: FitRecord,
    subject: ModelOnGraph | None,
    *,
    missing: Sequence[str] = (),
    tsne: bool = False,
    max_seconds: float = MAX_SECONDS,
    seed: int = 0,
) -> Page:
    """Collect the content of the page.

    Args:
        record: The fit.
        subject: The model and its graph. None shows what the record holds.
        missing: Sentences about what the page lacks, and why.
        tsne: If true, draw the map of nodes by t-SNE instead of principal components.
        max_seconds: Time for the importances of columns, in seconds; 0 leaves them out.
        seed: Seed of samples and shuffles.
    """
    if subject is not None:  # samples and pictures do not depend on the order of the nodes
        subject = replace(subject, graph=in_order(subject.graph)[0])
    estimator, scores = record.estimator, record.fit.get("test", {})
    metric = next(iter(scores.get("graphfm", ())), "accuracy")
    methods = method_rows(scores, metric)
    content: dict[str, Any] = {
        "title": short(str(estimator["graph"])),
        "lead": lead_sentences(record, methods, metric),
        "missing": list(missing),
        "facts": {
            "The graph": graph_facts(record, None if subject is None else subject.graph),
            "The fit": fit_facts(record),
        },
        "methods": methods,
        "metric": metric.replace("_", " "),
        "curves": learning_curves(estimator),
        "commands": record.commands,
        "versions": versions_of(record.config.get("environment", {})),
        "cards": [score_card(row, metric) for row in methods[:1]],
    }
    if subject is not None:
        sections = node_sections(record, subject, tsne=tsne, max_seconds=max_seconds, seed=seed)
        content["cards"] += sections.pop("cards")
        content |= sections
    content["cards"] += [
        ("time to fit", f"{estimator['fit_seconds']:.1f} s", f"fitted: {tune_of(estimator)}")
    ]
    return Page(**content)
