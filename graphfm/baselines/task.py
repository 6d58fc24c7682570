"""One question to a peer: a graph, the labels it may read, and what is made of them only once.

Shapes:
    N  nodes   E  neighbors in CSR   F  feature columns   C  classes
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
from graphfm.baselines.sparse import Inputs, Matrix, Places
from graphfm.graphs.features.multihop import multihop
from graphfm.graphs.features.neighbor_mean import mean_matrix
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.graph import Graph
from graphfm.metrics import roc_auc

Settings = dict[str, Any]

METRICS = ("accuracy", "roc_auc")


class Race:
    """Which trials of a search are given up before their end.

    The median stopping rule: a trial whose best score so far is below the median of what earlier
    trials had after as many epochs ends there (Golovin et al. 2017, "Google Vizier").
    """

    def __init__(self) -> None:
        self._scores: dict[int, list[float]] = {}

    def is_lost(self, epochs: int, score: float) -> bool:
        """Note where a trial stands, and whether it is to end there; the first two never are.

        Args:
            epochs: Or rounds, that it has done.
            score: Its best so far on validation nodes.
        """
        earlier = self._scores.setdefault(epochs, [])
        lost = len(earlier) > 1 and score < float(np.median(earlier))
        earlier.append(score)
        return lost


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What every trial of a peer reads.

    Args:
        graph: The graph; its labels are read by :func:`known_labels` alone.
        labels: Those under the masks.
        metric: What settings and epochs are chosen by, one of :data:`METRICS`.
        memory: Answers that several trials share, by how they were made.
        race: Of the trials.
    """

    graph: Graph
    labels: KnownLabels
    metric: str = "accuracy"
    memory: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict)
    race: Race = field(default_factory=Race)

    @classmethod
    def of(
        cls,
        graph: Graph,
        train_mask: Tensor,
        val_mask: Tensor | None,
        *,
        metric: str = "accuracy",
    ) -> Task:
        """Read the labels under the masks; errors as :func:`known_labels`."""
        return cls(graph=graph, labels=known_labels(graph, train_mask, val_mask), metric=metric)

    @cached_property
    def own_features(self) -> Features | None:
        """Features on one scale, (N, F); None without any."""
        return scaled_features(self.graph)

    @cached_property
    def features(self) -> Features:
        """As :attr:`own_features`; log-degree and a constant, (N, 2), where there are none."""
        x = self.own_features
        return structural_features(self.graph) if x is None else x

    @cached_property
    def prepared(self) -> np.ndarray:
        """Transformed features as a model of ours reads them, at most 256 columns, (N, F')."""
        x: np.ndarray = prepare(self.graph).x.numpy()
        return x if x.shape[1] else structural_features(self.graph)

    @cached_property
    def hops(self) -> np.ndarray:
        """Transformed features, their means over one and two hops, and positions, (N, P)."""
        columns: np.ndarray = multihop(prepare(self.graph)).numpy()
        return columns

    @cached_property
    def inputs(self) -> Inputs:
        """:attr:`features` for a first layer."""
        return Inputs(self.features)

    @cached_property
    def convolution(self) -> Matrix:
        """``D^-1/2 (A + I) D^-1/2``, (N, N)."""
        return Matrix.of(normalised_adjacency(self.graph, self_loops=True))

    @cached_property
    def averaging(self) -> Matrix:
        """``D^-1 A``, (N, N): the mean of the neighbors."""
        return Matrix.of(mean_matrix(*self.graph.neighbors))

    @cached_property
    def attention(self) -> Places:
        """The places of ``A + I``."""
        return Places(normalised_adjacency(self.graph, self_loops=True))

    @cached_property
    def diffusion(self) -> sparse.csr_array:
        """``D^-1/2 A D^-1/2``, (N, N) float32."""
        return normalised_adjacency(self.graph, self_loops=False)

    def val_score(self, proba: np.ndarray) -> tuple[float, float]:
        """The metric on the validation nodes, then minus their log loss; NaN without any.

        Args:
            proba: Probabilities of every node, (N, C).
        """
        return self.score_of_val(proba[self.labels.val])

    def score_of_val(self, proba: np.ndarray) -> tuple[float, float]:
        """As :meth:`val_score`, from the validation nodes' rows alone, (V, C)."""
        if not len(self.labels.val):
            return float("nan"), float("nan")
        metric, likelihood = self.labels.score(proba)
        if self.metric == "roc_auc":
            # Without both classes there is no area: the likelihood alone decides.
            area = roc_auc(self.labels.y_val, proba)
            metric = 0.5 if area is None else area
        return metric, likelihood


class Fit(Protocol):
    """One fit of a peer."""

    def __call__(self, task: Task, settings: Settings, *, seed: int, deadline: float) -> np.ndarray:
        """Class probabilities of every node, (N, C)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A way to answer, and what may be chosen about it.

    Args:
        fit: Does it.
        defaults: Settings that do well without a search.
        space: Values to draw each setting from; empty where there is nothing to search.
    """

    fit: Fit
    defaults: Settings
    space: Mapping[str, tuple[Any, ...]]
