"""Output of the commands: data on stdout, messages on stderr."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from graphfm.errors import GraphFMError

# C0 without tab and line feed, C1, and marks that reverse the direction of text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_DIGITS = set("0123456789~?-")


def show(text: str) -> None:
    """Write data to stdout and flush, so that a closed pipe raises here and not at exit."""
    _write(sys.stdout, text)


def show_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write the JSON value of ``--json`` to stdout."""
    show(json.dumps(value, indent=2, default=_plain))


def note(text: str) -> None:
    """Write a message to stderr."""
    _write(sys.stderr, text)


def next_step(command: str, *words: object) -> None:
    """Print the command that usually comes next; its arguments are quoted for the shell."""
    note(" ".join(["Next:", command, *(shlex.quote(str(word)) for word in words)]))


def unused(name: str) -> str:
    """Return a path that does not exist: ``preds.csv``, else ``preds-2.csv`` and so on."""
    first = path = Path(name)
    for number in count(2):
        if not path.exists():
            break
        path = first.with_name(f"{first.stem}-{number}{first.suffix}")
    return str(path)


def report(error: GraphFMError) -> None:
    """Write an error with its four parts to stderr."""
    mark = "✗" if _can_write(sys.stderr, "✗") else "x"
    note(f"{mark} {error}\n  docs    graphfm explain {error.code}")


def table(rows: Sequence[Sequence[str]], *, head: Sequence[str]) -> str:
    """Return a table aligned by spaces; columns of numbers are aligned to the right.

    >>> print(table([["karate", "34"], ["digits", "1,797"]], head=["id", "nodes"]))
    id      nodes
    karate     34
    digits  1,797
    """
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    numeric = [bool(rows) and all(row[i][:1] in _DIGITS for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def pairs(values: Mapping[str, Any], *, indent: str = "  ") -> str:
    """Return one ``name  value`` per line, with aligned values.

    >>> print(pairs({"nodes": "34", "classes": "4"}, indent=""))
    nodes    34
    classes  4
    """
    width = max((len(name) for name in values), default=0)
    return "\n".join(f"{indent}{name:<{width}}  {value}" for name, value in values.items())


def brief(value: Any) -> str:
    """Return a value of a JSON file as text of at most 100 characters.

    >>> brief({"steps": 6000, "loss": 0.71234567, "finished": True})
    'steps 6,000, loss 0.7123, finished True'
    """
    if isinstance(value, dict):
        text = ", ".join(f"{name} {brief(part)}" for name, part in value.items())
    elif isinstance(value, (list, tuple)):
        text = ", ".join(map(brief, value))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    else:
        text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def printable(text: str) -> str:
    r"""Return text with every control character escaped, except line breaks and tabs.

    A name from a stranger's file could otherwise move the cursor, change colors or hide lines.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if not _CONTROL.search(text):
        return text
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed by the shell: graphfm ... >&-
        return
    text = printable(text)
    if not _can_write(stream, text):
        encoding = stream.encoding or "ascii"
        text = text.encode(encoding, "replace").decode(encoding)
    stream.write(text + "\n")
    stream.flush()


def _can_write(stream: TextIO | None, text: str) -> bool:
    if stream is None:
        return True
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> Any:
    """Convert a NumPy or torch value or a path to a type that JSON has."""
    for method in ("item", "tolist"):
        if hasattr(value, method) and getattr(value, "ndim", 0) == (method == "tolist"):
            return getattr(value, method)()
    return str(value)
