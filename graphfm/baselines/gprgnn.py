"""GPR-GNN: an MLP whose logits are propagated over K hops with learned weights.

Source: Chien et al. 2021, "Adaptive universal generalized PageRank graph neural network" (arXiv
2006.07988): ``Z = sum_k gamma_k P^k MLP(X)``. The weights start as personalised PageRank:
``gamma_k = alpha (1 - alpha)^k`` and ``gamma_K = (1 - alpha)^K``. A negative gamma suits graphs
whose neighbors have different classes.

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

# The authors' settings; they search the dropout between the MLP and the hops separately.
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


class GPRGNN(Network):
    """Network of an MLP and a weighted sum over hops.

    Args:
        task: Features, edges and number of classes.
        settings: Settings with the keys of :data:`DEFAULTS`.
    """

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        width, alpha = settings["width"], settings["alpha"]
        self.rate, self.hop_rate = settings["dropout"], settings["spread_dropout"]
        inputs = task.inputs(settings["inputs"])
        weight = nn.init.xavier_uniform_(torch.empty(inputs.width, width))
        self.first = FeatureLayer(inputs, weight, self.rate)
        self.bias = nn.Parameter(torch.zeros(width))
        self.last = nn.Linear(width, task.labels.num_classes)
        gamma = alpha * (1 - alpha) ** torch.arange(HOPS + 1.0)
        gamma[-1] = (1 - alpha) ** HOPS
        self.gamma = nn.Parameter(gamma)
        self.edges = task.convolution

    def forward(self, nodes: Tensor, rng: torch.Generator | None) -> Tensor:
        """Compute the logits of some nodes, (Q,) -> (Q, C)."""
        hidden = (self.first(rng) + self.bias).relu()
        logits = dropout(self.last(dropout(hidden, self.rate, rng)), self.hop_rate, rng)
        total = self.gamma[0] * logits
        for gamma in self.gamma[1:]:
            logits = self.edges.times(logits)
            total = total + gamma * logits
        return total[nodes]


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return fit_network(lambda: GPRGNN(task, settings), task, settings, seed=seed, deadline=deadline)


PEERS = {"gprgnn": Peer(fit=_fit, defaults=DEFAULTS, space=SPACE, inputs="learned")}
