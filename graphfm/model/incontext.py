"""In-context network: it reads a graph, some labels and the experts' predictions.

It corrects the pool of the experts. A token stands for (node, class). Its channels are the experts'
and the pool's log-probabilities, shares of known labels nearby, and the residual of shown nodes. In
every layer a token reads the mean of its node's classes, the mean of its class over the neighbors,
summaries of its class over the shown nodes, and latents, which have read the shown nodes. Experts
have channels by name. So the network is equivariant to the order of nodes, classes and experts, and
serves any number of each. Its last layer begins at zero: untrained, it returns the pool, bit for
bit.

Shapes:
    N  nodes of a pack   B  graphs   C  classes   D  width   K  latents   H  heads
    A  channels of a token   G  channels of a node
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphfm.model.nn.class_tokens import (
    NODE_CHANNELS,
    TOKEN_CHANNELS,
    NeighborMean,
    Pack,
    shares_of_edges,
    tokens_of,
)


class InContext(nn.Module):
    """Corrector of the pool.

    Args:
        dim: Width D.
        num_layers: Number of layers.
        num_latents: Number of latents K of each class; 0 = no latents.
        num_heads: Number of attention heads H.
        reads_neighbors: If false, tokens do not read their neighbors (a control).
        seed: Seed of the weights.
    """

    def __init__(
        self,
        *,
        dim: int = 48,
        num_layers: int = 3,
        num_latents: int = 16,
        num_heads: int = 3,
        reads_neighbors: bool = True,
        seed: int = 0,
    ):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.of_token = nn.Linear(TOKEN_CHANNELS, dim)
            self.of_node = nn.Linear(NODE_CHANNELS, dim, bias=False)
            self.latents = nn.Parameter(torch.randn(num_latents, dim))
            self.layers = nn.ModuleList(
                Layer(dim, num_heads, has_latents=num_latents > 0, reads_neighbors=reads_neighbors)
                for _ in range(num_layers)
            )
            self.norm = nn.RMSNorm(dim)
            self.shift = nn.Linear(dim, 1, bias=False)
            self.sharpen = nn.Linear(dim, 1)
        for last in (self.shift, self.sharpen):
            nn.init.zeros_(last.weight)
        nn.init.zeros_(self.sharpen.bias)

    def forward(self, pack: Pack) -> Tensor:
        """Return the logits of all nodes, (N, C)."""
        # Tokens
        of_token, of_node = tokens_of(pack)
        x = self.of_token(of_token) + self.of_node(of_node)[:, None]  # (N, C, D)
        latents = self.latents.repeat(len(pack.answers), 1)[:, None].expand(-1, x.shape[1], -1)

        # Layers
        share = shares_of_edges(pack)
        summary = summary_weights(pack)  # (N, C) twice
        for layer in self.layers:
            x, latents = layer(x, latents, pack, share, summary)

        # Correction
        x = self.norm(x)
        sharpness = 1 + self.sharpen(x.mean(dim=1))  # (N, 1)
        return pack.pool * sharpness + self.shift(x)[..., 0]


class Layer(nn.Module):
    """One layer: neighbors, classes, summaries, latents, feed-forward."""

    def __init__(self, dim: int, num_heads: int, *, has_latents: bool, reads_neighbors: bool):
        super().__init__()
        self.norm = nn.RMSNorm(dim)
        self.classes = nn.Linear(dim, dim)
        self.neighbors = nn.Linear(dim, dim, bias=False) if reads_neighbors else None
        self.summary = nn.Linear(2 * dim, dim, bias=False)
        if has_latents:
            self.read_norm, self.latent_norm = nn.RMSNorm(dim), nn.RMSNorm(dim)
            self.write_norm = nn.RMSNorm(dim)
            self.read, self.write = Attention(dim, num_heads), Attention(dim, num_heads)
            self.latent_classes = nn.Linear(dim, dim)
        self.has_latents = has_latents
        self.up_norm = nn.RMSNorm(dim)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(
        self, x: Tensor, latents: Tensor, pack: Pack, share: Tensor, summary: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Update tokens (N, C, D) and latents (B K, C, D)."""
        h = self.norm(x)
        update = self.classes(h.mean(dim=1, keepdim=True))  # (N, 1, D)
        update = update + self.summary(summarize(h, pack, summary))[pack.graph_of_node]
        if self.neighbors is not None and len(pack.col):
            around = NeighborMean.apply(h.flatten(1), pack.rowptr, pack.col, share)
            update = update + self.neighbors(around.view_as(h))
        x = x + update
        if self.has_latents:
            x, latents = self._through_latents(x, latents, pack)
        return x + self.down(F.gelu(self.up(self.up_norm(x)))), latents

    def _through_latents(self, x: Tensor, latents: Tensor, pack: Pack) -> tuple[Tensor, Tensor]:
        """Let latents read the shown nodes of their graph, and all its nodes read the latents."""
        h, num_latents = self.read_norm(x), len(latents) // len(pack.answers)
        shown = (pack.shown >= 0).nonzero().flatten()
        num_shown = pack.graph_of_node[shown].bincount(minlength=len(pack.answers)).tolist()
        per_graph = [num_latents] * len(pack.answers)
        latents = latents + self.read(self.latent_norm(latents), per_graph, h[shown], num_shown)
        latents = latents + self.latent_classes(latents.mean(dim=1, keepdim=True))
        nodes = pack.ptr.diff().tolist()
        return x + self.write(h, nodes, self.write_norm(latents), per_graph), latents


