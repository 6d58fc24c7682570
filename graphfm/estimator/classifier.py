"""GraphFMClassifier: fit / predict / predict_proba / score / embed, in scikit-learn's manners.

Shapes:
    N  nodes   Q  nodes asked for   C  classes
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from graphfm.checkpoint.folder import Checkpoint
from graphfm.errors import DataError
from graphfm.estimator.base import GraphEstimator
from graphfm.estimator.masks import mask_of
from graphfm.estimator.saved import fill, open_folder, save_fitted
from graphfm.fitting.answers import Answers, answer
from graphfm.fitting.conformal import check_coverage
from graphfm.fitting.probe import TARGET
from graphfm.graphs.graph import Graph
from graphfm.graphs.labels import labels
from graphfm.metrics import accuracy


class GraphFMClassifier(ClassifierMixin, GraphEstimator):
    """Fit a pretrained trunk to one graph and predict the class of its nodes.

    Args:
        checkpoint: Run or checkpoint folder, ``owner/name`` on the hub, ``graphfm-small``,
            ``random``, or a ``GraphFM``. None = the weights that come with the package; where the
            installation has none, random ones, said aloud.
        tune: How deep to fit: ``probe``, ``adapter``, ``decoder``, ``full``, or ``auto``: the probe
            first, then deeper ones, of which validation nodes choose.
        max_steps: Gradient steps at most; the best on validation nodes is kept.
        max_time: Seconds of the fit at most; None = as long as it takes.
        ensemble: Fits whose mean answers.
        seed: Of everything random.
        device: ``auto``, ``cpu``, ``cuda``.
        verbose: Show progress.

    Attributes:
        classes_: Names of the classes (labels for multi-label), (C,); with rows of features the
            values of ``y``.
        tune_: Depth that was taken, and ``tune_reason_`` why.
        tried_: Each depth that was tried: score, steps, seconds.
        members_: Fits whose mean answers.
        cut_short_: What ``max_time`` left out.
        history_: Loss of each step, score of each evaluation.
        best_step_: Step that was kept; 0 = the closed-form probe.
        val_score_: Validation accuracy there; None without validation nodes.
        fit_seconds_: Time to fit.
        temperature_: What logits are divided by, fitted on half of the validation nodes.
        calibration_: All that was learned from the validation nodes.
        far_states_: Share of its nodes whose pretrained state lies farther out than 95% of the
            corpus'; 0.05 = like the corpus, None where the checkpoint does not say.
        corpus_novelty_: Where the graph lies among those that the checkpoint was pretrained on, by
            size, degree, features and classes; empty without a checkpoint that names them.
        not_judged_on_: Ids of graphs that the pretrained weights have seen, and of their groups.
        weights_: Name of the pretrained weights; ``random`` for none, ``given`` for a ``GraphFM``
            that does not say.

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
        """What logits are divided by."""
        return self.calibration_.temperature

    def predict(self, graph: Any = None, mask: Any = None, *, nodes: Any = None) -> np.ndarray:
        """Likeliest class of each node, by name: (Q,); for multi-label 0 or 1: (Q, C).

        Args:
            graph: A graph with the same feature columns, or a file with them; None = the one it was
                fitted on.
            mask: (N,) bool, nodes to predict; None = all.
            nodes: The node table that goes with an edge list.
        """
        probabilities = self.predict_proba(graph, mask, nodes=nodes)
        if self.model_.specs[TARGET].task.kind == "multilabel":
            return (probabilities > 0.5).astype(np.int8)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(
        self, graph: Any = None, mask: Any = None, *, nodes: Any = None
    ) -> np.ndarray:
        """Calibrated probability of each class for each node, (Q, C); arguments as in `predict`."""
        return self.answer(graph, mask, nodes=nodes).proba

    def predict_set(
        self, graph: Any = None, mask: Any = None, *, nodes: Any = None, coverage: float = 0.9
    ) -> np.ndarray:
        """Classes that each node may have: (Q, C) bool, columns as in ``classes_``.

        A set holds the true class with probability ``coverage`` at least, for nodes that are to the
        validation nodes as those are to each other; not for nodes that the model has learned from.
        It is never empty. With several labels a node it holds all of them, and may be empty.

        Args:
            graph: As in :meth:`predict`.
            mask: As in :meth:`predict`.
            nodes: As in :meth:`predict`.
            coverage: Between 0 and 1.

        Raises:
            DataError: GFM180 for a coverage that is none.
        """
        sets = self.answer(graph, mask, nodes=nodes, coverage=coverage).sets
        assert sets is not None
        return sets

    def answer(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        nodes: Any = None,
        coverage: float | None = None,
    ) -> Answers:
        """Probabilities, prediction sets and novelty of nodes in one pass.

        Args:
            graph: As in :meth:`predict`.
            mask: As in :meth:`predict`.
            nodes: As in :meth:`predict`.
            coverage: Of the sets; None = none.
        """
        if coverage is not None:
            check_coverage(coverage)
        bank, places, how = self._ready(graph, mask, nodes)
        return answer(self.model_, bank, places, self.calibration_, coverage=coverage, **how)

    def score(
        self, graph: Any = None, y: Any = None, mask: Any = None, *, nodes: Any = None
    ) -> float:
        """Accuracy on the labelled nodes of a graph, or on rows of features.

        Args:
            graph: As in :meth:`predict`.
            y: Label of each row or node, in place of the graph's own.
            mask: (N,) bool; None = the graph's test nodes, or all labelled ones.
            nodes: As in :meth:`predict`.
        """
        known = self._graph(graph, nodes)
        if y is not None and self._of_rows:
            given = self.predict_proba(known, mask)
            truth = np.asarray(y)[mask_of(mask, known, None).numpy()]
            return float((self.classes_[given.argmax(axis=1)] == truth).mean())
        known = self._labelled(known, y) if y is not None else known
        chosen = known.labelled & mask_of(mask, known, known.test_mask)
        if not chosen.any() or known.y is None:
            raise DataError("GFM133", "there is no labelled node to score on", where=known.name)
        found = known.y[chosen].numpy()
        if known.y.ndim == 1:  # the graph may number its classes differently
            place = {str(name): i for i, name in enumerate(self.classes_.tolist())}
            found = np.array([place.get(name, len(place)) for name in known.class_names])[found]
        return accuracy(found, self.predict_proba(known, chosen))

    def save(self, folder: str | Path) -> None:
        """Write the fitted model: a checkpoint folder that :meth:`load` reads.

        Raises:
            OutputError: GFM801 if it cannot be written.
        """
        self._check_fitted()
        kind = self.classes_.dtype.str if self.classes_.dtype.kind in "biuf" else None
        own = {"classes": [str(c) for c in self.classes_.tolist()], "classes_dtype": kind}
        save_fitted(self, Path(folder), own)

    @classmethod
    def load(cls, folder: str | Path | Checkpoint) -> Self:
        """A fitted model from its folder; it predicts graphs that are passed to it.

        Raises:
            CheckpointError: GFM301 to GFM307.
        """
        checkpoint = open_folder(folder, kind=("classify", "multilabel"))
        saved = checkpoint.config["estimator"]
        estimator = cls(**saved["params"])
        fill(estimator, checkpoint)
        estimator.classes_ = _classes(saved["classes"], saved.get("classes_dtype"))
        return estimator

    def _labels_of_rows(self, y: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        return torch.from_numpy(codes.astype(np.int64)), tuple(str(c) for c in self.classes_)

    def _labelled(self, graph: Graph, y: Any) -> Graph:
        if y is not None:
            own, names = _encoded(y)
            graph = graph.replace(y=own, class_names=names)
        if graph.y is not None and graph.y.is_floating_point():
            raise DataError(
                "GFM118",
                "labels must be classes, but this graph has a continuous target",
                where=graph.name,
                fix="GraphFMRegressor predicts numbers; or cut the values into classes",
            )
        self.classes_ = np.array(graph.class_names)
        return graph


def _encoded(y: Any) -> tuple[Tensor | None, tuple[str, ...]]:
    """Labels of the nodes of a graph, in numbers or text; None, NaN and -1 = unlabelled."""
    values = np.asarray(y)
    if values.dtype.kind in "biuf":
        return labels(values.astype(np.int64) if values.dtype.kind in "bu" else values,
                      task="classify")  # fmt: skip
    words = [None if v is None or v != v else str(v) for v in values.tolist()]
    names = sorted({word for word in words if word is not None})
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([-1 if w is None else number[w] for w in words]), tuple(names)


def _classes(names: list[str], dtype: str | None) -> np.ndarray:
    if dtype is None:
        return np.array(names)
    if np.dtype(dtype).kind == "b":
        return np.array([name == "True" for name in names])
    return (
        np.array([float(name) for name in names]).astype(dtype)
        if "f" in dtype
        else np.array([int(name) for name in names], dtype=dtype)
    )
