"""Labels of a graph in a fitted model's numbers; classes it does not know count as wrong.

Shapes:
    N  nodes   C  classes of the model   U  classes it does not know
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphfm.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from graphfm.graphs.graph import Graph

log = logging.getLogger(__name__)

SHOWN = 5  # classes that a message names


def in_order_of(graph: Graph, classes: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """Labels numbered as a model numbers its classes.

    Args:
        graph: With labels.
        classes: Of the model, (C,).

    Returns:
        ``(y, unseen)``: (N,) or (N, C + U) labels, -1 = unlabelled, and the names of the classes
        that the model does not know, (U,), numbered from C on.

    Raises:
        DataError: GFM118 for several labels a node of which the graph lacks some.
    """
    import torch

    assert graph.y is not None
    unseen = tuple(name for name in graph.class_names if name not in set(classes))
    whole = [*classes, *unseen]
    if graph.y.ndim == 1:
        place = {name: i for i, name in enumerate(whole)}
        numbers = torch.tensor([place[name] for name in graph.class_names] + [-1])
        return numbers[graph.y], unseen  # -1 reads the last entry
    own = {name: i for i, name in enumerate(graph.class_names)}
    lacking = [name for name in classes if name not in own]
    if lacking:
        raise DataError(
            "GFM118",
            f"the model knows the labels {', '.join(classes)}, the graph lacks "
            f"{', '.join(lacking[:SHOWN])}",
            where=graph.name,
        )
    return graph.y[:, [own[name] for name in whole]], unseen


def widened(values: np.ndarray, unseen: Sequence[str]) -> np.ndarray:
    """Probabilities or sets with a column of zeros for each class not known: (N, C) -> (N, C+U)."""
    import numpy as np

    return np.pad(values, ((0, 0), (0, len(unseen)))) if unseen else values


def count_unseen(
    y: Tensor, mask: Tensor, classes: Sequence[str], unseen: Sequence[str]
) -> dict[str, int]:
    """How many of the judged nodes are of each class that the model does not know; says so.

    Args:
        y: As :func:`in_order_of` gives it.
        mask: (N,) bool, nodes to be judged on.
        classes: Of the model, (C,).
        unseen: The others, (U,).
    """
    if not unseen:
        return {}
    chosen = y[mask]
    if y.ndim == 1:
        counts = [int((chosen == len(classes) + i).sum()) for i in range(len(unseen))]
    else:
        counts = (chosen[:, len(classes) :] == 1).sum(dim=0).tolist()
    found = {name: n for name, n in zip(unseen, counts, strict=True) if n}
    if found:
        listed = ", ".join(f"{name!r} ({n:,})" for name, n in list(found.items())[:SHOWN])
        log.warning(
            f"{sum(found.values()):,} of {len(chosen):,} judged nodes are of {len(found)} classes "
            f"that the model does not know, and count as wrong: {listed}"
            + (", ..." if len(found) > SHOWN else "")
        )
    return found
