"""Inputs of the commands of ``graphfm scaling``: numbers, ranges, a fitted law."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from graphfm.errors import DataError, RecipeError

if TYPE_CHECKING:
    from graphfm.scaling.fitted import Fit


def read_fit(path: Path) -> Fit:
    """Read a fitted law.

    Raises:
        DataError: GFM103 for a file without one.
    """
    from graphfm.scaling.fitted import Fit

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DataError(
            "GFM103", f"no fitted law can be read: {error}", where=str(path),
            fix="write one by graphfm scaling fit runs/*/run.json --out fit.json",
        ) from None  # fmt: skip
    return Fit.from_json(text, where=str(path))


def positive(**given: float | None) -> None:
    """Refuse numbers that are not above zero.

    Raises:
        RecipeError: GFM705.
    """
    for name, value in given.items():
        if value is not None and not 0 < value < float("inf"):
            raise RecipeError(
                "GFM705", f"--{name} must be a number above zero, got {value:g}", where=f"--{name}"
            )


def numbers(name: str, text: str, separator: str = ",") -> tuple[float, ...]:
    """Parse the positive numbers of an option.

    Raises:
        RecipeError: GFM705.
    """
    try:
        found = tuple(float(part) for part in text.split(separator))
    except ValueError:
        raise RecipeError(
            "GFM705", f"--{name} must be numbers separated by {separator!r}, got {text!r}",
            where=f"--{name}",
        ) from None  # fmt: skip
    positive(**dict.fromkeys([name], min(found)))
    return found


def span(name: str, text: str) -> tuple[float, float]:
    """Parse ``LEAST:MOST`` of an option.

    Raises:
        RecipeError: GFM705.
    """
    found = numbers(name, text, ":")
    if len(found) != 2:
        raise RecipeError("GFM705", f"--{name} must be LEAST:MOST, got {text!r}", where=f"--{name}")
    return found[0], found[1]
