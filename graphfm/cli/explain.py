"""``graphfm explain``."""

from __future__ import annotations

import re
import textwrap
from importlib.resources import files
from typing import Annotated

import typer

from graphfm.cli.terminal import note, show, show_json, table

WIDTH = 88  # columns of a screen; longer lines are hard to read


def explain(
    code: Annotated[
        str | None, typer.Argument(help="Such as GFM112, or just 112. Without it: all of them.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say what an error code means, what usually causes it, and what to do.

    Example: `graphfm explain GFM112`
    """
    entries = explanations()
    if code is None:
        if as_json:
            show_json(entries)
        else:
            rows = [[name, entry["title"]] for name, entry in entries.items()]
            show(table(rows, head=["code", "error"]))
            note("Next: graphfm explain CODE")
        return
    name = code.strip().upper()
    name = f"GFM{name}" if re.fullmatch(r"\d+", name) else name
    if name not in entries:
        from graphfm.config.parts import did_you_mean

        raise typer.BadParameter(
            f"there is no error code {code!r}.{did_you_mean(name, list(entries))} "
            "`graphfm explain` lists all."
        )
    if as_json:
        show_json({"code": name, **entries[name]})
    else:
        show(as_text(name, entries[name]))


def explanations() -> dict[str, dict]:
    """The texts of all codes: ``title``, ``means``, ``causes``, ``fix`` and ``example``."""
    import yaml

    text = (files("graphfm.cli") / "explanations.yaml").read_text(encoding="utf-8")
    entries: dict[str, dict] = yaml.safe_load(text)
    return entries


def as_text(code: str, entry: dict) -> str:
    """One screen about a code."""
    parts = [f"{code}  {entry['title']}", _wrapped(entry["means"], "  ", "  ")]
    for heading, lines in (("usual causes", entry["causes"]), ("what to do", entry["fix"])):
        listed = "\n".join(_wrapped(line, "    - ", "      ") for line in lines)
        parts.append(f"  {heading}\n{listed}")
    parts.append("  example\n" + textwrap.indent(entry["example"].rstrip(), "    "))
    return "\n\n".join(parts)


def _wrapped(text: str, first: str, later: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )
