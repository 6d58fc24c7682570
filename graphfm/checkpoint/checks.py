"""Checks of what a checkpoint says, before a model of its size is built and its values are used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from graphfm.errors import CheckpointError, DataError, RecipeError

KINDS = ("classify", "multilabel", "regress")
FIX = "copy the folder again, or save the model again; the file was not written by graphfm as it is"
FLOATS = ("F16", "BF16", "F32", "F64")  # names of types in a safetensors file
WIDEST = 256  # columns that every model has: those of the universal adapter


@contextmanager
def malformed(path: Path, field: str) -> Iterator[None]:
    """Turn an error about a value into GFM302, which names the file and the field.

    Args:
        path: File that holds the value.
        field: Key of the value in the file.
    """
    try:
        yield
    except (DataError, RecipeError) as error:
        what = error.what
    except KeyError as error:
        what = f"the key {error} is missing or unknown"
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
    except (RuntimeError, AssertionError, ImportError) as error:
        what = f"{type(error).__name__} {' '.join(str(error).split())}"
    else:
        return
    raise CheckpointError("GFM302", f"{field}: {what[:300]}", where=str(path), fix=FIX) from None


def check_config(config: Any, path: Path) -> dict[str, Any]:
    """Check the types of the entries of ``config.json`` that are read everywhere.

    Raises:
        CheckpointError: GFM302 with the first wrong entry.
    """
    kinds: dict[str, type] = {"model": dict, "estimator": dict, "recipe": dict, "environment": dict}
    kinds |= {"corpus": list, "not_judged_on": list}
    wrong = None
    if not isinstance(config, dict):
        wrong = "the file", "an object", config
    elif type(config.get("format", 0)) is not int:
        wrong = "format", "a whole number", config["format"]
    elif "model" not in config:
        wrong = "model", "the shape of the model", None
    else:
        for key, kind in kinds.items():
            if key in config and not isinstance(config[key], kind):
                wrong = key, "an object" if kind is dict else "a list", config[key]
        own = config.get("estimator")
        if isinstance(own, dict) and own.get("kind", "classify") not in KINDS:
            wrong = "estimator.kind", f"one of {', '.join(KINDS)}", own["kind"]
    if wrong is not None:
        raise CheckpointError(
            "GFM302",
            f"{wrong[0]}: expected {wrong[1]}, got {str(wrong[2])[:80]!r}",
            where=str(path),
            fix=FIX,
        )
    checked: dict[str, Any] = config
    return checked


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file without their values, float32 or int64.

    Raises:
        CheckpointError: GFM302 if it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: torch.empty(
                    s.get_shape(),
                    dtype=torch.float32 if s.get_dtype() in FLOATS else torch.int64,
                    device="meta",
                )
                for name, s in slices.items()
            }
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(
            "GFM302", f"the file cannot be read: {error}", where=str(path)
        ) from None


def check_size(values: Any, header: Mapping[str, Tensor], path: Path) -> None:
    """Refuse whole numbers that are larger than any size in the file of the weights.

    A model with a width of 96,000 or a depth of 1,000,000 would fill the memory before its shapes
    can be compared with those of the file.

    Args:
        values: Plain data that describes the shape of the model.
        header: Tensors of the weights, without values.
        path: File of the values, for messages.

    Raises:
        CheckpointError: GFM304 with the key.
    """
    widest = max((max(t.shape, default=1) for t in header.values() if t.numel()), default=1)
    for key, value in _numbers(values, ""):
        is_count = key.rpartition(".")[2] == "depth"
        most = len(header) if is_count else max(widest, WIDEST, len(header))
        if value > most:
            raise CheckpointError(
                "GFM304",
                f"{key} is {value:,}, but the file of the weights holds {len(header)} tensors of "
                f"at most {widest:,} rows or columns",
                where=str(path),
                fix="copy the whole checkpoint again: both files must come from the same save",
            )


def _numbers(values: Any, key: str) -> Iterator[tuple[str, float]]:
    """Yield every number in plain data, with its key."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _numbers(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list):
        for place, value in enumerate(values):
            yield from _numbers(value, f"{key}[{place}]")
    elif isinstance(values, int | float):
        yield key, values


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that hold NaN or infinite values.

    Raises:
        CheckpointError: GFM302 with the names of the tensors.
    """
    bad = [k for k, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise CheckpointError(
            "GFM302",
            f"{', '.join(bad[:5])}: expected finite values, got NaN or infinite ones",
            where=str(path),
            fix="use another checkpoint",
        )


def in_range(
    name: str, value: Any, low: float, high: float = math.inf, *, whole: bool = False
) -> float:
    """Return a number after a check that it is finite (or whole) and between two bounds.

    Raises:
        CheckpointError: GFM302 if it is not.
    """
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise CheckpointError(
            "GFM302",
            f"{name}: expected a number "
            + (f"of at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}")
            + f", got {value!r}",
            where="config.json",
            fix=FIX,
        )
    return float(value)
