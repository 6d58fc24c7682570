"""MLP, GCN, GraphSAGE and GAT as one stack, after Luo et al.

"Classic GNNs are strong baselines" (NeurIPS 2024, arXiv 2406.08993): residuals through a linear
map, LayerNorm or BatchNorm, dropout, depth and a linear head on the convolutions of PyG. A layer's
linear maps come before its aggregation, all in one product: A (X W) = (A X) W, and W is narrower.

Shapes:
    N  nodes   F  feature columns   H  width   C  classes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphfm.baselines.networks import TRAINING, Network, fit_network
from graphfm.baselines.passing import convolution
from graphfm.baselines.sparse import FeatureLayer, dropout
from graphfm.baselines.task import Peer, Settings, Task

KINDS = ("mlp", "gcn", "sage", "gat")

# Two layers of 64, the last of which answers, dropout on features too: Kipf and Welling 2017.
KIPF: Settings = {
    "width": 64,
    "depth": 2,
    "heads": 1,
    "dropout": 0.5,
    "input_dropout": 0.5,
    "norm": "none",
    "residual": False,
    "head": False,
    "lr": 0.01,
    "weight_decay": 5e-4,
    "epochs": 200,
    "patience": 200,
}
# Velickovic et al. 2018: 8 heads of 8, their learning rate. Attention itself is not dropped.
DEFAULTS: Mapping[str, Settings] = {
    **{kind: KIPF for kind in KINDS},
    "gat": {**KIPF, "heads": 8, "lr": 0.005, "patience": 50},
}
# Their widths of 256 and 512 are out of reach: a trial of 256 takes 3 times the one of 64, and what
# is equal for all peers is the seconds of a search.
SPACE: Mapping[str, tuple[Any, ...]] = {
    "width": (64, 128),
    "depth": (1, 2, 3, 5),
    "heads": (1,),
    "dropout": (0.2, 0.5, 0.7),
    "input_dropout": (0.0, 0.5),
    "norm": ("none", "layer", "batch"),
    "residual": (False, True),
    "head": (True,),
    **TRAINING,
}


class Stack(Network):
    """Layers of one kind.

    Args:
        kind: One of :data:`KINDS`.
        task: For its features, edges and number of classes.
        settings: As :data:`KIPF`.
    """

    def __init__(self, kind: str, task: Task, settings: Settings) -> None:
        super().__init__()
        self.rate = settings["dropout"]
        depth, width = settings["depth"], settings["width"]
        num_classes = task.labels.num_classes
        widths = [width] * depth if settings["head"] else [width] * (depth - 1) + [num_classes]
        # A layer is A (x W), and beside it x W' (of SAGE, for the node itself) and a residual.
        self.parts = 1 + (kind == "sage") + settings["residual"]
        maps: list[nn.Module] = []
        convs: list[nn.Module] = []
        norms: list[nn.Module] = []
        biases: list[Tensor] = []
        fan_in = task.inputs.shape[1]
        for i, out in enumerate(widths):
            weight = _weight(kind, fan_in, out, self.parts)
            maps.append(
                _Linear(weight)
                if i
                else FeatureLayer(task.inputs, weight, settings["input_dropout"])
            )
            last = i == depth - 1 and not settings["head"]
            convs.append(convolution(kind, out, task, heads=1 if last else settings["heads"]))
            norms.append(_norm("none" if last else settings["norm"], out))
            biases.append(_bias(kind, fan_in, out, settings))
            fan_in = out
        self.maps, self.convs = nn.ModuleList(maps), nn.ModuleList(convs)
        self.norms = nn.ModuleList(norms)
        self.bias = nn.ParameterList(biases)
        self.head = nn.Linear(width, num_classes) if settings["head"] else None

    def forward(self, nodes: Tensor, rng: torch.Generator | None) -> Tensor:
        """Logits of some nodes, (Q, C)."""
        hidden: Tensor | torch.Generator | None = rng
        for i, (linear, conv, norm) in enumerate(
            zip(self.maps, self.convs, self.norms, strict=True)
        ):
            mapped, *beside = linear(hidden).chunk(self.parts, dim=1)
            out: Tensor = conv(mapped) + sum(beside, start=self.bias[i])
            if self.head is None and i == len(self.maps) - 1:
                return out[nodes]
            hidden = dropout(norm(out).relu(), self.rate, rng)
        assert self.head is not None and isinstance(hidden, Tensor)
        logits: Tensor = self.head(hidden[nodes])
        return logits


class _Linear(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def _weight(kind: str, fan_in: int, width: int, parts: int) -> Tensor:
    """(fan_in, parts x width), each part as PyG begins it: Glorot for GCN and GAT, else uniform."""
    columns = [torch.empty(fan_in, width) for _ in range(parts)]
    for i, part in enumerate(columns):
        if i == 0 and kind in ("gcn", "gat"):
            nn.init.xavier_uniform_(part)
        else:
            nn.init.uniform_(part, -(fan_in**-0.5), fan_in**-0.5)
    return torch.cat(columns, dim=1)


def _bias(kind: str, fan_in: int, width: int, settings: Settings) -> Tensor:
    """(width,) as PyG begins it: drawn where a linear map brings it, zero in GCN and GAT."""
    bias = torch.zeros(width)
    if kind in ("mlp", "sage") or settings["residual"]:
        nn.init.uniform_(bias, -(fan_in**-0.5), fan_in**-0.5)
    return bias


def _norm(kind: str, width: int) -> nn.Module:
    if kind == "layer":
        return nn.LayerNorm(width)
    return nn.BatchNorm1d(width) if kind == "batch" else nn.Identity()


def _peer(kind: str) -> Peer:
    def fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
        return fit_network(
            lambda: Stack(kind, task, settings), task, settings, seed=seed, deadline=deadline
        )

    return Peer(fit=fit, defaults=DEFAULTS[kind], space=SPACE)


PEERS = {kind: _peer(kind) for kind in KINDS}
