"""How unlike what it has learned from: of a node among nodes, of a graph among graphs.

Shapes:
    R  reference nodes   Q  nodes   D  width   n  held-out nodes
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphfm.graphs.graph import Graph
from graphfm.graphs.spec import DatasetSpec
from graphfm.model import GraphFM
from graphfm.training.corpus import Corpus

SHRINKAGE = 0.1  # share of the mean variance added to each: states fill few of their D dimensions
MAX_CLOUD = 4096  # nodes, over all graphs, that a pretraining corpus is described by
BEYOND = 0.95
SLACK = 1e-5  # share by which the distance of one node differs between batches and machines
MIN_CORPUS = 5  # graphs from which on a spread means something


@dataclass(frozen=True, kw_only=True)
class StateCloud:
    """Where the states of a fit lie, and how far off its held-out nodes are.

    The distance is Mahalanobis' from the reference nodes. Its place among the distances of nodes
    that fitted nothing is one minus a conformal p-value (Bates et al. 2023, Annals of Statistics,
    "Testing for outliers with conformal p-values"): a node of the same kind exceeds 0.99 with
    probability 0.01 at most.

    Args:
        mean: (D,).
        whiten: (D, D), takes a centred state to one whose length is the distance.
        held_out: (n,) distances of held-out nodes, ascending.
    """

    mean: Tensor
    whiten: Tensor
    held_out: Tensor

    @classmethod
    def of(cls, reference: Tensor, held_out: Tensor) -> StateCloud:
        """From states of reference nodes (R, D) and of held-out nodes (n, D)."""
        x = reference.double().cpu()
        mean = x.mean(dim=0)
        x = x - mean
        covariance = x.T @ x / max(1, len(x) - 1)
        variance = float(covariance.diagonal().mean()) or 1.0
        eye = torch.eye(len(covariance), dtype=torch.float64)
        values, vectors = torch.linalg.eigh(covariance + SHRINKAGE * variance * eye)
        whiten = vectors / values.sqrt()
        cloud = cls(mean=mean, whiten=whiten, held_out=torch.zeros(0, dtype=torch.float64))
        distances = cloud.distance(held_out).sort().values
        return cls(mean=mean, whiten=whiten, held_out=distances)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; ``StateCloud(**tensors)`` is the same cloud."""
        return {"mean": self.mean, "whiten": self.whiten, "held_out": self.held_out}

    def share_beyond(self, states: Tensor) -> float:
        """Share of states (Q, D) farther out than 95% of the held-out nodes; 0.05 = of the kind."""
        return float((self.novelty(states) > BEYOND).double().mean())

    def distance(self, states: Tensor) -> Tensor:
        """(Q, D) -> (Q,) float64."""
        distances: Tensor = ((states.double().cpu() - self.mean) @ self.whiten).norm(dim=1)
        return distances

    def novelty(self, states: Tensor) -> Tensor:
        """Share of held-out nodes that lie nearer, of n + 1: (Q, D) -> (Q,) in [0, 1); NaN if none.

        1 - (1 + number at least as far) / (n + 1). A held-out node that is asked for is as far as
        itself, whatever its distance is rounded to.
        """
        n = len(self.held_out)
        distance = self.distance(states)
        if n == 0:
            return torch.full_like(distance, torch.nan)
        return torch.searchsorted(self.held_out, distance * (1 - SLACK)) / (n + 1)


@torch.no_grad()
def corpus_cloud(model: GraphFM, corpus: Corpus) -> StateCloud:
    """Where the states of a pretraining corpus lie.

    Of at most 2048 nodes that taught, over all graphs alike, and as many that did not.
    """
    model.eval()
    each = max(1, MAX_CLOUD // 2 // max(1, len(corpus.bank)))
    states: dict[bool, list[Tensor]] = {True: [], False: []}
    for taught, kept in states.items():
        for group in corpus.val_groups():
            batch = corpus.val_batch(group, each, taught=taught)
            kept.append(model.states_of(batch).cpu())
    return StateCloud.of(torch.cat(states[True]), torch.cat(states[False]))


def graph_novelty(graph: Graph, corpus: Iterable[DatasetSpec]) -> dict[str, dict[str, float]]:
    """Where a graph lies among the graphs of a pretraining corpus, by what the catalog says.

    Args:
        graph: The graph.
        corpus: Entries of the corpus; counts that are not known are left out.

    Returns:
        For ``nodes``, ``degree`` (edges a node), ``features`` and ``classes``: the ``value``, its
        ``z`` (standard deviations from the corpus' mean, of logarithms) and the ``share`` of the
        corpus below it. Empty with fewer than :data:`MIN_CORPUS` graphs.
    """
    entries = list(corpus)
    mine = _axes(graph.num_nodes, graph.num_edges, graph.num_features, graph.num_classes)
    known: dict[str, list[float]] = {axis: [] for axis in mine}
    for entry in entries:
        counts: Any = entry.count
        if None in counts.values():
            continue
        for axis, value in _axes(*counts.values()).items():
            known[axis].append(value)
    if not known["nodes"] or len(known["nodes"]) < MIN_CORPUS:
        return {}
    result = {}
    for axis, value in mine.items():
        logs = np.log1p(known[axis])
        spread = max(float(logs.std(ddof=1)), 1e-6)
        result[axis] = {
            "value": value,
            "z": float((np.log1p(value) - logs.mean()) / spread),
            "share": float((np.array(known[axis]) < value).mean()),
        }
    return result


def _axes(nodes: int, edges: int, features: int, classes: int) -> dict[str, float]:
    return {
        "nodes": float(nodes),
        "degree": edges / max(1, nodes),
        "features": float(features),
        "classes": float(classes),
    }