class Attention(nn.Module):
    """Attention within each graph and class."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.query = nn.Linear(dim, dim, bias=False)
        self.key, self.value = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(
        self, x: Tensor, sizes: list[int], context: Tensor, context_sizes: list[int]
    ) -> Tensor:
        """Return what each query reads, (Q, C, D).

        Args:
            x: Queries of all graphs, (Q, C, D).
            sizes: Number of queries of each graph.
            context: Tokens that are read, (S, C, D).
            context_sizes: Their number in each graph.
        """
        heads = (self.num_heads, -1)
        queries = (self.query(x) * self.scale).unflatten(-1, heads).split(sizes)
        keys = self.key(context).unflatten(-1, heads).split(context_sizes)
        values = self.value(context).unflatten(-1, heads).split(context_sizes)
        read = []
        for q, k, v in zip(queries, keys, values, strict=True):
            scores = torch.einsum("qchd,schd->chqs", q, k)
            read.append(torch.einsum("chqs,schd->qchd", scores.softmax(dim=-1), v))
        return self.out(torch.cat(read).flatten(2))


def summary_weights(pack: Pack) -> tuple[Tensor, Tensor]:
    """Weights of the means over the shown nodes of each class, and over the others, (N, C)."""
    graph = pack.graph_of_node
    is_shown = (pack.shown >= 0)[:, None]
    known = F.one_hot(pack.shown.clamp(min=0), pack.pool.shape[1]) * is_shown
    found = []
    for member in (known, is_shown * (1 - known)):
        member = member.to(pack.pool.dtype)
        total = member.new_zeros(len(pack.answers), member.shape[1]).index_add_(0, graph, member)
        found.append(member / total.clamp(min=1)[graph])
    return found[0], found[1]


def summarize(h: Tensor, pack: Pack, weights: tuple[Tensor, Tensor]) -> Tensor:
    """Mean of each class's tokens over its shown nodes and over the others, (B, C, 2 D)."""
    nodes = (pack.shown >= 0).nonzero().flatten()
    graph, own = pack.graph_of_node[nodes], h[nodes]
    parts = [
        h.new_zeros(len(pack.answers), *h.shape[1:]).index_add_(0, graph, own * w[nodes, :, None])
        for w in weights
    ]
    return torch.cat(parts, dim=2)
