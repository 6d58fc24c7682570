"""Read YAML as plain data, with bounds on its size, and refuse keys that occur twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from graphfm.errors import RecipeError

MAX_SIZE = 1_000_000  # characters, with aliases written out
MAX_DEPTH = 32  # lists and mappings in each other

# As yaml.SafeLoader, but by libyaml if available: reads the catalog in 0.06 s instead of 0.5 s.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(kw_only=True)
class _Open:
    """A list or mapping that has begun and not ended.

    Args:
        anchor: Name by which aliases refer to it; None if it has no name.
        mapping: True for a mapping.
        keys: Keys so far.
        size: Characters so far.
        at_key: True if the next scalar is a key.
    """

    anchor: str | None
    mapping: bool
    keys: set[str] = field(default_factory=set)
    size: int = 1
    at_key: bool = True


def read_yaml(path: Path) -> Any:
    """Read a YAML file as plain data.

    Raises:
        RecipeError: GFM205 with the line, if the file cannot be read or is not valid YAML.
    """
    try:
        if path.stat().st_size > 4 * MAX_SIZE:  # bytes of a character in UTF-8, at most
            raise _too_large()
        return parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.what if isinstance(error, RecipeError) else f"cannot be read: {error}"
        raise RecipeError("GFM205", reason, where=str(path)) from None


def parse_yaml(text: str) -> Any:
    """Return the plain data of one YAML document.

    Raises:
        RecipeError: GFM205 for text that is not YAML, is too large or too deep, or has a key twice.
    """
    try:
        _check(text)
        loader = LOADER(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except RecipeError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # dates that do not exist, ...
        raise RecipeError("GFM205", f"not valid YAML: {error}") from None


def _check(text: str) -> None:
    """Check size, depth and keys on the events of the parser, before values are built.

    Deep nesting would otherwise crash the interpreter, and aliases of aliases would fill the
    memory.
    """
    if len(text) > MAX_SIZE:
        raise _too_large()
    stack = [_Open(anchor=None, mapping=False)]
    sizes: dict[str, int] = {}  # of the values with a name
    for event in yaml.parse(text, Loader=LOADER):
        top, line = stack[-1], event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionStartEvent):
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            if top.mapping and top.at_key:
                raise RecipeError("GFM205", f"line {line}: a key must be text or a number")
            stack.append(_Open(anchor=event.anchor, mapping=is_mapping))
            if len(stack) > MAX_DEPTH:
                raise RecipeError("GFM205", f"line {line}: more than {MAX_DEPTH} levels")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            size, anchor = stack.pop().size, top.anchor
            top = stack[-1]
        elif isinstance(event, yaml.ScalarEvent):
            size, anchor = 1 + len(event.value), event.anchor
            if top.mapping and top.at_key and event.value in top.keys:
                raise RecipeError("GFM205", f"line {line}: the key {event.value!r} occurs twice")
            if top.mapping and top.at_key:
                top.keys.add(event.value)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise RecipeError("GFM205", f"line {line}: *{event.anchor} is not known here")
            size, anchor = sizes[event.anchor], None
        else:
            continue
        top.size += size
        top.at_key = not top.at_key
        if top.size > MAX_SIZE:
            raise _too_large()
        if anchor is not None:
            sizes[anchor] = size


def _too_large() -> RecipeError:
    return RecipeError("GFM205", f"more than {MAX_SIZE:,} characters, with aliases written out")
