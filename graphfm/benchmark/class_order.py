"""Number the labels of a graph as a fitted model does; unknown classes count as errors.

Shapes:
    N  nodes   C  classes of the model   U  classes of the graph that the model was not fitted to
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph

log = logging.getLogger(__name__)

MAX_NAMES = 5  # classes that a message lists


def match_classes(graph: Graph, classes: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Number the labels of a graph as the model numbers its classes.

    Args:
        graph: Graph with labels.
        classes: Names of the model's classes, (C,).

    Returns:
        ``(y, unknown)``: labels, (N,) or (N, C + U), -1 = unlabelled; and the names of the classes
        that the model was not fitted to, (U,), numbered from C on.

    Raises:
        DataError: GFM118 if a node may have several labels and the graph lacks some of them.
    """
    assert graph.y is not None
    unknown = tuple(name for name in graph.class_names if name not in set(classes))
    names = [*classes, *unknown]
    if graph.y.ndim == 1:
        place = {name: i for i, name in enumerate(names)}
        numbers = torch.tensor([place[name] for name in graph.class_names] + [-1])
        return numbers[graph.y], unknown  # -1 reads the last entry
    column = {name: i for i, name in enumerate(graph.class_names)}
    lacking = [name for name in classes if name not in column]
    if lacking:
        raise DataError(
            "GFM118",
            f"the model predicts the labels {', '.join(classes)}, but the graph lacks "
            f"{', '.join(lacking[:MAX_NAMES])}",
            where=graph.name,
        )
    return graph.y[:, [column[name] for name in names]], unknown


def add_unknown_columns(values: np.ndarray, unknown: Sequence[str]) -> np.ndarray:
    """Append a column of zeros for each unknown class: (N, C) -> (N, C + U)."""
    return np.pad(values, ((0, 0), (0, len(unknown)))) if unknown else values


def count_unknown(
    y: Tensor, mask: Tensor, classes: Sequence[str], unknown: Sequence[str]
) -> dict[str, int]:
    """Count the evaluated nodes of each unknown class, and log a warning if there are any.

    Args:
        y: Labels as :func:`match_classes` returns them.
        mask: Nodes to evaluate, (N,) bool.
        classes: Names of the model's classes, (C,).
        unknown: Names of the other classes, (U,).
    """
    if not unknown:
        return {}
    chosen = y[mask]
    if y.ndim == 1:
        counts = [int((chosen == len(classes) + i).sum()) for i in range(len(unknown))]
    else:
        counts = (chosen[:, len(classes) :] == 1).sum(dim=0).tolist()
    found = {name: n for name, n in zip(unknown, counts, strict=True) if n}
    if found:
        listed = ", ".join(f"{name!r} ({n:,})" for name, n in list(found.items())[:MAX_NAMES])
        log.warning(
            f"{sum(found.values()):,} of {len(chosen):,} evaluated nodes have a class that the "
            f"model was not fitted to, and count as errors: {listed}"
            + (", ..." if len(found) > MAX_NAMES else "")
        )
    return found
