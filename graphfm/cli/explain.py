"""The command ``graphfm explain``: describe an error code."""

from __future__ import annotations

import re
import textwrap
from importlib.resources import files
from typing import Annotated

import typer

from graphfm.cli.terminal import next_step, show, show_json, table

WIDTH = 88  # characters per line; longer lines are hard to read


def explain(
    code: Annotated[
        str | None, typer.Argument(help="Error code: GFM112 or 112. Without it: list all codes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Explain an error code: its meaning, its usual causes, and what to do.

    Example: `graphfm explain GFM112`
    """
    entries = explanations()
    if code is None:
        if as_json:
            show_json(entries)
        else:
            rows = [[name, entry["title"]] for name, entry in entries.items()]
            show(table(rows, head=["code", "error"]))
            next_step("graphfm explain", next(iter(entries)))
        return
    name = code.strip().upper()
    name = f"GFM{name}" if re.fullmatch(r"\d+", name) else name
    if name not in entries:
        from graphfm.config.parts import did_you_mean

        raise typer.BadParameter(
            f"there is no error code {code!r}.{did_you_mean(name, list(entries))} "
            "`graphfm explain` lists all codes."
        )
    if as_json:
        show_json({"code": name, **entries[name]})
    else:
        show(as_text(name, entries[name]))


def explanations() -> dict[str, dict]:
    """Return ``title``, ``means``, ``causes``, ``fix`` and ``example`` of every code."""
    import yaml

    text = (files("graphfm.cli") / "explanations.yaml").read_text(encoding="utf-8")
    entries: dict[str, dict] = yaml.safe_load(text)
    return entries


def as_text(code: str, entry: dict) -> str:
    """Return the explanation of a code as text for the screen."""
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
