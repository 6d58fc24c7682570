"""Input of a peer method: a graph, the labels it may read, and derived data that trials share.

Shapes:
    N  nodes   F  feature columns   P  multi-hop columns   V  validation nodes   C  classes
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy import sparse
from torch import Tensor

from graphfm.baselines.inputs import (
    Features,
    KnownLabels,
    known_labels,
    normalised_adjacency,
    scaled_features,
    structural_features,
)
from graphfm.baselines.sparse import AttentionEdges, Inputs, Matrix
from graphfm.graphs.features.multihop import multihop
from graphfm.graphs.features.neighbor_mean import mean_matrix
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.graph import Graph
from graphfm.metrics import roc_auc

Settings = dict[str, Any]

METRICS = ("accuracy", "roc_auc")


class MedianStopping:
    """Median stopping rule of a search (Golovin et al. 2017, "Google Vizier").

    A trial stops if its best score so far is below the median of earlier trials after the same
    number of epochs.
    """

    def __init__(self) -> None:
        self._scores: dict[int, list[float]] = {}

    def should_stop(self, epochs: int, score: float) -> bool:
        """Record the score of a trial and return true if it should stop.

        The first two trials never stop.

        Args:
            epochs: Number of epochs, or rounds, that the trial has finished.
            score: Best score of the trial so far on validation nodes.
        """
        earlier = self._scores.setdefault(epochs, [])
        stop = len(earlier) > 1 and score < float(np.median(earlier))
        earlier.append(score)
        return stop


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """Graph, labels and metric of a peer method, with derived data that all trials share.

    Args:
        graph: The graph; only :func:`known_labels` reads its labels.
        labels: Labels of training and validation nodes.
        metric: Metric that chooses settings and epochs, one of :data:`METRICS`.
        cache: Predictions that several trials share, by their settings.
        stopping: Stopping rule of the search.
    """

    graph: Graph
    labels: KnownLabels
    metric: str = "accuracy"
    cache: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict)
    stopping: MedianStopping = field(default_factory=MedianStopping)

    @classmethod
    def of(
        cls,
        graph: Graph,
        train_mask: Tensor,
        val_mask: Tensor | None,
        *,
        metric: str = "accuracy",
    ) -> Task:
        """Read the labels under the masks.

        Raises:
            DataError: See :func:`known_labels`.
        """
        return cls(graph=graph, labels=known_labels(graph, train_mask, val_mask), metric=metric)

    @cached_property
    def own_features(self) -> Features | None:
        """Scaled features, (N, F); None for a graph without features."""
        return scaled_features(self.graph)

    @cached_property
    def features(self) -> Features:
        """Scaled features, (N, F); log-degree and a constant, (N, 2), without any."""
        x = self.own_features
        return structural_features(self.graph) if x is None else x

    @cached_property
    def prepared(self) -> np.ndarray:
        """Transformed features, as graphfm's models read them, (N, F') with F' at most 256."""
        x: np.ndarray = prepare(self.graph).x.numpy()
        return x if x.shape[1] else structural_features(self.graph)

    @cached_property
    def hops(self) -> np.ndarray:
        """Transformed features, their means over one and two hops, positional encodings, (N, P)."""
        columns: np.ndarray = multihop(prepare(self.graph)).numpy()
        return columns

    @cached_property
    def inputs(self) -> Inputs:
        """Features for a first layer."""
        return Inputs(self.features)

    @cached_property
    def convolution(self) -> Matrix:
        """Normalised adjacency with self-loops, ``D^-1/2 (A + I) D^-1/2``, (N, N)."""
        return Matrix.of(normalised_adjacency(self.graph, self_loops=True))

    @cached_property
    def averaging(self) -> Matrix:
        """Mean over neighbors, ``D^-1 A``, (N, N)."""
        return Matrix.of(mean_matrix(*self.graph.neighbors))

    @cached_property
    def attention(self) -> AttentionEdges:
        """Edges with self-loops."""
        return AttentionEdges(normalised_adjacency(self.graph, self_loops=True))

    @cached_property
    def diffusion(self) -> sparse.csr_array:
        """Normalised adjacency without self-loops, ``D^-1/2 A D^-1/2``, (N, N) float32."""
        return normalised_adjacency(self.graph, self_loops=False)

    def val_score(self, proba: np.ndarray) -> tuple[float, float]:
        """Score probabilities on the validation nodes: the metric, and minus the log loss.

        Accuracy alone often ties on a graph with 40 validation nodes; the log loss decides then.

        Args:
            proba: Probabilities of all nodes, (N, C).

        Returns:
            Both values, higher is better; NaN without validation nodes.
        """
        return self.score_val_rows(proba[self.labels.val])

    def score_val_rows(self, proba: np.ndarray) -> tuple[float, float]:
        """Score probabilities of the validation nodes alone, (V, C), as :meth:`val_score`."""
        if not len(self.labels.val):
            return float("nan"), float("nan")
        metric, log_likelihood = self.labels.score(proba)
        if self.metric == "roc_auc":
            # ROC-AUC is undefined without both classes: the log loss alone decides.
            area = roc_auc(self.labels.y_val, proba)
            metric = 0.5 if area is None else area
        return metric, log_likelihood


class Fit(Protocol):
    """Function that fits a peer method once."""

    def __call__(self, task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
        """Return class probabilities of all nodes, (N, C)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Peer method with its settings.

    Args:
        fit: Function that fits the method.
        defaults: Default settings.
        space: Values of each setting for a random search; empty if there is nothing to search.
    """

    fit: Fit
    defaults: Settings
    space: Mapping[str, tuple[Any, ...]]
