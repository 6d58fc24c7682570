"""How long a command may take, as people write it."""

from __future__ import annotations

from graphfm.config import seconds
from graphfm.errors import RecipeError


def duration(text: str | None, *, zero: bool = False) -> float | None:
    """Seconds of ``90s``, ``30m``, ``6h`` or a plain number; None of None.

    Args:
        text: What ``--max-time`` was given.
        zero: Whether 0 has a meaning.

    Raises:
        RecipeError: GFM212 for what is no duration.
    """
    if text is None:
        return None
    try:
        found = float(seconds(text))
    except ValueError:
        found = -1.0
    if not (0 < found < float("inf") or (zero and found == 0)):
        raise RecipeError(
            "GFM212",
            f"--max-time must be a time, got {text!r}",
            fix="such as 90s, 30m or 6h",
        )
    return found
