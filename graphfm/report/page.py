"""The page itself: one file, no address outside it, no script.

The template escapes whatever it is given; only the SVG of :mod:`graphfm.report.svg`, which escapes
its own texts, passes as it is. The content policy in the page's head allows the one style sheet
below it, by its hash, and nothing else: even markup that slipped through could load nothing.
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
    """What a report says, in the order in which it says it; a section that is None is left out.

    Args:
        title: Name of the graph.
        lead: What was found, in sentences.
        cards: Numbers to be seen first: pairs of a name and a value, and what to know of it.
        facts: What was fitted on what: tables of names and values, by heading.
        missing: What the page would show too if there were more to read, and how to get there.
        warnings: What is to be known of the data.
        methods: Rows of the comparison: name, score, interval, macro F1, bar.
        metric: Name of that score.
        curves: Pictures of the fit.
        confusion: ``{"classes", "rows", "left_out", "mix_ups"}``.
        classes: Rows of the per-class table.
        calibration: ``{"picture", "facts"}``.
        map: ``{"pictures", "how"}``.
        doubts: Most uncertain nodes.
        importances: ``{"columns", "features", "place", ...}``.
        judged: Words for the nodes that were judged, such as ``359 test nodes``.
        commands: Command lines: of the fit, and of this page.
        versions: Package or machine -> version.
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
    doubts: list[dict[str, Any]] = field(default_factory=list)
    importances: dict[str, Any] | None = None
    judged: str = ""
    commands: dict[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def render(page: Page) -> str:
    """The page as HTML."""
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
