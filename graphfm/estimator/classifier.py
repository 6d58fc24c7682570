"""Estimator for node classification, with the interface of scikit-learn.

Shapes:
    N  nodes   Q  nodes asked for   C  classes
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from graphfm.checkpoint.checks import malformed
from graphfm.checkpoint.folder import Checkpoint
from graphfm.errors import DataError
from graphfm.estimator.base import GraphEstimator
from graphfm.estimator.given import GraphKeywords
from graphfm.estimator.masks import mask_of, nodes_to_score
from graphfm.estimator.saved import fill, open_folder, save_fitted, saved_params
from graphfm.estimator.tables import class_table
from graphfm.fitting.answers import Answers, answer
from graphfm.fitting.conformal import check_coverage
from graphfm.fitting.probe import TARGET
from graphfm.graphs.classes import class_values
from graphfm.graphs.graph import Graph
from graphfm.graphs.order import inverse
from graphfm.graphs.readers.given_labels import with_labels
from graphfm.graphs.readers.options import Reading
from graphfm.metrics import accuracy

if TYPE_CHECKING:
    import pyarrow as pa

    from graphfm.benchmark.scores import Scores
    from graphfm.benchmark.verdict import Comparison
    from graphfm.report.importance import Importances


class GraphFMClassifier(ClassifierMixin, GraphEstimator):
    """Fit a pretrained trunk to one graph and predict the class of its nodes.

    Args:
        checkpoint: Run or checkpoint folder, ``owner/name`` on the Hugging Face Hub,
            ``graphfm-small``, ``random``, or a ``GraphFM``. Default: the weights that come with the
            package; an installation without them uses random weights and logs a warning.
        tune: Depth of the fit: ``probe``, ``adapter``, ``decoder``, ``full``, or ``auto``, which
            tries the probe and then deeper fits; validation nodes choose. Default: ``auto``.
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
        classes_: Classes in the type of the labels, (C,); for multi-label the names of the labels.
        split_: Ids of the training, validation and test nodes; empty for rows of features.
        tune_: Depth of the fit. ``tune_reason_`` gives the reason.
        tried_: Depths that were tried: validation score, steps, seconds.
        members_: Number of ensemble members.
        cut_short_: Depths, steps and members that ``max_time`` left out, one sentence each.
        history_: Loss of each step, and loss and score of each evaluation.
        best_step_: Step whose weights were kept; 0 = the closed-form probe.
        val_score_: Validation accuracy of that step; None without validation nodes.
        fit_seconds_: Duration of the fit, in seconds.
        temperature_: Divisor of the logits, fitted on half of the validation nodes.
        calibration_: Temperature, conformal scores and novelty, learned from validation nodes.
        far_states_: Share of nodes whose pretrained state lies farther from the corpus than 95% of
            the corpus' own held-out nodes; 0.05 = like the corpus, None if the checkpoint does not
            say.
        corpus_novelty_: Position of the graph among the graphs of the pretraining corpus, by size,
            degree, features and classes; empty if the corpus is unknown.
        not_judged_on_: Ids of the graphs that the weights must not be evaluated on: those they were
            trained on, and graphs of the same groups.
        weights_: Name of the pretrained weights; ``random`` for none, ``given`` for a ``GraphFM``
            without a name.
        summary_: All of these that are plain data, as one record.

    Example:
        >>> import networkx as nx
        >>> from graphfm import GraphFMClassifier
        >>> graph = nx.karate_club_graph()
        >>> model = GraphFMClassifier(tune="probe").fit(graph, target="club")  # doctest: +SKIP
        >>> model.predict()  # doctest: +SKIP
    """

    TASK = "classify"

    classes_: np.ndarray

    @property
    def temperature_(self) -> float:
        """Divisor of the logits."""
        return self.calibration_.temperature

    def predict(
        self, graph: Any = None, mask: Any = None, **given: Unpack[GraphKeywords]
    ) -> np.ndarray:
        """Predict the class of each node, in the type of the labels: (Q,).

        With several labels per node, predict 0 or 1 for each label: (Q, C).

        Args:
            graph: A graph with the feature columns of the fit, or a file with them. Default: the
                graph of the fit.
            mask: Nodes to predict, (N,) bool. Default: all.
            **given: Node table or arrays, see :class:`GraphKeywords`.
        """
        probabilities = self.predict_proba(graph, mask, **given)
        if self.model_.specs[TARGET].task.kind == "multilabel":
            return (probabilities > 0.5).astype(np.int8)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(
        self, graph: Any = None, mask: Any = None, **given: Unpack[GraphKeywords]
    ) -> np.ndarray:
        """Predict calibrated probabilities of the classes, (Q, C); arguments as in `predict`."""
        return self.answer(graph, mask, **given).proba

    def predict_table(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        proba: bool = True,
        coverage: float | None = None,
        **given: Unpack[GraphKeywords],
    ) -> pa.Table:
        """Predict as an Arrow table: one row per node, with its id and its part in the fit.

        The columns are ``id``, ``label``, ``probability``, a column ``p_CLASS`` per class, and
        ``split``: train, val, test or unlabelled. ``.to_pandas()`` makes a pandas table.

        Args:
            graph: Graph or file, see :meth:`predict`. Default: the graph of the fit.
            mask: Nodes to predict, (N,) bool. Default: all.
            proba: If false, leave out the columns ``p_CLASS``.
            coverage: Coverage of the prediction sets, which adds the columns ``set``, ``abstain``
                and ``novelty``. Default: no sets.
            **given: Node table or arrays, see :class:`GraphKeywords`.
        """
        known = self._graph(graph, **given)
        found = self.answer(known, mask, coverage=coverage)
        return self.table_of(known, found, mask, proba=proba)

    def table_of(
        self, graph: Graph, found: Answers, mask: Any = None, *, proba: bool = True
    ) -> pa.Table:
        """Return predictions that :meth:`answer` made as the table of :meth:`predict_table`."""
        several = self.model_.specs[TARGET].task.kind == "multilabel"
        ids, parts = self._rows_of_table(graph, mask)
        return class_table(ids, found, self.classes_, several=several, proba=proba, parts=parts)

    def predict_set(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        coverage: float = 0.9,
        **given: Unpack[GraphKeywords],
    ) -> np.ndarray:
        """Predict a set of classes for each node: (Q, C) bool, columns as in ``classes_``.

        A set contains the true class with probability ``coverage`` or more, for nodes that are
        exchangeable with the validation nodes; not for training nodes. A set is never empty. For
        multi-label it contains all labels of its node, and may be empty.

        Args:
            graph: Graph or file, see :meth:`predict`. Default: the graph of the fit.
            mask: Nodes to predict, (N,) bool. Default: all.
            **given: Node table or arrays, see :class:`GraphKeywords`.
            coverage: Share of sets that contain the true class, between 0 and 1. Default: 0.9.

        Raises:
            DataError: GFM180 if the coverage is out of range.
        """
        sets = self.answer(graph, mask, **given, coverage=coverage).sets
        assert sets is not None
        return sets

    def answer(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        coverage: float | None = None,
        **given: Unpack[GraphKeywords],
    ) -> Answers:
        """Predict probabilities, prediction sets and novelty of nodes in one pass.

        Args:
            graph: Graph or file, see :meth:`predict`. Default: the graph of the fit.
            mask: Nodes to predict, (N,) bool. Default: all.
            **given: Node table or arrays, see :class:`GraphKeywords`.
            coverage: Coverage of the prediction sets. Default: no sets.
        """
        if coverage is not None:
            check_coverage(coverage)
        bank, places, back, sampling = self._ready(graph, mask, **given)
        found = answer(self.model_, bank, places, self.calibration_, coverage=coverage, **sampling)
        classes = np.arange(found.proba.shape[1])
        if self.order_ is not None:
            classes = inverse(self.order_.classes).numpy()
        return found.take(back.numpy(), classes)

    def score(
        self,
        graph: Any = None,
        y: Any = None,
        mask: Any = None,
        **given: Unpack[GraphKeywords],
    ) -> float:
        """Compute the accuracy on the labelled nodes of a graph, or on rows of features.

        Args:
            graph: Graph or file, see :meth:`predict`. Default: the graph of the fit.
            y: Label of each row or node, instead of the graph's own.
            mask: Nodes to score, (N,) bool. Default: the test nodes of the fit; in another graph
                its own test nodes, or all labelled nodes.
            **given: Node table or arrays, see :class:`GraphKeywords`.

        Raises:
            DataError: GFM133 if there is no such node.
        """
        known = self._graph(graph, **given)
        if y is not None and self._of_rows:
            found = self.predict_proba(known, mask)
            truth = np.asarray(y)[mask_of(mask, known, None).numpy()]
            return float((self.classes_[found.argmax(axis=1)] == truth).mean())
        known = self._labelled(known, y) if y is not None else known
        chosen = nodes_to_score(known, mask, self.parts_of(known))
        assert known.y is not None
        found = known.y[chosen].numpy()
        if known.y.ndim == 1:  # the graph may number its classes differently
            place = {str(name): i for i, name in enumerate(self.classes_.tolist())}
            found = np.array([place.get(name, len(place)) for name in known.class_names])[found]
        return accuracy(found, self.predict_proba(known, chosen))

    def compare(
        self,
        graph: Any = None,
        *,
        predictions: Answers | None = None,
        max_gcn_seconds: float | None = None,
        **given: Unpack[GraphKeywords],
    ) -> Comparison[Scores]:
        """Score the model and simple baselines on the same test nodes.

        The baselines are the majority class, logistic regression on the features, label
        propagation and a GCN.

        Args:
            graph: Graph with labels, as in :meth:`predict`. Its own split is used; if masks were
                passed to :meth:`fit`, its test nodes are all other labelled nodes.
            **given: Node table or arrays, see :class:`GraphKeywords`.
            predictions: Result of :meth:`answer` for all nodes. Default: computed.
            max_gcn_seconds: Time that the GCN may take, in seconds. Default: 30.

        Returns:
            Scores by method, ``graphfm`` first. Its attribute ``verdict`` compares the model with
            the best other method, paired over test nodes, with a 95% interval.

        Raises:
            DataError: GFM133 without training or test nodes.
        """
        from graphfm.estimator.evaluation import compare_with_baselines

        known = self._graph(graph, **given)
        return compare_with_baselines(
            self, known, predictions=predictions, max_gcn_seconds=max_gcn_seconds
        )

    def importances(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        max_seconds: float = 20.0,
        **given: Unpack[GraphKeywords],
    ) -> Importances:
        """Compute permutation importances: the accuracy lost when a column is shuffled.

        Args:
            graph: A graph with labels, as in :meth:`predict`.
            mask: Nodes to evaluate on, (N,) bool. Default: the validation nodes, else the test
                nodes, else all labelled nodes.
            **given: Node table or arrays, see :class:`GraphKeywords`.
            max_seconds: Time limit in seconds; columns that matter more come first. Default: 20.

        Raises:
            DataError: GFM133 without a labelled node or without feature columns.
        """
        from graphfm.estimator.evaluation import importances_of

        return importances_of(self, self._graph(graph, **given), mask, max_seconds=max_seconds)

    def report(
        self,
        path: str | Path,
        graph: Any = None,
        *,
        tsne: bool = False,
        max_seconds: float = 20.0,
        **given: Unpack[GraphKeywords],
    ) -> None:
        """Write a report about the fitted model: one HTML file that loads nothing else.

        It compares the model with baselines (:meth:`compare`) if the graph has test nodes.

        Args:
            path: File to write, .html; replaced if it exists.
            graph: A graph with labels, as in :meth:`predict`.
            **given: Node table or arrays, see :class:`GraphKeywords`.
            tsne: If true, draw the map of nodes by t-SNE instead of principal components.
            max_seconds: Time for the importances, in seconds; 0 leaves them out. Default: 20.

        Raises:
            OutputError: GFM402 unless the name ends in .html or .htm.
        """
        from graphfm.estimator.evaluation import write_report_of

        known = self._graph(graph, **given)
        write_report_of(self, Path(path), known, tsne=tsne, max_seconds=max_seconds)

    def save(self, folder: str | Path) -> None:
        """Write the fitted model to a folder that :meth:`load` reads; the graph is not saved.

        Args:
            folder: Folder to write. A model that it holds is replaced; other files stay.

        Raises:
            OutputError: GFM801 if the folder cannot be written, GFM402 if it holds files that are
                not a model.
        """
        self._check_fitted()
        save_fitted(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path | Checkpoint) -> Self:
        """Load a fitted model from its folder. It predicts graphs that are passed to it.

        Raises:
            CheckpointError: GFM301 to GFM307 if the folder holds no such model.
        """
        checkpoint = open_folder(folder, kind=("classify", "multilabel"))
        saved = checkpoint.config["estimator"]
        with malformed(checkpoint.path / "config.json", "estimator"):
            estimator = cls(**saved_params(saved))
            if not isinstance(saved["classes"], list):
                raise ValueError("classes: expected a list of names")
            estimator.classes_ = class_values(saved["classes"], saved.get("classes_dtype"))
        fill(estimator, checkpoint)
        expected = estimator.model_.specs[TARGET].task.num_classes
        with malformed(checkpoint.path / "config.json", "estimator"):
            if len(estimator.classes_) != expected:
                raise ValueError(
                    f"classes: expected {expected} names, got {len(estimator.classes_)}"
                )
        return estimator

    def own_config(self) -> dict[str, Any]:
        """Return the names and the type of the classes, as they are saved."""
        kind = self.classes_.dtype.str if self.classes_.dtype.kind in "biuf" else None
        return {"classes": [str(c) for c in self.classes_.tolist()], "classes_dtype": kind}

    def _labels_of_rows(self, y: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        return torch.from_numpy(codes.astype(np.int64)), tuple(str(c) for c in self.classes_)

    def _read_fit_graph(self, *given: Any, **arrays: Any) -> tuple[Graph, Reading | None]:
        known, reading = super()._read_fit_graph(*given, **arrays)
        if not self._of_rows:
            self.classes_ = known.class_values
        return known, reading

    def _labelled(self, graph: Graph, y: Any) -> Graph:
        if y is not None:
            graph = with_labels(graph, y, task="classify")
        if graph.y is not None and graph.y.is_floating_point():
            raise DataError(
                "GFM118",
                "labels must be classes, but this graph has a continuous target",
                where=graph.name,
                fix="GraphFMRegressor predicts numbers; or cut the values into classes",
            )
        return graph
