"""Label propagation: spread training labels over the edges, without features.

Source: Zhou et al. 2003, "Learning with local and global consistency":
``Z <- alpha S Z + (1 - alpha) Y`` with S the symmetrically normalised adjacency.

Shapes:
    N  nodes   C  classes
"""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse
from torch import Tensor

from graphfm.baselines.task import Peer, Settings, Task
from graphfm.graphs.graph import Graph

ALPHAS = (0.3, 0.6, 0.9, 0.99)  # weight of the neighbors
DEFAULT_ALPHA = 0.9
SPACE = {"alpha": (0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.95, 0.99, 0.999)}
MAX_ITERATIONS = 100
TOLERANCE = 1e-5  # largest change of an entry at convergence; entries are at most about 1


def label_propagation(
    graph: Graph, train_mask: Tensor, val_mask: Tensor | None, *, seed: int = 0
) -> np.ndarray:
    """Return class probabilities of all nodes, (N, C).

    alpha is the best of ``ALPHAS`` on the validation nodes, or ``DEFAULT_ALPHA`` without any. A
    node that no label reaches gets the class frequencies.

    Args:
        graph: The graph; only the labels under the masks are read.
        train_mask: Training nodes, (N,) bool.
        val_mask: Validation nodes, which choose alpha, (N,) bool. None if there are none.
        seed: Unused: the method is deterministic.
    """
    task = Task.of(graph, train_mask, val_mask)
    best, best_score = np.empty(0), (-1.0, 0.0)
    for alpha in ALPHAS if len(task.labels.val) else (DEFAULT_ALPHA,):
        proba = _fit(task, {"alpha": alpha}, seed=seed, deadline=math.inf)
        score = task.val_score(proba) if len(task.labels.val) else (0.0, 0.0)
        if score > best_score:
            best, best_score = proba, score
    return best


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    labels = task.labels
    start = np.zeros((task.graph.num_nodes, labels.num_classes), dtype=np.float32)
    start[labels.train] = labels.one_hot
    return normalise_rows(propagate(task.diffusion, start, settings["alpha"]), labels.frequencies)


PEERS = {"label-propagation": Peer(fit=_fit, defaults={"alpha": DEFAULT_ALPHA}, space=SPACE)}


def propagate(
    normalised: sparse.csr_array,
    start: np.ndarray,
    alpha: float,
    *,
    within: tuple[float, float] | None = None,
) -> np.ndarray:
    """Iterate ``Z <- alpha S Z + (1 - alpha) Y`` to convergence, (N, C) float32.

    Args:
        normalised: Normalised adjacency S, (N, N).
        start: Initial values Y, (N, C) float32.
        alpha: Weight of the neighbors, in [0, 1).
        within: Bounds to which every step is clipped. Default: none.
    """
    current = start
    for _ in range(MAX_ITERATIONS):
        before, current = current, alpha * (normalised @ current) + (1 - alpha) * start
        if within is not None:
            current = current.clip(*within)
        if np.abs(current - before).max() < TOLERANCE:
            break
    return current


def normalise_rows(mass: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Scale rows to sum 1; a row of zeros becomes the class frequencies."""
    total = mass.sum(axis=1, keepdims=True, dtype=np.float64)
    reached = total > 0
    return np.where(reached, mass / np.where(reached, total, 1.0), frequencies)
