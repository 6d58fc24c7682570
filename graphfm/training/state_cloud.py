"""Distance of node states from the states of a reference set, as a conformal novelty score.

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
MAX_NODES = 4096  # nodes of a corpus, over all graphs, that describe it
FAR = 0.95  # novelty above which a node counts as far
TOLERANCE = 1e-5  # relative difference of a node's distance between batches and machines


@dataclass(frozen=True, kw_only=True)
class StateCloud:
    """Mean and covariance of reference states, with the distances of held-out nodes.

        distance(s) = |(s - mean) W|                                 W W^T = covariance^-1
        novelty(s)  = #{held-out nodes nearer than s} / (n + 1)

    The distance is Mahalanobis'. The novelty is one minus a conformal p-value (Bates et al. 2023,
    Annals of Statistics, "Testing for outliers with conformal p-values"): a node of the same kind
    as the held-out nodes exceeds 0.99 with a probability of at most 0.01.

    Args:
        mean: Mean of the reference states, (D,).
        whiten: Whitening matrix W, (D, D).
        held_out: Distances of held-out nodes, ascending, (n,).
    """

    mean: Tensor
    whiten: Tensor
    held_out: Tensor

    @classmethod
    def of(cls, reference: Tensor, held_out: Tensor) -> StateCloud:
        """Fit a cloud.

        Args:
            reference: States of reference nodes, (R, D).
            held_out: States of held-out nodes, (n, D).
        """
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
        """Return the tensors that a checkpoint keeps; ``StateCloud(**tensors)`` restores them."""
        return {"mean": self.mean, "whiten": self.whiten, "held_out": self.held_out}

    def share_beyond(self, states: Tensor) -> float:
        """Return the share of states (Q, D) that are farther than 95% of the held-out nodes.

        It is 0.05 for nodes of the same kind.
        """
        return float((self.novelty(states) > FAR).double().mean())

    def distance(self, states: Tensor) -> Tensor:
        """Return the Mahalanobis distance of states: (Q, D) -> (Q,), float64."""
        distances: Tensor = ((states.double().cpu() - self.mean) @ self.whiten).norm(dim=1)
        return distances

    def novelty(self, states: Tensor) -> Tensor:
        """Return the novelty of states: (Q, D) -> (Q,), in [0, 1); NaN without held-out nodes.

        It is 1 - (1 + number of held-out nodes at least as far) / (n + 1). The tolerance makes a
        held-out node as far as itself, whatever the rounding of its distance.
        """
        n = len(self.held_out)
        distance = self.distance(states)
        if n == 0:
            return torch.full_like(distance, torch.nan)
        return torch.searchsorted(self.held_out, distance * (1 - TOLERANCE)) / (n + 1)


@torch.no_grad()
def corpus_cloud(model: GraphFM, corpus: Corpus) -> StateCloud:
    """Fit the cloud of a corpus: at most 2048 training nodes and as many validation nodes.

    Every graph gives equally many nodes.
    """
    model.eval()
    each = max(1, MAX_NODES // 2 // max(1, len(corpus.bank)))
    states: dict[bool, list[Tensor]] = {True: [], False: []}
    for training, found in states.items():
        for group in corpus.val_groups():
            batch = corpus.val_batch(group, each, training=training)
            found.append(model.embed(batch).cpu())
    # A graph with features that are not finite has such states: its steps were skipped too.
    finite = {k: (z := torch.cat(v))[z.isfinite().all(dim=1)] for k, v in states.items()}
    return StateCloud.of(finite[True], finite[False])
