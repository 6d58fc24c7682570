"""Input of a peer method: a graph, the labels it may read, and derived data that trials share.

Shapes:
    N  nodes   F  feature columns   P  multi-hop columns   V  validation nodes   C  classes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from scipy import sparse
from torch import Tensor

from graphfm.baselines.inputs import (
    COLUMNS_ONLY,
    EMBEDDINGS,
    LEARNED,
    WITH_FEATURES,
    Features,
    KnownLabels,
    degree_features,
    known_labels,
    normalised_adjacency,
    scaled_features,
    standardised,
)
from graphfm.baselines.sparse import AttentionEdges, Inputs, Matrix
from graphfm.graphs.features.multihop import multihop
from graphfm.graphs.features.neighbor_mean import mean_matrix
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from graphfm.graphs.graph import Graph
from graphfm.metrics import roc_auc

Settings = dict[str, Any]

METRICS = ("accuracy", "roc_auc")
InputKind = Literal["learned", "columns"]
INPUTS: Mapping[InputKind | None, tuple[str, ...]] = {
    "learned": LEARNED,
    "columns": COLUMNS_ONLY,
    None: (),
}
"""Inputs on a graph without features, the default first."""
EMBEDDING_DIM = 64


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
    _columns: dict[tuple[str, bool], Features] = field(default_factory=dict)
    _inputs: dict[str, Inputs] = field(default_factory=dict)

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
    def prepared(self) -> PreparedGraph:
        """The graph as our model reads it: transformed features and positional encoding."""
        return prepare(self.graph)

    @cached_property
    def hops(self) -> np.ndarray:
        """Transformed features, their means over one and two hops, positional encodings, (N, P)."""
        columns: np.ndarray = multihop(self.prepared).numpy()
        return columns

    def input_choices(self, kind: InputKind) -> tuple[str, ...]:
        """Inputs that a search may choose among, the default first.

        Args:
            kind: ``learned`` for a network that may learn node embeddings, else ``columns``.
        """
        if self.own_features is not None:
            return WITH_FEATURES
        return INPUTS[kind]

    def columns(self, names: str, *, transformed: bool = False) -> Features:
        """Input columns, (N, F).

        Args:
            names: ``features``, ``degree`` and ``positions``, joined by ``+``; ``embeddings`` has
                no columns.
            transformed: If true, features are those that our model reads, at most 256 columns.
        """
        key = (names, transformed)
        if key not in self._columns:
            blocks: list[Features] = []
            for name in names.split("+"):
                if name == "degree":
                    blocks.append(degree_features(self.graph))
                elif name == "positions":
                    blocks.append(standardised(self.prepared.pe.numpy()))
                elif name == "features":
                    scaled = self.prepared.x.numpy() if transformed else self.own_features
                    assert scaled is not None
                    blocks.append(scaled)
            self._columns[key] = _side_by_side(blocks, self.graph.num_nodes)
        return self._columns[key]

    def inputs(self, names: str) -> Inputs:
        """Input of a network's first layer; ``names`` as in :meth:`columns`."""
        if names not in self._inputs:
            learned = EMBEDDINGS in names.split("+")
            self._inputs[names] = Inputs(
                self.columns(names), embedding_dim=EMBEDDING_DIM if learned else 0
            )
        return self._inputs[names]

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
        inputs: ``learned`` or ``columns`` if the method has the setting ``inputs``, whose values
            are :meth:`Task.input_choices`. Default: it reads fixed columns, or none.
    """

    fit: Fit
    defaults: Settings
    space: Mapping[str, tuple[Any, ...]]
    inputs: InputKind | None = None

    def defaults_for(self, task: Task) -> Settings:
        """Return the default settings on a graph, its inputs included."""
        if self.inputs is None:
            return self.defaults
        return {**self.defaults, "inputs": task.input_choices(self.inputs)[0]}

    def space_for(self, task: Task) -> Mapping[str, tuple[Any, ...]]:
        """Return the search space on a graph, its inputs included."""
        if self.inputs is None or not self.space:
            return self.space
        return {**self.space, "inputs": task.input_choices(self.inputs)}


def _side_by_side(blocks: Sequence[Features], num_nodes: int) -> Features:
    """Join blocks of columns, (N, F); the result is sparse if one of them is."""
    if not blocks:
        return np.zeros((num_nodes, 0), dtype=np.float32)
    if len(blocks) == 1:
        return blocks[0]
    if all(isinstance(block, np.ndarray) for block in blocks):
        return np.concatenate(blocks, axis=1)
    return sparse.csr_array(sparse.hstack(blocks, format="csr", dtype=np.float32))
