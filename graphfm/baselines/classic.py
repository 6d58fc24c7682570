"""MLP, GCN, GraphSAGE and GAT as one stack of layers.

Sources: GCN, Kipf and Welling 2017 (arXiv 1609.02907); GraphSAGE, Hamilton et al. 2017
(1706.02216); GAT, Velickovic et al. 2018 (1710.10903). The stack follows Luo et al. 2024, "Classic
GNNs are strong baselines" (2406.08993): residuals through a linear map, LayerNorm or BatchNorm,
dropout, depth and a linear head. A layer applies all its linear maps in one product before the
aggregation: A (X W) = (A X) W, and W is narrower.

Shapes:
    N  nodes   F  feature columns   H  width   C  classes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphfm.baselines.message_passing import convolution
from graphfm.baselines.networks import TRAINING, Network, fit_network
from graphfm.baselines.sparse import FeatureLayer, dropout
from graphfm.baselines.task import InputKind, Peer, Settings, Task

KINDS = ("mlp", "gcn", "sage", "gat")

# Kipf and Welling 2017, with width 64: the last of two layers returns the logits.
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
# Velickovic et al. 2018: 8 heads of 8, their learning rate; without dropout on attention.
DEFAULTS: Mapping[str, Settings] = {
    **{kind: KIPF for kind in KINDS},
    "gat": {**KIPF, "heads": 8, "lr": 0.005, "patience": 50},
}
# Luo et al. use widths of 256 and 512. Width 256 takes 3 times as long as 64, and all peers search
# for the same time.
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


class ConvStack(Network):
    """Network of layers of one kind.

    Args:
        kind: One of :data:`KINDS`.
        task: Features, edges and number of classes.
        settings: Settings with the keys of :data:`KIPF`.
    """

    def __init__(self, kind: str, task: Task, settings: Settings) -> None:
        super().__init__()
        self.rate = settings["dropout"]
        depth, width = settings["depth"], settings["width"]
        num_classes = task.labels.num_classes
        widths = [width] * depth if settings["head"] else [width] * (depth - 1) + [num_classes]
        # A layer is A (x W), plus x W' for the node itself (SAGE), plus x W'' for the residual.
        self.parts = 1 + (kind == "sage") + settings["residual"]
        maps: list[nn.Module] = []
        convs: list[nn.Module] = []
        norms: list[nn.Module] = []
        biases: list[Tensor] = []
        inputs = task.inputs(settings["inputs"])
        fan_in = inputs.width
        for i, out in enumerate(widths):
            weight = _weight(kind, fan_in, out, self.parts)
            maps.append(
                _Linear(weight) if i else FeatureLayer(inputs, weight, settings["input_dropout"])
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
        """Compute the logits of some nodes, (Q,) -> (Q, C)."""
        hidden: Tensor | torch.Generator | None = rng
        for i, (linear, conv, norm) in enumerate(
            zip(self.maps, self.convs, self.norms, strict=True)
        ):
            mapped, *others = linear(hidden).chunk(self.parts, dim=1)
            out: Tensor = conv(mapped) + sum(others, start=self.bias[i])
            if self.head is None and i == len(self.maps) - 1:
                return out[nodes]
            hidden = dropout(norm(out).relu(), self.rate, rng)
        assert self.head is not None and isinstance(hidden, Tensor)
        logits: Tensor = self.head(hidden[nodes])
        return logits


class _Linear(nn.Module):
    """Product with a weight (fan_in, fan_out), without a bias."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def _weight(kind: str, fan_in: int, width: int, parts: int) -> Tensor:
    """Draw a weight, (fan_in, parts x width), as PyG: Glorot for GCN and GAT, else uniform."""
    columns = [torch.empty(fan_in, width) for _ in range(parts)]
    for i, part in enumerate(columns):
        if i == 0 and kind in ("gcn", "gat"):
            nn.init.xavier_uniform_(part)
        else:
            nn.init.uniform_(part, -(fan_in**-0.5), fan_in**-0.5)
    return torch.cat(columns, dim=1)


def _bias(kind: str, fan_in: int, width: int, settings: Settings) -> Tensor:
    """Draw a bias, (width,), as PyG: uniform for linear maps, zero in GCN and GAT."""
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
            lambda: ConvStack(kind, task, settings), task, settings, seed=seed, deadline=deadline
        )

    # Without edges the embedding of a test node is never trained.
    inputs: InputKind = "columns" if kind == "mlp" else "learned"
    return Peer(fit=fit, defaults=DEFAULTS[kind], space=SPACE, inputs=inputs)


PEERS = {kind: _peer(kind) for kind in KINDS}
