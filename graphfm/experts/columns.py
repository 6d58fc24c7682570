"""Inputs of the experts: columns of a graph for the fitted ones, label shares for the others.

Shapes:
    N  nodes   Q  nodes asked for   C  classes   F  features   B  columns of a neighbor block
    R  raw columns   H  reaches   P  columns of one expert   W  random frequencies
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.experts.label_shares import (
    REACHES,
    LabelShares,
    label_shares,
    return_probability,
    two_hop_mean,
)
from graphfm.experts.scaled_ridge import axes_of
from graphfm.graphs.features.multihop import NUM_HOPS
from graphfm.graphs.features.neighbor_mean import averaging
from graphfm.graphs.features.prepare import PreparedGraph

HOPS = NUM_HOPS + 1  # feature blocks in the raw columns
TREES, KERNEL = "trees", "kernel"
NARROW = ("features", "smoothed")  # of one block each: they choose the power of the axes
READ_LABELS = ("context", TREES)  # where any label is known
# Reaches whose label shares are experts by themselves. Leaving out one hop gained the pool 0.28
# +- 0.23 points, leaving out near 0.23 +- 0.20, on 35 groups of graphs; both stay among the columns
# of `context`.
SHARE_EXPERTS = ("two-hops", "far")
# Expert that averages the best fitted expert's predictions over two-hop neighbors. A one-hop
# version lost 0.62 +- 0.58 points.
NEIGHBORS = "their-neighbors"
LABEL_WEIGHT = 0.3  # of label shares beside raw columns; 1 was worse with few labels
NUM_WAVES = 500  # random frequencies of the kernel expert, a cosine and a sine each
BANDWIDTH = 1.0  # of rows scaled to length 1; 0.5 and 2 were no better on 23 families of graphs
RESTART = 0.15  # restart probability of the feature diffusion
DIFFUSION_STEPS = 10
TREE_COLUMNS = (40, 40, 20, 20)  # leading columns of each neighbor block
MIN_OUTWARD = 0.02  # least probability that two steps end elsewhere; below, the prior is used
PRIOR_SHARE = 0.02  # of the class frequencies in the predictions of NEIGHBORS
ROWS = 1 << 15  # rows whose columns are in memory at once


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A graph as experts read it.

    Args:
        blocks: ``features``, ``smoothed`` and ``diffused`` of all nodes, (N, F) each; empty for a
            graph without features.
        neighbor_columns: Own columns, mean and spread of the neighbors' columns, and mean of their
            means, (N, B) each. The columns are features, or positions where there are none.
        raw: Raw multi-hop features, (N, R).
        label_shares: Shares of the labels in reach. None where no label is known or the graph has
            no edges.
        classes: Classes in the order in which labels come, (C,). Trees and label columns use this
            order, so that predictions do not depend on how classes are numbered.
        mean: Mean over neighbors, (N, P) -> (N, P).
        known: Label of each node, (N,), -1 = not known.
        degree: Degree of each node, (N,).
        axes: Root mean square of each feature column, (F,).
        scale: Numbers that a fit fills and a later view reuses: divisor of each block; gain, centre
            and length of the kernel's rows; power of the axes; whether labels were read.
        seed: Seed of folds and frequencies.
    """

    blocks: Mapping[str, Tensor]
    neighbor_columns: tuple[Tensor, ...]
    raw: Tensor
    label_shares: LabelShares | None
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
        """Read a graph; an empty ``scale`` is filled from the graph itself."""
        raw = raw.cpu()
        mean = averaging(graph.rowptr, graph.col)
        degree = graph.rowptr.diff().float()
        shares = None
        if len(graph.col) and bool((known >= 0).any()):
            shares = label_shares(graph.rowptr, graph.col, known, len(classes), seed=seed)
        kept = dict(scale) or {"labels": torch.tensor(shares is not None)}

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
            neighbor_columns=(own, one, scaled("spread", spread), two),
            raw=raw,
            label_shares=shares,
            classes=classes,
            mean=mean,
            known=known,
            degree=degree,
            axes=axes_of(graph.x),
            scale=kept,
            seed=seed,
        )

    def fitted_names(self) -> list[str]:
        """Names of the experts to fit, trees last."""
        shares = ["context"] if self.label_shares is not None else []
        return [*self.blocks, *shares, KERNEL, TREES]

    def can_answer(self, name: str) -> bool:
        """True if all inputs of a fitted expert are there."""
        reads_labels = name in READ_LABELS and bool(self.scale["labels"])
        return self.label_shares is not None or not reads_labels

    def columns(self, name: str, nodes: Tensor) -> Tensor:
        """Return the columns of a fitted expert for some nodes, (Q, P)."""
        if name in ("features", "smoothed"):
            return self.blocks[name][nodes]
        if name == "diffused":
            return torch.cat([self.blocks["smoothed"][nodes], self.blocks[name][nodes]], dim=1)
        if name == "context":
            weight = LABEL_WEIGHT * math.sqrt(max(1, self.raw.shape[1]))
            return torch.cat([self.raw[nodes], weight * self._share_columns(nodes)], dim=1)
        if name == KERNEL:
            parts = [block[nodes] for block in self.neighbor_columns]
            return torch.cat([*parts, self._log_degree(nodes)], dim=1)
        leading = [
            block[nodes, :most]
            for block, most in zip(self.neighbor_columns, TREE_COLUMNS, strict=True)
        ]
        leading += [self.degree[nodes, None]]
        if self.blocks:  # otherwise the neighbor blocks hold the positions already
            num_features = self.neighbor_columns[0].shape[1]
            leading += [self.raw[nodes, : self.raw.shape[1] - HOPS * num_features]]
        if bool(self.scale["labels"]):
            leading += [self._share_columns(nodes)]
        return torch.cat(leading, dim=1)

    def feature_blocks(self, name: str) -> dict[str, int]:
        """Index of a ridge's first feature column, and its number of feature blocks."""
        if name == "context":
            return {"begin": self.raw.shape[1] - HOPS * len(self.axes), "blocks": HOPS}
        num_blocks = {"diffused": 2, KERNEL: len(self.neighbor_columns)}.get(name, 1)
        return {"begin": 0, "blocks": num_blocks}

    def kernel_features(self, columns: Tensor) -> Tensor:
        """Random Fourier features of the kernel's scaled columns: (n, P) -> (n, 2 W)."""
        return random_fourier_features(columns, *_center_and_length(columns), self.seed)

    def keep_kernel_scale(self, columns: Tensor, gain: Tensor) -> None:
        """Store gain, centre and length of the kernel's columns of a fit, for later views."""
        center, length = _center_and_length(columns * gain)
        self.scale.update(gain=gain, center=center, length=length)

    def predict(self, name: str, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the scores of a fitted expert for all nodes, (N, C), in parts of ROWS rows.

        Args:
            name: Name of the expert.
            predict: Its scores from its columns, (Q, P) -> (Q, C).
        """
        parts = torch.arange(len(self.raw)).split(ROWS)
        return torch.cat([predict(self._inputs(name, part)) for part in parts])

    def _inputs(self, name: str, nodes: Tensor) -> Tensor:
        """Columns of an expert; for the kernel their random Fourier features."""
        columns = self.columns(name, nodes)
        if name != KERNEL:
            return columns
        gained = columns * self.scale.get("gain", 1.0)  # folders of an earlier version have none
        center, length = self.scale["center"], self.scale["length"]
        return random_fourier_features(gained, center, length, self.seed)

    def share_scores(self) -> dict[str, Tensor]:
        """Log shares of the labels in reach, (N, C), by name of the expert."""
        assert self.label_shares is not None
        shares = dict(zip(REACHES, self.label_shares.shares.unbind(dim=1), strict=True))
        return {name: shares[name].log() for name in SHARE_EXPERTS}

    def neighbor_scores(self, log_probs: Tensor) -> dict[str, Tensor]:
        """Log of the mean class probabilities of two-hop neighbors, (N, C), by name of the expert.

        Args:
            log_probs: Predictions of an expert, (N, C). Known labels take their place.
        """
        assert self.label_shares is not None
        nodes = (self.known >= 0).nonzero().flatten()
        proba = log_probs.exp()
        proba[nodes] = F.one_hot(self.known[nodes], len(self.classes)).float()
        back = return_probability(self.mean, self.degree.clamp(min=1)[:, None])
        values = two_hop_mean(self.mean, proba, self.mean(proba), back)
        total = values.sum(dim=1, keepdim=True)
        prior = self.label_shares.prior
        shares = torch.where(total > MIN_OUTWARD, values / total.clamp(min=1e-6), prior)
        return {NEIGHBORS: ((1 - PRIOR_SHARE) * shares + PRIOR_SHARE * prior).log()}

    def _share_columns(self, nodes: Tensor) -> Tensor:
        """Label shares minus class frequencies, (Q, H C)."""
        assert self.label_shares is not None
        shares = self.label_shares.shares[nodes] - self.label_shares.prior
        return shares[:, :, self.classes].flatten(1)

    def _log_degree(self, nodes: Tensor) -> Tensor:
        """Log degree with the weight of a whole block, (Q, 1)."""
        size = self.degree.log1p()
        if "size" not in self.scale:
            self.scale["size"] = torch.stack([size.mean(), size.std(correction=0).clamp(min=1e-6)])
        center, by = self.scale["size"]
        return (size[nodes, None] - center) / by * math.sqrt(self.neighbor_columns[0].shape[1])


def _center_and_length(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Mean row (P,) and root mean square distance from it, a scalar: (n, P) -> both."""
    center = columns.mean(dim=0)
    return center, (columns - center).square().sum(dim=1).mean().sqrt().clamp(min=1e-6)


def random_fourier_features(columns: Tensor, center: Tensor, length: Tensor, seed: int) -> Tensor:
    """Random Fourier features of a Gaussian kernel (Rahimi and Recht 2007): (Q, P) -> (Q, 2 W)."""
    rng = torch.Generator().manual_seed(seed)
    frequencies = torch.randn(columns.shape[1], NUM_WAVES, generator=rng)
    at = (columns - center) @ (frequencies * (BANDWIDTH / length))
    return torch.cat([at.cos(), at.sin()], dim=1)


def _smooth(x: Tensor, mean: Callable[[Tensor], Tensor], degree: Tensor) -> Tensor:
    """One GCN step without weights: D^-1/2 (A + I) D^-1/2 x (Kipf and Welling 2017)."""
    root = (degree + 1).rsqrt()[:, None]
    return root * (degree[:, None] * mean(x * root) + x * root)
