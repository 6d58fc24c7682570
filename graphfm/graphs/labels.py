"""Conversion of a user's labels: one class per node, several labels, or numbers.

Shapes:
    N  nodes   C  classes or labels
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphfm.errors import FEW, DataError
from graphfm.graphs.classes import dtype_of_names
from graphfm.graphs.graph import Graph, class_names_of
from graphfm.graphs.spec import Task


def labels(y: Any, *, task: Task = "auto") -> tuple[Tensor | None, tuple[str, ...]]:
    """Return labels in the form of :class:`Graph`, and the names of the classes that occur.

    Args:
        y: Labels, (N,), (N, 1) or (N, C) numbers; -1 and NaN = unlabelled, in a continuous target
            NaN alone. Default: none.
        task: Kind of the labels: ``regress`` = numbers, ``classify`` = classes, ``auto`` = numbers
            if there is one column with fractions.

    Raises:
        DataError: GFM118 for fractions that cannot be classes, or several columns of fractions.
    """
    if y is None:
        return None, ()
    if isinstance(y, np.ndarray) and not y.flags.writeable:
        y = y.copy()  # torch warns of read-only memory
    try:
        y = torch.as_tensor(y).detach().cpu()
    except (TypeError, ValueError):
        raise DataError(
            "GFM118", "the labels of this graph must be numbers, got text or objects",
            fix="pass them apart: fit(graph, y=labels)",
        ) from None  # fmt: skip
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    finite = y[y.isfinite()] if y.is_floating_point() else torch.zeros(0)
    fractions = bool((finite != finite.round()).any())
    if y.ndim == 1 and (task == "regress" or (fractions and task == "auto")):
        return _numbers(y), ()
    if fractions:
        raise DataError(
            "GFM118",
            "labels must be classes, got fractions",
            fix="task regress predicts one column of numbers; or cut the values into classes",
        )
    if y.ndim == 2:
        known = torch.where(y.isfinite(), y, torch.full_like(y, -1)) if y.is_floating_point() else y
        return known.to(torch.int8), class_names_of(y)
    if y.is_floating_point():
        y = torch.where(y.isfinite(), y, torch.full_like(y, -1))
    y = y.to(torch.int64)
    classes, codes = torch.unique(y.clamp(min=-1), return_inverse=True)
    unlabelled = int(len(classes) > 0 and classes[0] == -1)
    return codes - unlabelled, tuple(str(c) for c in classes[unlabelled:].tolist())


def label_fields(y: Any, *, task: Task = "auto") -> dict[str, Any]:
    """Return the fields ``y``, ``class_names`` and ``class_dtype`` of :class:`Graph`.

    Args:
        y: Numbers or truth values in the form of :func:`labels`. Default: none.
        task: Kind of the labels; see :func:`labels`.

    Raises:
        DataError: GFM118 for labels that do not fit ``task``.
    """
    codes, names = labels(y, task=task)
    if codes is None or codes.ndim == 2 or not names:
        return {"y": codes, "class_names": names}
    if torch.as_tensor(y).dtype == torch.bool:
        names = tuple(str(name == "1") for name in names)
    return {"y": codes, "class_names": names, "class_dtype": dtype_of_names(names)}


def as_numbers(graph: Graph) -> Graph:
    """Return the graph with classes such as 2010 and 2011 read as numbers.

    Raises:
        DataError: GFM118 for several labels per node, or names that are not numbers.
    """
    if graph.y is None or graph.y.is_floating_point():
        return graph
    try:
        values = [float(name) for name in graph.class_names]
        if graph.y.ndim == 2 or not np.isfinite(values).all():
            raise ValueError
    except ValueError:
        shown = ", ".join(graph.class_names[:FEW])
        raise DataError(
            "GFM118",
            f"a continuous target is one finite number per node, but the classes are {shown}",
            where=graph.name,
            fix="GraphFMClassifier, or --task classify, predicts classes",
        ) from None
    numbers = torch.tensor([*values, np.nan], dtype=torch.float64)
    return graph.replace(y=numbers[graph.y], class_names=())  # -1 reads the last entry


def _numbers(y: Tensor) -> Tensor:
    """Return a continuous target in the form of :class:`Graph`."""
    y = y.to(torch.float64)
    if y.isinf().any():
        raise DataError(
            "GFM118",
            f"a continuous target must be finite, but {int(y.isinf().sum()):,} values are infinite",
            fix="use NaN for a node without a known value",
        )
    return y
