"""Content of the page and its rendering as one HTML file without scripts or external addresses.

The template escapes every value. The exception is the SVG of :mod:`graphfm.report.svg`, which
escapes its own texts. The content policy in the page's head allows one style sheet, by its hash,
and nothing else: markup that slipped through could not load anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from graphfm.report.text import plain


@dataclass(frozen=True, kw_only=True)
class Page:
    """Content of the page, in its order; a section that is empty or None is left out.

    Args:
        title: Name of the graph.
        lead: Sentences that summarize the result.
        cards: Main numbers: name, value, explanation.
        facts: Tables about the graph and the fit, by heading.
        missing: Sentences about what the page lacks, and how to add it.
        warnings: Remarks on the data.
        methods: Rows of the comparison: name, score, interval, macro F1, bar.
        metric: Name of that score.
        curves: Learning curves, as SVG.
        confusion: ``{"classes", "rows", "left_out", "errors"}``.
        classes: Rows of the class table.
        calibration: ``{"picture", "facts"}``.
        map: ``{"pictures", "how"}``.
        uncertain: Rows of the table of uncertain nodes.
        importances: ``{"how", "sides", "columns"}``.
        evaluated: Name of the evaluated nodes, such as ``359 test nodes``.
        commands: Command lines of the fit and of this page, by heading.
        versions: Versions of packages and the machine, by name.
    """

    title: str
    lead: list[str]
    cards: list[tuple[str, str, str]] = field(default_factory=list)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    methods: list[dict[str, Any]] = field(default_factory=list)
    metric: str = "accuracy"
    curves: list[str] = field(default_factory=list)
    confusion: dict[str, Any] | None = None
    classes: list[dict[str, Any]] = field(default_factory=list)
    calibration: dict[str, Any] | None = None
    map: dict[str, Any] | None = None
    uncertain: list[dict[str, Any]] = field(default_factory=list)
    importances: dict[str, Any] | None = None
    evaluated: str = ""
    commands: dict[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def render(page: Page) -> str:
    """Render the page as HTML."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: Any) -> Any:
        return plain(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    folder = files("graphfm.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (folder / "page.css").read_text(encoding="utf-8")
    # The browser hashes the text between the tags, to the last line break.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    text = environment.get_template("page.html").render(
        page=page, style=Markup(style), style_hash=Markup(digest), picture=Markup
    )
    return text.encode("utf-8", "replace").decode("utf-8")
