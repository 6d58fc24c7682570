"""Estimator for a continuous target, with the interface of scikit-learn.

Shapes:
    N  nodes   Q  nodes asked for
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import torch
from sklearn.base import RegressorMixin
from torch import Tensor

from graphfm.checkpoint.checks import malformed
from graphfm.checkpoint.folder import Checkpoint
from graphfm.estimator.base import GraphEstimator
from graphfm.estimator.given import GraphKeywords
from graphfm.estimator.masks import nodes_to_score
from graphfm.estimator.saved import fill, open_folder, save_fitted, saved_params
from graphfm.estimator.tables import value_table
from graphfm.fitting.conformal import check_coverage
from graphfm.fitting.intervals import Values, answer_values
from graphfm.graphs.graph import Graph
from graphfm.graphs.labels import as_numbers
from graphfm.graphs.readers.given_labels import with_labels
from graphfm.metrics import r2

if TYPE_CHECKING:
    import pyarrow as pa

    from graphfm.benchmark.number_scores import NumberScores
    from graphfm.benchmark.verdict import Comparison


class GraphFMRegressor(RegressorMixin, GraphEstimator):
    """Fit a pretrained trunk to one graph and predict a number for each of its nodes.

    Args:
        checkpoint: Run or checkpoint folder, ``owner/name`` on the Hugging Face Hub,
            ``graphfm-small``, ``random``, or a ``GraphFM``. Default: the weights that come with the
            package; an installation without them uses random weights and logs a warning.
        tune: Depth of the fit, as in :class:`GraphFMClassifier`. Default: ``auto``.
        max_steps: Largest number of gradient steps; the best on validation nodes is kept.
            Default: 20.
        max_time: Time limit for the fit, in seconds. Default: none.
        ensemble: Number of ensemble members, whose mean is predicted. Default: 1.
        random_state: Seed of everything random, a whole number. Default: 0.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Default: ``auto``.
        verbose: If true, print how a file was read, and show progress bars.
        refit: If true, fit again on every label, also of validation and test nodes, after the depth
            was chosen and the probabilities calibrated. Default: false.

    Attributes:
        val_score_: Share of the training targets' variance that is explained on validation nodes;
            None without validation nodes.
        calibration_: Absolute residuals of validation nodes, ascending, and novelty.
        tune_: Depth of the fit. This and the following are described in
            :class:`GraphFMClassifier`: ``tune_reason_``, ``tried_``, ``members_``, ``cut_short_``,
            ``history_``, ``best_step_``, ``fit_seconds_``, ``far_states_``, ``corpus_novelty_``,
            ``not_judged_on_``, ``weights_``, ``summary_``.

    Example:
        >>> from graphfm import GraphFMRegressor
        >>> model = GraphFMRegressor(tune="probe")
        >>> model.fit("edges.csv", nodes="nodes.csv", target="income")  # doctest: +SKIP
        >>> low, high = model.predict_interval(coverage=0.9)  # doctest: +SKIP
    """

    TASK = "regress"

    def predict(
        self,
        graph: Any = None,
        mask: Any = None,
        **given: Unpack[GraphKeywords],
    ) -> np.ndarray:
        """Predict the number of each node, in the unit of the target: (Q,) float64.

        Args:
            graph: A graph with the feature columns of the fit, or a file with them. Default: the
                graph of the fit.
            mask: Nodes to predict, (N,) bool. Default: all.
            **given: Node table or arrays, see :class:`GraphKeywords`.
        """
        return self.answer(graph, mask, **given).values

    def predict_table(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        coverage: float | None = None,
        **given: Unpack[GraphKeywords],
    ) -> pa.Table:
        """Predict as an Arrow table: one row per node, with its id and its part in the fit.

        The columns are ``id``, ``prediction``, ``novelty`` and ``split``: train, val, test or
        unlabelled. ``.to_pandas()`` makes a pandas table.

        Args:
            graph: Graph or file, see :meth:`predict`. Default: the graph of the fit.
            mask: Nodes to predict, (N,) bool. Default: all.
            coverage: Coverage of the intervals, which adds the columns ``low`` and ``high``.
                Default: no intervals.
            **given: Node table or arrays, see :class:`GraphKeywords`.
        """
        known = self._graph(graph, **given)
        return self.table_of(known, self.answer(known, mask, coverage=coverage), mask)

    def table_of(self, graph: Graph, found: Values, mask: Any = None) -> pa.Table:
        """Return predictions that :meth:`answer` made as the table of :meth:`predict_table`."""
        ids, parts = self._rows_of_table(graph, mask)
        return value_table(ids, found, parts=parts)

    def predict_interval(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        coverage: float = 0.9,
        **given: Unpack[GraphKeywords],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict the lower and the upper end of an interval for each node, (Q,) each.

        An interval contains the true number with probability ``coverage`` or more, for nodes that
        are exchangeable with the validation nodes; not for training nodes. All intervals have the
        same width. It is infinite if there were too few validation nodes.

        Args:
            graph: Graph or file, see :meth:`predict`. Default: the graph of the fit.
            mask: Nodes to predict, (N,) bool. Default: all.
            **given: Node table or arrays, see :class:`GraphKeywords`.
            coverage: Share of intervals that contain the true number, between 0 and 1.
                Default: 0.9.

        Raises:
            DataError: GFM180 if the coverage is out of range.
        """
        found = self.answer(graph, mask, **given, coverage=coverage)
        assert found.low is not None and found.high is not None
        return found.low, found.high

    def answer(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        coverage: float | None = None,
        **given: Unpack[GraphKeywords],
    ) -> Values:
        """Predict numbers, intervals and novelty of nodes in one pass.

        Args:
            graph: Graph or file, see :meth:`predict`. Default: the graph of the fit.
            mask: Nodes to predict, (N,) bool. Default: all.
            **given: Node table or arrays, see :class:`GraphKeywords`.
            coverage: Coverage of the intervals. Default: no intervals.
        """
        if coverage is not None:
            check_coverage(coverage)
        bank, places, back, sampling = self._ready(graph, mask, **given)
        found = answer_values(
            self.model_, bank, places, self.calibration_, coverage=coverage, **sampling
        )
        return found.take(back.numpy())

    def score(
        self,
        graph: Any = None,
        y: Any = None,
        mask: Any = None,
        **given: Unpack[GraphKeywords],
    ) -> float:
        """Compute R2, the share of the variance that is explained, on labelled nodes or rows.

        Args:
            graph: Graph or file, see :meth:`predict`. Default: the graph of the fit.
            y: Number of each row or node, instead of the graph's own.
            mask: Nodes to score, (N,) bool. Default: the test nodes of the fit; in another graph
                its own test nodes, or all labelled nodes.
            **given: Node table or arrays, see :class:`GraphKeywords`.

        Raises:
            DataError: GFM133 if there is no such node.
        """
        known = self._labelled(self._graph(graph, **given), y)
        chosen = nodes_to_score(known, mask, self.parts_of(known))
        assert known.y is not None
        return r2(known.y[chosen].numpy(), self.predict(known, chosen))

    def compare(
        self,
        graph: Any = None,
        *,
        predictions: Values | None = None,
        **given: Unpack[GraphKeywords],
    ) -> Comparison[NumberScores]:
        """Score the model and simple baselines on the same test nodes.

        The baselines are the mean and a ridge regression on the features.

        Args:
            graph: Graph with labels, as in :meth:`predict`. Its own split is used; if masks were
                passed to :meth:`fit`, its test nodes are all other labelled nodes.
            **given: Node table or arrays, see :class:`GraphKeywords`.
            predictions: Result of :meth:`answer` for all nodes. Default: computed.

        Returns:
            Scores by method, ``graphfm`` first. Its attribute ``verdict`` compares the model with
            the best other method, paired over test nodes, with a 95% interval.

        Raises:
            DataError: GFM133 without training or test nodes.
        """
        from graphfm.estimator.evaluation import compare_with_baselines

        known = self._graph(graph, **given)
        return compare_with_baselines(self, known, predictions=predictions)

    def save(self, folder: str | Path) -> None:
        """Write the fitted model to a folder, as :meth:`GraphFMClassifier.save`."""
        self._check_fitted()
        save_fitted(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path | Checkpoint) -> Self:
        """Load a fitted model from its folder. It predicts graphs that are passed to it.

        Raises:
            CheckpointError: GFM301 to GFM307 if the folder holds no such model.
        """
        checkpoint = open_folder(folder, kind=("regress",))
        with malformed(checkpoint.path / "config.json", "estimator"):
            estimator = cls(**saved_params(checkpoint.config["estimator"]))
        fill(estimator, checkpoint)
        return estimator

    def own_config(self) -> dict[str, Any]:
        """Return an empty list of classes, which readers of ``config.json`` expect."""
        return {"classes": []}

    def _labels_of_rows(self, y: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
        return torch.from_numpy(y.astype(np.float64)), ()

    def _labelled(self, graph: Graph, y: Any) -> Graph:
        if y is not None:
            return with_labels(graph, y, task="regress")
        return as_numbers(graph)
