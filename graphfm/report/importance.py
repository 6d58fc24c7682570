"""What a fitted model leans on: how much worse it gets when a column is shuffled.

Shapes:
    N  nodes   F  feature columns   V  judged nodes   C  classes
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphfm.graphs.graph import Graph
from graphfm.metrics import accuracy

MAX_NODES = 1000  # judged: an error of about 1 point, and a shuffle costs a prediction of them
MAX_ROUNDS = 5  # shuffles of one column, for the spread beside its mean
Predict = Callable[[Graph, Tensor], np.ndarray]
Group = tuple[str, list[int]]  # name of a column of the user's, its columns of x


@dataclass(frozen=True, kw_only=True)
class Drop:
    """What shuffling a column, or all of them, costs.

    Args:
        name: Of the column.
        accuracy: Accuracy lost, mean over rounds, as a share; negative = it got better.
        spread: Standard deviation over rounds; 0 for one round.
        loss: Log loss gained, in nats per node, mean over rounds.
        rounds: How often it was shuffled.
    """

    name: str
    accuracy: float
    spread: float
    loss: float
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Importances:
    """Importances of columns, greatest first, and what the two sides of a graph are worth.

    Args:
        columns: Columns that were tried.
        features: All columns shuffled together, so that a node has another's features.
        place: The other way round: a node keeps its features and gets another's place.
        base: Accuracy with nothing shuffled.
        num_columns: Columns of the user's; fewer are tried where time runs out.
        num_nodes: V.
        seconds: Time taken.
    """

    columns: list[Drop]
    features: Drop
    place: Drop
    base: float
    num_columns: int
    num_nodes: int
    seconds: float


@dataclass
class _Tally:
    accuracy: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)

    def drop(self, name: str) -> Drop:
        return Drop(
            name=name,
            accuracy=float(np.mean(self.accuracy)),
            spread=float(np.std(self.accuracy)),
            loss=float(np.mean(self.loss)),
            rounds=len(self.accuracy),
        )


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
    """Shuffle one column of the user's at a time over all nodes, and judge (Breiman 2001).

    A neighbor's features are shuffled too: the model reads them. Columns are tried in the order of
    their association with the label of the judged nodes, so that those that matter come first where
    time runs out; further rounds follow while there is time.

    Args:
        graph: With features.
        predict: Probabilities (V, C) of nodes under a mask (N,), ascending.
        nodes: (V,) ascending; few are better judged whole, many are thinned to 1,000.
        y: Their labels, (V,) or (V, C).
        groups: Columns as the user knows them, with their places in x: a category is one column of
            the user's and several of x, and is shuffled as one.
        max_seconds: When to stop; what has begun is finished.
        seed: Of the shuffles.

    Returns:
        None without features or without nodes.
    """
    if graph.x is None or graph.num_features == 0 or len(nodes) == 0:
        return None
    began = time.monotonic()
    rng = np.random.default_rng(seed)
    if len(nodes) > MAX_NODES:
        kept = np.sort(rng.choice(len(nodes), MAX_NODES, replace=False))
        nodes, y = nodes[kept], y[kept]
    plain = predict(graph, _mask(graph, nodes))
    base, loss = accuracy(y, plain), _log_loss(y, plain)
    all_columns, place = _Tally(), _Tally()
    columns: dict[int, _Tally] = {}
    told = _association(graph.x, nodes, y)
    order = sorted(range(len(groups)), key=lambda g: -max(told[groups[g][1]], default=0.0))
    for number in range(MAX_ROUNDS):
        if number and time.monotonic() - began > max_seconds:
            break
        _swap_all(graph, predict, nodes, y, base, loss, (all_columns, place), rng)
        for group in order:
            if columns and time.monotonic() - began > max_seconds:
                break
            shuffled = graph.replace(x=_shuffled(graph.x, groups[group][1], rng))
            proba = predict(shuffled, _mask(graph, nodes))
            tally = columns.setdefault(group, _Tally())
            tally.accuracy.append(base - accuracy(y, proba))
            tally.loss.append(_log_loss(y, proba) - loss)
    drops = [tally.drop(groups[group][0]) for group, tally in columns.items()]
    return Importances(
        columns=sorted(drops, key=lambda d: (-round(d.accuracy, 6), -d.loss)),
        features=all_columns.drop("all features"),
        place=place.drop("place in the graph"),
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
    tallies: tuple[_Tally, _Tally],
    rng: np.random.Generator,
) -> None:
    """Give node v the features of node ``order[v]``, for all v at once; count both readings.

    At v, the place is right and the features are another's. At the v whose features now are those
    of a judged node, the features are right and the place is another's: one prediction tells both.
    """
    order = rng.permutation(graph.num_nodes)
    back = np.empty_like(order)
    back[order] = np.arange(graph.num_nodes)
    assert graph.x is not None
    x = graph.x[torch.from_numpy(order)] if isinstance(graph.x, Tensor) else graph.x[order]
    shuffled = graph.replace(x=x)
    for tally, at in zip(tallies, (nodes.numpy(), back[nodes.numpy()]), strict=True):
        asked = np.sort(at)
        proba = predict(shuffled, _mask(graph, torch.from_numpy(asked)))
        proba = proba[np.searchsorted(asked, at)]
        tally.accuracy.append(base - accuracy(y, proba))
        tally.loss.append(_log_loss(y, proba) - loss)


def _shuffled(
    x: Tensor | sparse.csr_array, columns: list[int], rng: np.random.Generator
) -> Tensor | sparse.csr_array:
    order = rng.permutation(x.shape[0])
    if isinstance(x, Tensor):
        copy = x.clone()
        copy[:, columns] = x[torch.from_numpy(order)][:, columns]
        return copy
    # Only the filled cells of the columns move: to the rows where the shuffle takes them.
    parts = x.tocoo()
    mine = np.isin(parts.col, columns)
    rows = parts.row.copy()
    to = np.empty_like(order)
    to[order] = np.arange(len(order))
    rows[mine] = to[rows[mine]]
    return sparse.csr_array((parts.data, (rows, parts.col)), shape=x.shape)


def _association(x: Tensor | sparse.csr_array, nodes: Tensor, y: np.ndarray) -> np.ndarray:
    """Share of the variance of each column that lies between classes, (F,)."""
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


def _mask(graph: Graph, nodes: Tensor) -> Tensor:
    mask = torch.zeros(graph.num_nodes, dtype=torch.bool)
    mask[nodes] = True
    return mask


def _log_loss(y: np.ndarray, proba: np.ndarray) -> float:
    """In nats per node; per label where a node may have several."""
    safe = proba.clip(1e-12, 1 - 1e-12)
    if y.ndim == 1:
        return float(-np.log(safe[np.arange(len(y)), y]).mean())
    known = y >= 0
    return float(-np.log(np.where(y == 1, safe, 1 - safe))[known].mean())
