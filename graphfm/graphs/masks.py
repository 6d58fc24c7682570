"""Masks of nodes as users give them: truth values, 0 and 1, positions, or ids.

Shapes:
    N  nodes   S  splits side by side
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphfm.errors import FEW, DataError


def read_mask(
    given: Any,
    num_nodes: int,
    *,
    name: str = "mask",
    where: str = "",
    split: int | None = None,
    ids: Sequence[str] | None = None,
) -> Tensor:
    """Return nodes as a mask, (N,) bool.

    Args:
        given: Truth values or 0 and 1, (N,), (N, 1) or (N, S); positions of nodes; or their ids.
        num_nodes: Number of nodes, N.
        name: Name of the mask, for messages.
        where: Name of the graph, for messages.
        split: Column of (N, S) to take, counted from 0. Default: (N, S) is refused.
        ids: Ids of the nodes, (N,). Default: they are their positions.

    Raises:
        DataError: GFM116 for anything else, GFM135 for several splits without a choice, and for ids
            that are not in the graph.
    """
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    values = np.asarray(given)
    if values.ndim == 2 and values.shape == (num_nodes, 1):
        values = values[:, 0]
    elif values.ndim == 2 and len(values) == num_nodes:
        values = _column(values, split, name, where)
    if values.ndim == 1 and values.dtype.kind in "OUST":
        if all(isinstance(v, bool | np.bool_) for v in values.tolist()):
            values = values.astype(bool)
        elif len(values):
            return _named([str(v) for v in values.tolist()], num_nodes, ids, name, where)
    if values.ndim == 1 and values.dtype == bool and len(values) == num_nodes:
        return torch.from_numpy(values.copy())
    whole = values.ndim == 1 and values.dtype.kind in "iuf" and bool((values == values // 1).all())
    if whole and len(values) == num_nodes and np.isin(values, (0, 1)).all():
        return torch.from_numpy(values == 1)
    if values.ndim == 1 and (not len(values) or (whole and values.dtype.kind in "iu")):
        return _at(values.astype(np.int64), num_nodes, ids, name, where)
    raise DataError(
        "GFM116",
        f"{name} must be ({num_nodes},) bool, got {tuple(values.shape)} {values.dtype}",
        where=where,
        fix="pass truth values, one for each node, or the ids or positions of the nodes",
    )


def _column(values: np.ndarray, split: int | None, name: str, where: str) -> np.ndarray:
    """Return one of several splits, (N,)."""
    count = values.shape[1]
    if split is None or not 0 <= split < count:
        asked = "" if split is None else f", and there is no number {split}"
        raise DataError(
            "GFM135",
            f"{name} holds {count} splits side by side{asked}",
            where=where,
            fix=f"choose one: --split 0 to {count - 1}, or options=ReadOptions(split=0) in Python",
        )
    return np.asarray(values[:, split])


def _at(
    places: np.ndarray, num_nodes: int, ids: Sequence[str] | None, name: str, where: str
) -> Tensor:
    """Return the mask of positions; of ids where these numbers can only be ids."""
    words = [str(place) for place in places.tolist()]
    known = set() if ids is None else set(ids)
    inside = bool(((places >= 0) & (places < num_nodes)).all())
    if ids is not None and all(word in known for word in words):
        if not inside:
            return _named(words, num_nodes, ids, name, where)
        if any(ids[p] != word for p, word in zip(places.tolist(), words, strict=True)):
            raise DataError(
                "GFM116",
                f"the whole numbers in {name} may be positions or ids of nodes",
                where=where,
                fix="pass truth values, one for each node, or the ids as text",
            )
    if not inside:
        raise DataError(
            "GFM116",
            f"{name} must hold positions from 0 to {num_nodes - 1}, got {places.min()} to "
            f"{places.max()}",
            where=where,
        )
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[torch.from_numpy(places)] = True
    return mask


def _named(
    words: list[str], num_nodes: int, ids: Sequence[str] | None, name: str, where: str
) -> Tensor:
    """Return the mask of ids."""
    place = {id: i for i, id in enumerate(ids if ids is not None else map(str, range(num_nodes)))}
    gone = [word for word in words if word not in place]
    if gone:
        raise DataError(
            "GFM135",
            f"{name} names {len(gone):,} nodes that are not in the graph",
            where=f"{where}: {', '.join(map(repr, gone[:FEW]))}",
            why="ids are compared as exact text",
        )
    mask = torch.zeros(num_nodes, dtype=torch.bool)
    mask[[place[word] for word in words]] = True
    return mask
