"""GCNII: a deep GCN with a residual connection to the first layer.

Source: Chen et al. 2020, "Simple and deep graph convolutional networks" (arXiv 2007.02133):
``H <- relu(((1 - alpha) P H + alpha H0) ((1 - beta_l) I + beta_l W_l))``, ``beta_l = ln(theta / l +
1)``, with P the symmetrically normalised adjacency with self-loops.

Shapes:
    N  nodes   H  width   C  classes
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphfm.baselines.networks import TRAINING, Network, fit_network
from graphfm.baselines.sparse import FeatureLayer, Matrix, dropout
from graphfm.baselines.task import Peer, Settings, Task

# The authors' settings for Cora, with 8 layers instead of 64: an epoch of 16 layers on
# amazon-computers takes 0.6 s of one core.
DEFAULTS: Settings = {
    "width": 64,
    "depth": 8,
    "alpha": 0.1,
    "theta": 0.5,
    "dropout": 0.6,
    "lr": 0.01,
    "weight_decay": 5e-4,
    "epochs": 300,
    "patience": 50,
}
SPACE: Mapping[str, tuple[Any, ...]] = {
    "width": (64,),
    "depth": (2, 4, 8, 16),
    "alpha": (0.1, 0.3, 0.5),
    "theta": (0.5, 1.0, 1.5),
    "dropout": (0.2, 0.5, 0.7),
    **TRAINING,
}


class GCNII(Network):
    """Network of a linear map, several layers of the formula and a linear map.

    Args:
        task: Features, edges and number of classes.
        settings: Settings with the keys of :data:`DEFAULTS`.
    """

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        width, self.rate = settings["width"], settings["dropout"]
        inputs = task.inputs(settings["inputs"])
        weight = nn.init.xavier_uniform_(torch.empty(inputs.width, width))
        self.first = FeatureLayer(inputs, weight, self.rate)
        self.bias = nn.Parameter(torch.zeros(width))
        layers = [Layer(task.convolution, i + 1, settings) for i in range(settings["depth"])]
        self.layers = nn.ModuleList(layers)
        self.last = nn.Linear(width, task.labels.num_classes)

    def forward(self, nodes: Tensor, rng: torch.Generator | None) -> Tensor:
        """Compute the logits of some nodes, (Q,) -> (Q, C)."""
        first = (self.first(rng) + self.bias).relu()
        hidden = first
        for layer in self.layers:
            hidden = layer(dropout(hidden, self.rate, rng), first).relu()
        logits: Tensor = self.last(dropout(hidden, self.rate, rng)[nodes])
        return logits


class Layer(nn.Module):
    """Layer of the formula above, before the relu; PyG's GCN2Conv.

    Args:
        edges: Symmetrically normalised adjacency with self-loops, P.
        number: Number of the layer, from 1.
        settings: Settings with ``width``, ``alpha`` and ``theta``.
    """

    def __init__(self, edges: Matrix, number: int, settings: Settings) -> None:
        super().__init__()
        self.edges, self.alpha = edges, settings["alpha"]
        self.beta = math.log(settings["theta"] / number + 1)
        width = settings["width"]
        self.weight1 = nn.Parameter(nn.init.xavier_uniform_(torch.empty(width, width)))

    def forward(self, x: Tensor, first: Tensor) -> Tensor:
        """Aggregate the neighbors, add the first layer and map, (N, H) -> (N, H)."""
        mixed = (1 - self.alpha) * self.edges.times(x) + self.alpha * first
        return torch.addmm(mixed, mixed, self.weight1, beta=1 - self.beta, alpha=self.beta)


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return fit_network(lambda: GCNII(task, settings), task, settings, seed=seed, deadline=deadline)


PEERS = {"gcnii": Peer(fit=_fit, defaults=DEFAULTS, space=SPACE, inputs="learned")}
