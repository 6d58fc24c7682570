"""NAGphormer: a transformer over the tokens of a node, one per hop.

Source: Chen et al. 2023, "NAGphormer: a tokenized graph transformer for node classification in
large graphs" (arXiv 2206.04910). Hop2Token averages the features over 0 to K hops; a pre-norm
transformer reads the K + 1 tokens of a node; the readout is an attention over them:
``z = h_0 + sum_k a_k h_k``, ``a = softmax(W [h_0, h_k])``. Tokens are averaged after their linear
map, which is equal and narrower: P^k (X W) = (P^k X) W. The authors also add Laplacian
eigenvectors: the input ``features+positions``, which a search may choose.

Shapes:
    N  nodes   Q  chosen nodes   K  hops   H  width   C  classes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphfm.baselines.networks import TRAINING, Network, fit_network
from graphfm.baselines.sparse import FeatureLayer, dropout
from graphfm.baselines.task import Peer, Settings, Task

HEADS = 8
BATCH = 2000  # training nodes of a step, as the authors'; also nodes of a chunk in prediction

DEFAULTS: Settings = {
    "width": 64,
    "depth": 1,
    "hops": 7,
    "dropout": 0.1,
    "batch": BATCH,
    "lr": 0.002,
    "weight_decay": 5e-5,
    "epochs": 300,
    "patience": 50,
}
SPACE: Mapping[str, tuple[Any, ...]] = {
    "width": (64, 128),
    "depth": (1, 2),
    "hops": (2, 5, 10),
    "dropout": (0.1, 0.3, 0.5),
    **TRAINING,
}


class NAGphormer(Network):
    """Network of hop tokens, a transformer and a readout.

    Args:
        task: Features, edges and number of classes.
        settings: Settings with the keys of :data:`DEFAULTS`.
    """

    def __init__(self, task: Task, settings: Settings) -> None:
        super().__init__()
        width, self.rate, self.hops = settings["width"], settings["dropout"], settings["hops"]
        inputs = task.inputs(settings["inputs"])
        weight = nn.init.xavier_uniform_(torch.empty(inputs.width, width))
        self.first = FeatureLayer(inputs, weight, 0.0)
        self.bias = nn.Parameter(torch.zeros(width))
        self.edges = task.convolution
        self.blocks = nn.ModuleList(_Block(width, self.rate) for _ in range(settings["depth"]))
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(2 * width, 1)
        self.hidden = nn.Linear(width, width // 2)
        self.last = nn.Linear(width // 2, task.labels.num_classes)

    def forward(self, nodes: Tensor, rng: torch.Generator | None) -> Tensor:
        """Compute the logits of some nodes, (Q,) -> (Q, C)."""
        hops = [self.first(rng)]
        for _ in range(self.hops):
            hops.append(self.edges.times(hops[-1]))
        # In chunks: eight heads of eleven tokens for all nodes of coauthor-physics take 1 GiB.
        parts = [
            self._logits(torch.stack([hop[chunk] for hop in hops], dim=1) + self.bias, rng)
            for chunk in nodes.split(BATCH)
        ]
        return torch.cat(parts)

    def _logits(self, tokens: Tensor, rng: torch.Generator | None) -> Tensor:
        """Logits of nodes from their tokens, (Q, K + 1, H) -> (Q, C)."""
        for block in self.blocks:
            tokens = block(tokens, rng)  # (Q, K + 1, H)
        tokens = self.norm(tokens)
        own, far = tokens[:, :1], tokens[:, 1:]
        score = self.score(torch.cat([own.expand_as(far), far], dim=2))  # (Q, K, 1)
        read = own[:, 0] + (score.softmax(dim=1) * far).sum(dim=1)
        logits: Tensor = self.last(self.hidden(read).relu())
        return logits


class _Block(nn.Module):
    """Pre-norm transformer block: attention and feed-forward, (Q, K + 1, H) -> the same."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, rng: torch.Generator | None) -> Tensor:
        count, length, width = x.shape
        qkv = self.qkv(self.norms[0](x)).view(count, length, 3, HEADS, width // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (Q, heads, K + 1, H / heads) each
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + dropout(self.out(mixed), self.rate, rng)
        out: Tensor = x + dropout(self.feed(self.norms[1](x)), self.rate, rng)
        return out


def _fit(task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
    return fit_network(
        lambda: NAGphormer(task, settings), task, settings, seed=seed, deadline=deadline
    )


PEERS = {"nagphormer": Peer(fit=_fit, defaults=DEFAULTS, space=SPACE, inputs="learned")}
