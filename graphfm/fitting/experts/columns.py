"""What experts read of a graph: columns for the fitted ones, shares of known labels for others.

Shapes:
    N  nodes   Q  nodes asked for   C  classes   F  features   B  columns told of neighbors
    R  raw columns   H  reaches   P  columns of one expert
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.fitting.experts.label_shares import (
    REACHES,
    LabelContext,
    beyond,
    chance_back,
    label_context,
)
from graphfm.fitting.experts.scaled_ridge import axes_of
from graphfm.graphs.features.multihop import NUM_HOPS
from graphfm.graphs.features.neighbor_mean import averaging
from graphfm.graphs.features.prepare import PreparedGraph

HOPS = NUM_HOPS + 1  # blocks of features in raw columns
TREES, KERNEL = "trees", "kernel"
NARROW = ("features", "smoothed")  # of one block: they choose how much its leading axes count
READ_LABELS = ("context", TREES)  # where labels are known at all
# Reaches whose shares are experts by themselves. Without one hop and near the pool gains 0.28
# +- 0.23 and 0.23 +- 0.20 points on 35 groups of graphs; they stay among the columns of `context`.
TELLING = ("two-hops", "far")
# What the best fitted expert says of them; the same of neighbors costs 0.62 +- 0.58 points.
NEIGHBORS = "their-neighbors"
LABEL_WEIGHT = 0.3  # of shares of labels beside raw columns; 1 was worse with few labels
NUM_WAVES = 500  # random frequencies of the kernel expert, a cosine and a sine each
BANDWIDTH = 1.0  # of rows scaled to length 1; 0.5 and 2 were no better on 23 families of graphs
RESTART = 0.15  # of the diffusion of features
DIFFUSION_STEPS = 10
TREE_COLUMNS = (40, 40, 20, 20)  # leading ones: own, neighbors' mean and spread, mean of means
LONELY = 0.02  # chance below which a walk of two steps only comes back
DOUBT = 0.02  # of what neighbors are said to be
ROWS = 1 << 15  # whose columns are in memory at once


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A graph as experts read it.

    Args:
        blocks: ``features``, ``smoothed`` and ``diffused`` of all nodes, (N, F), if any.
        told: Own columns, the mean and the spread of the neighbors', the mean of their means, each
            (N, B): of features, or of positions where there are none.
        raw: (N, R).
        context: Labels in reach; None = none is known, or there are no edges.
        classes: C, in the order in which labels come: what is said of a class must not depend on
            its number.
        mean: The mean over neighbors, (N, P) -> (N, P).
        known: (N,), -1 = not known.
        degree: (N,).
        axes: Root mean square of each feature column, (F,).
        scale: What blocks are divided by, gain, centre and length of the kernel's rows, the power
            of the axes, and whether there were labels to read: filled by a fit, given at use.
        seed: Of folds and frequencies.
    """

    blocks: Mapping[str, Tensor]
    told: tuple[Tensor, ...]
    raw: Tensor
    context: LabelContext | None
    classes: Tensor
    mean: Callable[[Tensor], Tensor]
    known: Tensor
    degree: Tensor
    axes: Tensor
    scale: dict[str, Tensor]
    seed: int

    @classmethod
    def of(
        cls,
        graph: PreparedGraph,
        raw: Tensor,
        known: Tensor,
        classes: Tensor,
        seed: int,
        scale: Mapping[str, Tensor],
    ) -> View:
        """Read a graph; with an empty ``scale`` its own is taken."""
        raw = raw.cpu()
        mean = averaging(graph.rowptr, graph.col)
        degree = graph.rowptr.diff().float()
        context = None
        if len(graph.col) and bool((known >= 0).any()):
            context = label_context(graph.rowptr, graph.col, known, len(classes), seed=seed)
        kept = dict(scale) or {"labels": torch.tensor(context is not None)}

        def scaled(name: str, block: Tensor) -> Tensor:
            kept.setdefault(name, block.square().mean().sqrt().clamp(min=1e-6))
            return block / kept[name]

        blocks: dict[str, Tensor] = {}
        own = raw[:, : raw.shape[1] - HOPS * graph.num_features]  # positions
        if graph.num_features:
            own, one, two = raw[:, own.shape[1] :].split(graph.num_features, dim=1)
            x = graph.x.float()
            diffused = x
            for _ in range(DIFFUSION_STEPS):
                diffused = (1 - RESTART) * _smooth(diffused, mean, degree) + RESTART * x
            smoothed = _smooth(_smooth(x, mean, degree), mean, degree)
            for name, block in (("features", x), ("smoothed", smoothed), ("diffused", diffused)):
                blocks[name] = scaled(name, block)
        else:
            one = mean(own.contiguous())
            one, two = scaled("one", one), scaled("two", mean(one))
        own = own.contiguous()
        spread = (mean(own.square()) - mean(own).square()).clamp(min=0).sqrt()
        return cls(
            blocks=blocks,
            told=(own, one, scaled("spread", spread), two),
            raw=raw,
            context=context,
            classes=classes,
            mean=mean,
            known=known,
            degree=degree,
            axes=axes_of(graph.x),
            scale=kept,
            seed=seed,
        )

    def fitted_names(self) -> list[str]:
        """The experts to fit, trees last."""
        return [*self.blocks, *(["context"] if self.context is not None else []), KERNEL, TREES]

    def can_answer(self, name: str) -> bool:
        """Whether what a fitted expert reads is there."""
        reads_labels = name in READ_LABELS and bool(self.scale["labels"])
        return self.context is not None or not reads_labels

    def columns(self, name: str, nodes: Tensor) -> Tensor:
        """What a fitted expert reads of some nodes, (Q, P)."""
        if name in ("features", "smoothed"):
            return self.blocks[name][nodes]
        if name == "diffused":
            return torch.cat([self.blocks["smoothed"][nodes], self.blocks[name][nodes]], dim=1)
        if name == "context":
            weight = LABEL_WEIGHT * math.sqrt(max(1, self.raw.shape[1]))
            return torch.cat([self.raw[nodes], weight * self._shares_of(nodes)], dim=1)
        if name == KERNEL:
            return torch.cat([*(b[nodes] for b in self.told), self._size(nodes)], dim=1)
        leading = [b[nodes, :most] for b, most in zip(self.told, TREE_COLUMNS, strict=True)]
        leading += [self.degree[nodes, None]]
        if self.blocks:  # positions are not among what is told of neighbors
            leading += [self.raw[nodes, : self.raw.shape[1] - HOPS * self.told[0].shape[1]]]
        if bool(self.scale["labels"]):
            leading += [self._shares_of(nodes)]
        return torch.cat(leading, dim=1)

    def features_in(self, name: str) -> dict[str, int]:
        """Where in the columns of a ridge blocks of features begin, and how many they are."""
        if name == "context":
            return {"begin": self.raw.shape[1] - HOPS * len(self.axes), "blocks": HOPS}
        return {"begin": 0, "blocks": {"diffused": 2, KERNEL: len(self.told)}.get(name, 1)}

    def see(self, columns: Tensor) -> Tensor:
        """What the kernel's ridge reads of columns that have their gains already; at a fit."""
        return waves(columns, *_middle(columns), self.seed)

    def keep(self, columns: Tensor, gain: Tensor) -> None:
        """Remember how the kernel's columns of a fit, without gains, are to be read elsewhere."""
        center, length = _middle(columns * gain)
        self.scale.update(gain=gain, center=center, length=length)

    def answer(self, name: str, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """Scores of all nodes by a fitted expert, (N, C)."""
        parts = torch.arange(len(self.raw)).split(ROWS)
        return torch.cat([answer(self._read(name, self.columns(name, part))) for part in parts])

    def _read(self, name: str, columns: Tensor) -> Tensor:
        if name != KERNEL:
            return columns
        gained = columns * self.scale.get("gain", 1.0)  # a fit of an earlier version has none
        return waves(gained, self.scale["center"], self.scale["length"], self.seed)

    def shares(self) -> dict[str, Tensor]:
        """Log shares of the labels in each reach, (N, C), by the expert's name."""
        assert self.context is not None
        shares = dict(zip(REACHES, self.context.shares.unbind(dim=1), strict=True))
        return {name: shares[name].log() for name in TELLING}

    def neighbors_of(self, said: Tensor) -> dict[str, Tensor]:
        """What neighbors of neighbors are, where known, and else are said to be: log (N, C)."""
        assert self.context is not None
        nodes = (self.known >= 0).nonzero().flatten()
        given = said.exp()
        given[nodes] = F.one_hot(self.known[nodes], len(self.classes)).float()
        back = chance_back(self.mean, self.degree.clamp(min=1)[:, None])
        values = beyond(self.mean, given, self.mean(given), back)
        total = values.sum(dim=1, keepdim=True)
        prior = self.context.prior
        shares = torch.where(total > LONELY, values / total.clamp(min=1e-6), prior)
        return {NEIGHBORS: ((1 - DOUBT) * shares + DOUBT * prior).log()}

    def _shares_of(self, nodes: Tensor) -> Tensor:
        """Labels in reach, over their frequencies: (Q, H C)."""
        assert self.context is not None
        shares = self.context.shares[nodes] - self.context.prior
        return shares[:, :, self.classes].flatten(1)

    def _size(self, nodes: Tensor) -> Tensor:
        """Log degree, weighing as much as a block: (Q, 1)."""
        size = self.degree.log1p()
        if "size" not in self.scale:
            self.scale["size"] = torch.stack([size.mean(), size.std(correction=0).clamp(min=1e-6)])
        center, by = self.scale["size"]
        return (size[nodes, None] - center) / by * math.sqrt(self.told[0].shape[1])


def _middle(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Mean row and root mean square distance from it: (n, P) -> (P,), scalar."""
    center = columns.mean(dim=0)
    return center, (columns - center).square().sum(dim=1).mean().sqrt().clamp(min=1e-6)


def waves(columns: Tensor, center: Tensor, length: Tensor, seed: int) -> Tensor:
    """Random Fourier features of a Gaussian kernel (Rahimi and Recht 2007): (Q, P) -> (Q, 2 W)."""
    rng = torch.Generator().manual_seed(seed)
    frequencies = torch.randn(columns.shape[1], NUM_WAVES, generator=rng)
    at = (columns - center) @ (frequencies * (BANDWIDTH / length))
    return torch.cat([at.cos(), at.sin()], dim=1)


def _smooth(x: Tensor, mean: Callable[[Tensor], Tensor], degree: Tensor) -> Tensor:
    """A step of a GCN without weights: D^-1/2 (A + I) D^-1/2 x (Kipf and Welling 2017)."""
    root = (degree + 1).rsqrt()[:, None]
    return root * (degree[:, None] * mean(x * root) + x * root)
