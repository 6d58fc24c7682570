"""Names of classes, and their values in the type that the labels came in.

Shapes:
    C  classes
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BOOLS = ("False", "True")


def dtype_of_names(names: Sequence[str]) -> str | None:
    """Return the NumPy type of values that are written like this; None for text.

    >>> dtype_of_names(("0", "12")), dtype_of_names(("False", "True")), dtype_of_names(("007",))
    ('<i8', '|b1', None)
    """
    if not names:
        return None
    if all(name in BOOLS for name in names):
        return "|b1"
    digits = (name.removeprefix("-") for name in names)
    whole = all(d.isdecimal() and d.isascii() and (d == "0" or d[0] != "0") for d in digits)
    return "<i8" if whole and all(len(name) < 19 for name in names) else None


def class_values(names: Sequence[str], dtype: str | None) -> np.ndarray:
    """Return the classes, (C,), in the NumPy type that the labels had; None for text."""
    if dtype is None:
        return np.array(names)
    if np.dtype(dtype).kind == "b":
        return np.array([name == "True" for name in names])
    if np.dtype(dtype).kind == "f":
        return np.array([float(name) for name in names]).astype(dtype)
    return np.array([int(name) for name in names], dtype=dtype)
