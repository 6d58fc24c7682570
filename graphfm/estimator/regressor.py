"""GraphFMRegressor: a continuous target, in scikit-learn's manners.

Shapes:
    N  nodes   Q  nodes asked for
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import RegressorMixin
from torch import Tensor

from graphfm.checkpoint.folder import Checkpoint
from graphfm.errors import DataError
from graphfm.estimator.base import GraphEstimator
from graphfm.estimator.masks import mask_of
from graphfm.estimator.saved import fill, open_folder, save_fitted
from graphfm.fitting.conformal import check_coverage
from graphfm.fitting.intervals import Values, answer_values
from graphfm.graphs.graph import Graph
from graphfm.graphs.labels import as_numbers, labels
from graphfm.metrics import r2


class GraphFMRegressor(RegressorMixin, GraphEstimator):
    """Fit a pretrained trunk to one graph and predict a number for each of its nodes.

    Args:
        checkpoint: Run or checkpoint folder, ``owner/name`` on the hub, ``graphfm-small``,
            ``random``, or a ``GraphFM``. None = the weights that come with the package; where the
            installation has none, random ones, said aloud.
        tune: How deep to fit, as in :class:`GraphFMClassifier`.
        max_steps: Gradient steps at most; the best on validation nodes is kept.
        max_time: Seconds of the fit at most; None = as long as it takes.
        ensemble: Fits whose mean answers.
        seed: Of everything random.
        device: ``auto``, ``cpu``, ``cuda``.
        verbose: Show progress.

    Attributes:
        val_score_: Share of the training targets' variance that is explained on validation nodes;
            None without any.
        calibration_: What was learned from the validation nodes: absolute residuals, ascending.
        tune_: As in :class:`GraphFMClassifier`, like all that follow: ``tune_reason_``, ``tried_``,
            ``members_``, ``history_``, ``best_step_``, ``fit_seconds_``, ``corpus_novelty_``,
            ``not_judged_on_``, ``weights_``.

    Example:
        >>> from graphfm import GraphFMRegressor
        >>> model = GraphFMRegressor(tune="probe")
        >>> model.fit("edges.csv", nodes="nodes.csv", target="income")  # doctest: +SKIP
        >>> low, high = model.predict_interval(coverage=0.9)  # doctest: +SKIP
    """

    TASK = "regress"

    def predict(self, graph: Any = None, mask: Any = None, *, nodes: Any = None) -> np.ndarray:
        """Number of each node, in the unit of the target: (Q,) float64.

        Args:
            graph: A graph with the same feature columns, or a file with them; None = the one it was
                fitted on.
            mask: (N,) bool, nodes to predict; None = all.
            nodes: The node table that goes with an edge list.
        """
        return self.answer(graph, mask, nodes=nodes).values

    def predict_interval(
        self, graph: Any = None, mask: Any = None, *, nodes: Any = None, coverage: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of what each node's number may be, (Q,) each.

        An interval holds the true number with probability ``coverage`` at least, for nodes that are
        to the validation nodes as those are to each other; not for nodes that the model has learned
        from. Infinite where validation nodes were too few. All are equally wide.

        Args:
            graph: As in :meth:`predict`.
            mask: As in :meth:`predict`.
            nodes: As in :meth:`predict`.
            coverage: Between 0 and 1.

        Raises:
            DataError: GFM180 for a coverage that is none.
        """
        said = self.answer(graph, mask, nodes=nodes, coverage=coverage)
        assert said.low is not None and said.high is not None
        return said.low, said.high

    def answer(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        nodes: Any = None,
        coverage: float | None = None,
    ) -> Values:
        """Predictions, intervals and novelty of nodes in one pass.

        Args:
            graph: As in :meth:`predict`.
            mask: As in :meth:`predict`.
            nodes: As in :meth:`predict`.
            coverage: Of the intervals; None = none.
        """
        if coverage is not None:
            check_coverage(coverage)
        bank, places, how = self._ready(graph, mask, nodes)
        return answer_values(self.model_, bank, places, self.calibration_, coverage=coverage, **how)

    def score(
        self, graph: Any = None, y: Any = None, mask: Any = None, *, nodes: Any = None
    ) -> float:
        """R2, the share of the variance that is explained, on labelled nodes or rows of features.

        Args:
            graph: As in :meth:`predict`.
            y: Number of each row or node, in place of the graph's own.
            mask: (N,) bool; None = the graph's test nodes, or all labelled ones.
            nodes: As in :meth:`predict`.
        """
        known = self._labelled(self._graph(graph, nodes), y)
        chosen = known.labelled & mask_of(mask, known, known.test_mask)
        if known.y is None or not chosen.any():
            raise DataError("GFM133", "there is no labelled node to score on", where=known.name)
        return r2(known.y[chosen].numpy(), self.predict(known, chosen))

    def save(self, folder: str | Path) -> None:
        """Write the fitted model: a checkpoint folder that :meth:`load` reads.

        Raises:
            OutputError: GFM801 if it cannot be written.
        """
        self._check_fitted()
        save_fitted(self, Path(folder), {"classes": []})

    @classmethod
    def load(cls, folder: str | Path | Checkpoint) -> Self:
        """A fitted model from its folder; it predicts graphs that are passed to it.

        Raises:
            CheckpointError: GFM301 to GFM307.
        """
        checkpoint = open_folder(folder, kind=("regress",))
        estimator = cls(**checkpoint.config["estimator"]["params"])
        fill(estimator, checkpoint)
        return estimator

    def _labels_of_rows(self, y: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
        return torch.from_numpy(y.astype(np.float64)), ()

    def _labelled(self, graph: Graph, y: Any) -> Graph:
        if y is not None:
            numbers, _ = labels(np.asarray(y, dtype=np.float64), task="regress")
            return graph.replace(y=numbers, class_names=())
        return as_numbers(graph)
