"""GPR-GNN: an MLP whose answers are spread over K hops with learnt weights.

Chien et al. 2021, "Adaptive universal generalized PageRank graph neural network" (arXiv
2006.07988): ``Z = sum_k gamma_k P^k MLP(X)``, gamma begun as personalised PageRank,
``alpha (1 - alpha)^k`` and ``(1 - alpha)^K`` for the last. A gamma below zero sharpens, for graphs
whose neighbors differ.

Shapes:
    N  nodes   H  width   C  classes   K  hops
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphfm.baselines.networks import TRAINING, Network, fit_network
from graphfm.baselines.sparse import FeatureLayer, dropout
from graphfm.baselines.task import Peer, Settings, Task

HOPS = 10

# The authors' own, but for dropout between the MLP and the hops, which they search beside it.
DEFAULTS: Settings = {
    "width": 64,
    "alpha": 0.1,
    "dropout": 0.5,
    "spread_dropout": 0.5,
    "lr": 0.01,
    "weight_decay": 5e-4,
    "epochs": 300,
    "patience": 50,
}
SPACE: Mapping[str, tuple[Any, ...]] = {
    "width": (64, 128),
    "alpha": (0.1, 0.2, 0.5, 0.9),
    "dropout": (0.2, 0.5, 0.7),
    "spread_dropout": (0.0, 0.5),
    **TRAINING,
}


class Spread(Network):
    """The MLP and its hops.

    Args:
        task: For its features, edges and number of classes.
        settings: As :data:`DEFAULTS`.
    """

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        width, alpha = settings["width"], settings["alpha"]
        self.rate, self.spread_rate = settings["dropout"], settings["spread_dropout"]
        weight = nn.init.xavier_uniform_(torch.empty(task.inputs.shape[1], width))
        self.first = FeatureLayer(task.inputs, weight, self.rate)
        self.bias = nn.Parameter(torch.zeros(width))
        self.last = nn.Linear(width, task.labels.num_classes)
        gamma = alpha * (1 - alpha) ** torch.arange(HOPS + 1.0)
        gamma[-1] = (1 - alpha) ** HOPS
        self.gamma = nn.Parameter(gamma)
        self.edges = task.convolution

    def forward(self, nodes: Tensor, rng: torch.Generator | None) -> Tensor:
        """Logits of some nodes, (Q, C)."""
        hidden = (self.first(rng) + self.bias).relu()
        far = dropout(self.last(dropout(hidden, self.rate, rng)), self.spread_rate, rng)
        total = self.gamma[0] * far
        for gamma in self.gamma[1:]:
            far = self.edges.times(far)
            total = total + gamma * far
        return total[nodes]


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return fit_network(lambda: Spread(task, settings), task, settings, seed=seed, deadline=deadline)


PEERS = {"gprgnn": Peer(fit=_fit, defaults=DEFAULTS, space=SPACE)}
