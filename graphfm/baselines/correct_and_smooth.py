"""Correct and Smooth: propagate the errors and the predictions of a model without edges.

Source: Huang et al. 2021, "Combining label propagation and simple models out-performs graph neural
networks" (arXiv 2010.13993). Correct: the errors on training nodes, ``Y - Z``, are propagated over
the edges, scaled to their mean size on training nodes, and added. Smooth: the corrected
predictions, with the true labels on training nodes, are propagated.

Shapes:
    N  nodes   C  classes
"""

from __future__ import annotations

import numpy as np

from graphfm.baselines.classic import DEFAULTS as NETWORKS
from graphfm.baselines.classic import PEERS as CLASSIC
from graphfm.baselines.label_propagation import normalise_rows, propagate
from graphfm.baselines.logistic import PEERS as LOGISTIC
from graphfm.baselines.task import Peer, Settings, Task

DEFAULTS: Settings = {"base": "logistic", "strength": 1.0, "correct": 0.8, "smooth": 0.8}
SPACE = {
    "base": ("logistic", "logistic-hops", "mlp"),
    "strength": (0.1, 1.0, 10.0),  # inverse penalty of a logistic base model
    "correct": (0.0, 0.5, 0.8, 0.95),  # 0 = no correction
    "smooth": (0.3, 0.6, 0.8, 0.95),
}
MAX_SCALE = 1000.0  # errors that need a larger factor stay unscaled: almost none arrived there


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    labels = task.labels
    proba: np.ndarray = _base(task, settings, seed=seed, deadline=deadline).astype(np.float32)
    if settings["correct"]:
        error = np.zeros_like(proba)
        error[labels.train] = labels.one_hot - proba[labels.train]
        size = np.abs(error[labels.train]).sum(axis=1).mean()
        error = propagate(task.diffusion, error, settings["correct"], within=(-1.0, 1.0))
        size_at_node = np.abs(error).sum(axis=1, keepdims=True)
        scale = np.divide(
            size, size_at_node, out=np.zeros_like(size_at_node), where=size_at_node > 0
        )
        proba = proba + np.where(scale > MAX_SCALE, 1.0, scale) * error
    proba[labels.train] = labels.one_hot
    smooth = propagate(task.diffusion, proba, settings["smooth"], within=(0.0, 1.0))
    return normalise_rows(smooth, labels.frequencies)


def _base(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    """Probabilities of the model without edges, (N, C); trials with the same base share them."""
    kind = settings["base"]
    chosen = dict(NETWORKS["mlp"]) if kind == "mlp" else {"strength": settings["strength"]}
    chosen["inputs"] = settings["inputs"]
    key = (kind, *chosen.values(), seed)
    if key not in task.cache:
        peer = (CLASSIC if kind == "mlp" else LOGISTIC)[kind]
        task.cache[key] = peer.fit(task, chosen, seed=seed, deadline=deadline)
    return task.cache[key]


PEERS = {"correct-and-smooth": Peer(fit=_fit, defaults=DEFAULTS, space=SPACE, inputs="columns")}
