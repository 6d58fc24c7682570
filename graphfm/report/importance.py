"""Permutation importances: the accuracy that a fitted model loses when a column is shuffled.

Shapes:
    N  nodes   F  feature columns   V  evaluated nodes   C  classes
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.graphs.graph import Graph
from graphfm.metrics import accuracy
from graphfm.report.labels import mask_of

MAX_NODES = 1000  # evaluated nodes: a standard error of about 1 point of accuracy
MAX_ROUNDS = 5  # shuffles of one column; their standard deviation is shown too
Predict = Callable[[Graph, Tensor], np.ndarray]
Group = tuple[str, list[int]]  # name of a column of the user's table, its columns in x


@dataclass(frozen=True, kw_only=True)
class ScoreDrop:
    """Loss of score when one column, or all of them, are shuffled.

    Args:
        name: Name of the column.
        accuracy: Drop of accuracy, between -1 and 1, mean over rounds; negative if it rose.
        spread: Standard deviation of the drop over rounds; 0 for one round.
        loss: Rise of log loss, in nats per node, mean over rounds.
        rounds: Number of shuffles.
    """

    name: str
    accuracy: float
    spread: float
    loss: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Importances:
    """Importances of columns, greatest first, and of features against edges.

    Args:
        columns: Columns that were shuffled; fewer than ``num_columns`` if time ran out.
        features: All columns shuffled together: a node gets the features of another node.
        edges: The reverse: a node keeps its features and gets the edges of another node.
        base: Accuracy without a shuffle.
        num_columns: Number of columns of the user's table.
        num_nodes: Number of evaluated nodes, V.
        seconds: Time taken, in seconds.
    """

    columns: list[ScoreDrop]
    features: ScoreDrop
    edges: ScoreDrop
    base: float
    num_columns: int
    num_nodes: int
    seconds: float


@dataclass
class _Drops:
    """Drops of accuracy and rises of log loss, one per round."""

    accuracy: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)

    def mean(self, name: str) -> ScoreDrop:
        return ScoreDrop(
            name=name,
            accuracy=float(np.mean(self.accuracy)),
            spread=float(np.std(self.accuracy)),
            loss=float(np.mean(self.loss)),
            rounds=len(self.accuracy),
        )


def column_groups(columns: Sequence[Mapping[str, Any]], num_features: int) -> list[Group]:
    """Match the columns of the user's table with the columns of x.

    Args:
        columns: Feature columns of the table, as the reader of a fit saved them; may be empty.
        num_features: Number of columns of x, F.

    Returns:
        Name and places of each column; numbered columns of x if ``columns`` does not fit.
    """
    groups, start = [], 0
    for column in columns:
        width = len(column["levels"]) if column["kind"] == "category" else 1
        width += bool(column["indicator"])
        groups.append((str(column["name"]), list(range(start, start + width))))
        start += width
    if start == num_features:
        return groups
    return [(f"column {i + 1}", [i]) for i in range(num_features)]


def permutation_importances(
    graph: Graph,
    predict: Predict,
    nodes: Tensor,
    y: np.ndarray,
    groups: list[Group],
    *,
    max_seconds: float,
    seed: int = 0,
) -> Importances | None:
    """Shuffle one column at a time over all nodes and measure the loss of accuracy (Breiman 2001).

    The features of neighbors are shuffled too, since the model reads them. The columns with the
    strongest association with the label come first, in case time runs out. Further rounds follow
    while there is time.

    Args:
        graph: A graph with features.
        predict: Function that returns the probabilities (V, C) of the nodes under a mask (N,), in
            ascending order.
        nodes: Nodes to evaluate, (V,), ascending. More than 1,000 are sampled down to 1,000.
        y: Labels of these nodes, (V,) or (V, C).
        groups: Columns of the user's table with their columns in x. A category is one column of
            the table and several of x, which are shuffled together.
        max_seconds: Time limit in seconds; a prediction that has begun is finished.
        seed: Seed of the shuffles.

    Returns:
        The importances; None without features or without nodes.
    """
    if graph.x is None or graph.num_features == 0 or len(nodes) == 0:
        return None
    began = time.monotonic()
    rng = np.random.default_rng(seed)
    if len(nodes) > MAX_NODES:
        kept = np.sort(rng.choice(len(nodes), MAX_NODES, replace=False))
        nodes, y = nodes[kept], y[kept]
    plain = predict(graph, mask_of(graph, nodes))
    base, loss = accuracy(y, plain), _log_loss(y, plain)
    all_features, edges = _Drops(), _Drops()
    columns: dict[int, _Drops] = {}
    association = _association(graph.x, nodes, y)
    order = sorted(range(len(groups)), key=lambda g: -max(association[groups[g][1]], default=0.0))
    for number in range(MAX_ROUNDS):
        if number and time.monotonic() - began > max_seconds:
            break
        _swap_all(graph, predict, nodes, y, base, loss, (all_features, edges), rng)
        for group in order:
            if columns and time.monotonic() - began > max_seconds:
                break
            shuffled = graph.replace(x=_shuffled(graph.x, groups[group][1], rng))
            proba = predict(shuffled, mask_of(graph, nodes))
            lost = columns.setdefault(group, _Drops())
            lost.accuracy.append(base - accuracy(y, proba))
            lost.loss.append(_log_loss(y, proba) - loss)
    drops = [lost.mean(groups[group][0]) for group, lost in columns.items()]
    return Importances(
        columns=sorted(drops, key=lambda d: (-round(d.accuracy, 6), -d.loss)),
        features=all_features.mean("all features"),
        edges=edges.mean("edges"),
        base=base,
        num_columns=len(groups),
        num_nodes=len(nodes),
        seconds=time.monotonic() - began,
    )


def _swap_all(
    graph: Graph,
    predict: Predict,
    nodes: Tensor,
    y: np.ndarray,
    base: float,
    loss: float,
    drops_of: tuple[_Drops, _Drops],
    rng: np.random.Generator,
) -> None:
    """Give every node v the features of node ``order[v]`` and record two drops of accuracy.

    An evaluated node v has its own edges and foreign features. The node that received the features
    of v has foreign edges. One shuffled graph therefore measures both.
    """
    order = rng.permutation(graph.num_nodes)
    back = np.empty_like(order)
    back[order] = np.arange(graph.num_nodes)
    assert graph.x is not None
    x = graph.x[torch.from_numpy(order)] if isinstance(graph.x, Tensor) else graph.x[order]
    shuffled = graph.replace(x=x)
    for lost, at in zip(drops_of, (nodes.numpy(), back[nodes.numpy()]), strict=True):
        ascending = np.sort(at)
        proba = predict(shuffled, mask_of(graph, torch.from_numpy(ascending)))
        proba = proba[np.searchsorted(ascending, at)]
        lost.accuracy.append(base - accuracy(y, proba))
        lost.loss.append(_log_loss(y, proba) - loss)


def _shuffled(
    x: Tensor | sparse.csr_array, columns: list[int], rng: np.random.Generator
) -> Tensor | sparse.csr_array:
    """Copy of x with the rows of some columns shuffled together."""
    order = rng.permutation(x.shape[0])
    if isinstance(x, Tensor):
        copy = x.clone()
        copy[:, columns] = x[torch.from_numpy(order)][:, columns]
        return copy
    # Only the nonzero entries of these columns move, each to its new row.
    parts = x.tocoo()
    moved = np.isin(parts.col, columns)
    rows = parts.row.copy()
    to = np.empty_like(order)
    to[order] = np.arange(len(order))
    rows[moved] = to[rows[moved]]
    return sparse.csr_array((parts.data, (rows, parts.col)), shape=x.shape)


def _association(x: Tensor | sparse.csr_array, nodes: Tensor, y: np.ndarray) -> np.ndarray:
    """Share of the variance of each column that lies between classes, (F,); eta squared."""
    rows = x[nodes].numpy() if isinstance(x, Tensor) else x[nodes.numpy()]
    groups = y.astype(float) if y.ndim == 2 else np.eye(int(y.max()) + 1)[y]
    groups = groups.clip(min=0)
    counts = groups.sum(axis=0)
    groups, counts = groups[:, counts > 0], counts[counts > 0]
    sums = np.asarray(rows.T @ groups).T  # (C, F)
    mean = np.asarray(rows.mean(axis=0)).ravel()
    if isinstance(rows, np.ndarray):
        squares = (rows.astype(np.float64) ** 2).mean(axis=0)
    else:
        squares = np.asarray(rows.multiply(rows).mean(axis=0)).ravel()
    between = (counts[:, None] * (sums / counts[:, None] - mean) ** 2).sum(axis=0) / len(nodes)
    variance = np.maximum(squares - mean**2, 1e-12)
    share: np.ndarray = between / variance
    return share


def _log_loss(y: np.ndarray, proba: np.ndarray) -> float:
    """Mean log loss in nats, per node; per label if a node may have several."""
    safe = proba.clip(1e-12, 1 - 1e-12)
    if y.ndim == 1:
        return float(-np.log(safe[np.arange(len(y)), y]).mean())
    known = y >= 0
    return float(-np.log(np.where(y == 1, safe, 1 - safe))[known].mean())
