"""How unlike what it has learned from: of a node among nodes, of a graph among graphs.

Shapes:
    R  reference nodes   Q  nodes   D  width   n  held-out nodes
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphfm.model.graphfm import GraphFM
from graphfm.training.corpus import Corpus

SHRINKAGE = 0.1  # share of the mean variance added to each: states fill few of their D dimensions
MAX_CLOUD = 4096  # nodes, over all graphs, that a pretraining corpus is described by
BEYOND = 0.95
SLACK = 1e-5  # share by which the distance of one node differs between batches and machines


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
            kept.append(model.embed(batch).cpu())
    return StateCloud.of(torch.cat(states[True]), torch.cat(states[False]))
