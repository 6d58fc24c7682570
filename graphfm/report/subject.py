"""The subject of a report: a fitted model and the graph to predict.

Shapes:
    N  nodes   Q  predicted nodes   D  width of the states
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from torch import Tensor

from graphfm.fitting.answers import Answers
from graphfm.graphs.graph import Graph


class FittedModel(Protocol):
    """A fitted classifier, such as ``GraphFMClassifier``."""

    def answer(self, graph: Graph, mask: Tensor, *, coverage: float | None = None) -> Answers:
        """Predict the nodes under a mask (N,), in ascending order, with sets at a coverage."""
        ...

    def embed(self, graph: Graph, mask: Tensor) -> np.ndarray:
        """Compute the states of the nodes under a mask, (Q, D)."""
        ...


@dataclass(frozen=True, kw_only=True)
class ModelOnGraph:
    """A fitted model and the graph to predict.

    Args:
        model: The fitted model.
        graph: The graph of the fit, or one with the same feature columns.
        log_lines: Messages that the reader of the graph logged. Default: none.
    """

    model: FittedModel
    graph: Graph
    log_lines: Sequence[str] = field(default_factory=list)
