"""Correct and Smooth: a model without the graph, its errors and its answers spread over the edges.

Huang et al. 2021, "Combining label propagation and simple models out-performs graph neural
networks" (arXiv 2010.13993). Correct: errors on training nodes, ``Y - Z``, are spread, scaled to
the mean size they have there, and added. Smooth: the sum, with the true labels on training nodes,
is spread.

Shapes:
    N  nodes   C  classes
"""

from __future__ import annotations

import numpy as np

from graphfm.baselines.classic import DEFAULTS as NETWORKS
from graphfm.baselines.classic import PEERS as CLASSIC
from graphfm.baselines.label_propagation import shares, spread
from graphfm.baselines.logistic import PEERS as LOGISTIC
from graphfm.baselines.task import Peer, Settings, Task

DEFAULTS: Settings = {"base": "logistic", "strength": 1.0, "correct": 0.8, "smooth": 0.8}
SPACE = {
    "base": ("logistic", "logistic-hops", "mlp"),
    "strength": (0.1, 1.0, 10.0),  # of a logistic base
    "correct": (0.0, 0.5, 0.8, 0.95),  # 0 = answers are not corrected
    "smooth": (0.3, 0.6, 0.8, 0.95),
}
MAX_SCALE = 1000.0  # where next to no error arrived, it is not blown up to the mean size


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    labels = task.labels
    now: np.ndarray = _base(task, settings, seed=seed, deadline=deadline).astype(np.float32)
    if settings["correct"]:
        error = np.zeros_like(now)
        error[labels.train] = labels.one_hot - now[labels.train]
        size = np.abs(error[labels.train]).sum(axis=1).mean()
        error = spread(task.diffusion, error, settings["correct"], within=(-1.0, 1.0))
        of_node = np.abs(error).sum(axis=1, keepdims=True)
        scale = np.divide(size, of_node, out=np.zeros_like(of_node), where=of_node > 0)
        now = now + np.where(scale > MAX_SCALE, 1.0, scale) * error
    now[labels.train] = labels.one_hot
    smooth = spread(task.diffusion, now, settings["smooth"], within=(0.0, 1.0))
    return shares(smooth, labels.frequencies)


def _base(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    """Probabilities of the model without edges, made once for all trials that share it."""
    kind = settings["base"]
    chosen = NETWORKS["mlp"] if kind == "mlp" else {"strength": settings["strength"]}
    key = (kind, *chosen.values(), seed)
    if key not in task.memory:
        peer = (CLASSIC if kind == "mlp" else LOGISTIC)[kind]
        task.memory[key] = peer.fit(task, chosen, seed=seed, deadline=deadline)
    return task.memory[key]


PEERS = {"correct-and-smooth": Peer(fit=_fit, defaults=DEFAULTS, space=SPACE)}
