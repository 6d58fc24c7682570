"""GraphFMClassifier: fit / predict / predict_proba / score / embed, in scikit-learn's manners.

Shapes:
    N  nodes   Q  nodes asked for   C  classes   D  width
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from torch import Tensor

from graphfm.checkpoint import (
    find_checkpoint,
    load_model,
    not_judged_on,
    read_tensors,
    save_checkpoint,
    verify_checkpoint,
)
from graphfm.config import ModelConfig
from graphfm.errors import CheckpointError, DataError
from graphfm.finetune import SAMPLING, TARGET, bank_of, finetune
from graphfm.graphs.catalog import Catalog
from graphfm.graphs.convert import as_graph
from graphfm.graphs.features import FeatureTransform
from graphfm.graphs.graph import Graph
from graphfm.graphs.prepare import prepare
from graphfm.graphs.splits import stratified_split
from graphfm.model import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.training.calibration import Answers, Calibration, answer
from graphfm.training.conformal import check_coverage
from graphfm.training.inference import node_states
from graphfm.training.loop import pick_device
from graphfm.training.metrics import accuracy
from graphfm.training.novelty import graph_novelty
from graphfm.training.receipt import environment

VAL_SHARE = 0.2  # of the training nodes, split off where a graph brings no validation nodes


class GraphFMClassifier(ClassifierMixin, BaseEstimator):
    """Fit a pretrained trunk to one graph and predict its nodes.

    Args:
        checkpoint: Run or checkpoint folder, or a ``GraphFM``. None = the packaged weights; until
            some ship, random ones, said aloud.
        tune: How deep to fit: ``probe``, ``adapter``, ``decoder`` or ``full``.
        max_steps: Gradient steps at most; the best on validation nodes is kept.
        seed: Of everything random.
        device: ``auto``, ``cpu``, ``cuda``.
        verbose: Show progress.

    Attributes:
        classes_: Names of the classes (labels for multi-label), (C,).
        history_: Loss of each step, score of each evaluation.
        best_step_: Step that was kept; 0 = the closed-form probe.
        val_score_: Validation accuracy there; None without validation nodes.
        fit_seconds_: Time to fit.
        temperature_: What logits are divided by, fitted on half of the validation nodes.
        calibration_: All that was learned from the validation nodes.
        corpus_novelty_: Where the graph lies among those that the checkpoint was pretrained on, by
            size, degree, features and classes; empty without a checkpoint that names them.
        not_judged_on_: Ids of graphs that the pretrained weights have seen, and of their groups.

    Example:
        >>> import networkx as nx
        >>> from graphfm import GraphFMClassifier
        >>> graph = nx.karate_club_graph()
        >>> model = GraphFMClassifier(tune="probe").fit(graph, target="club")  # doctest: +SKIP
        >>> model.predict()  # doctest: +SKIP
    """

    classes_: np.ndarray
    history_: list[dict[str, float]]
    best_step_: int
    val_score_: float | None
    fit_seconds_: float
    temperature_: float
    calibration_: Calibration
    corpus_novelty_: dict[str, dict[str, float]]
    not_judged_on_: list[str]

    def __init__(
        self,
        checkpoint: str | Path | GraphFM | None = None,
        *,
        tune: str = "decoder",
        max_steps: int = 20,
        seed: int = 0,
        device: str = "auto",
        verbose: bool = False,
    ):
        self.checkpoint = checkpoint
        self.tune = tune
        self.max_steps = max_steps
        self.seed = seed
        self.device = device
        self.verbose = verbose

    def fit(
        self,
        graph: Any,
        train_mask: Any = None,
        val_mask: Any = None,
        *,
        target: str | None = None,
    ) -> GraphFMClassifier:
        """Learn from the labels of the training nodes.

        Args:
            graph: ``Graph``, PyG ``Data``, NetworkX graph, or a catalog id.
            train_mask: (N,) bool, nodes to learn from. Default: the graph's own; without one, all
                labelled nodes that are not in its other masks.
            val_mask: (N,) bool, nodes to stop by and to calibrate on. Default: the graph's own;
                without one, a fifth of the training nodes is split off.
            target: Node attribute that holds the label, for a NetworkX graph.

        Raises:
            DataError: For a graph or labels that cannot be used.
        """
        known = as_graph(graph, target=target)
        masks = self._masks(known, train_mask, val_mask)
        model = self._pretrained().to(pick_device(self.device))
        prepared = prepare(known)
        fitted = finetune(
            prepared,
            model,
            train_mask=masks[0],
            val_mask=masks[1],
            tune=self.tune,  # type: ignore[arg-type]
            max_steps=self.max_steps,
            seed=self.seed,
            progress=self.verbose,
        )
        self.classes_ = np.array(known.class_names)
        self.history_, self.best_step_ = fitted.history, fitted.best_step
        self.val_score_, self.fit_seconds_ = fitted.val_score, fitted.seconds
        self.model_, self.transform_ = fitted.model, prepared.transform
        self.calibration_ = fitted.calibration
        self.temperature_ = fitted.calibration.temperature
        given = self.checkpoint
        self.not_judged_on_ = not_judged_on(given) if isinstance(given, str | Path) else []
        self.corpus_novelty_ = _novelty_beside(given, known)
        self.graph_: Graph | None = known
        self.graph_name_ = known.name
        return self

    def predict(self, graph: Any = None, mask: Any = None) -> np.ndarray:
        """Likeliest class of each node, by name: (Q,); for multi-label 0 or 1: (Q, C).

        Args:
            graph: A graph with the same feature columns; None = the one it was fitted on.
            mask: (N,) bool, nodes to predict; None = all.
        """
        probabilities = self.predict_proba(graph, mask)
        if self.model_.specs[TARGET].task.kind == "multilabel":
            return (probabilities > 0.5).astype(np.int8)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, graph: Any = None, mask: Any = None) -> np.ndarray:
        """Calibrated probability of each class for each node, (Q, C); arguments as in `predict`."""
        return self.answer(graph, mask).proba

    def predict_set(
        self, graph: Any = None, mask: Any = None, *, coverage: float = 0.9
    ) -> np.ndarray:
        """Classes that each node may have: (Q, C) bool, columns as in ``classes_``.

        A set holds the true class with probability ``coverage`` at least, for nodes that are to the
        validation nodes as those are to each other; not for nodes that the model has learned from.
        It is never empty. With several labels a node it holds all of them, and may be empty.

        Args:
            graph: As in :meth:`predict`.
            mask: As in :meth:`predict`.
            coverage: Between 0 and 1.

        Raises:
            DataError: GFM180 for a coverage that is none.
        """
        sets = self.answer(graph, mask, coverage=coverage).sets
        assert sets is not None
        return sets

    def answer(
        self, graph: Any = None, mask: Any = None, *, coverage: float | None = None
    ) -> Answers:
        """Probabilities, prediction sets and novelty of nodes in one pass.

        Args:
            graph: As in :meth:`predict`.
            mask: As in :meth:`predict`.
            coverage: Of the sets; None = none.
        """
        if coverage is not None:
            check_coverage(coverage)
        bank, nodes = self._ready(graph, mask)
        how: dict[str, Any] = {"seed": self.seed, "coverage": coverage, **SAMPLING}
        return answer(self.model_, bank, nodes, self.calibration_, **how)

    def embed(self, graph: Any = None, mask: Any = None) -> np.ndarray:
        """State of each node, (Q, D); arguments as in :meth:`predict`."""
        bank, nodes = self._ready(graph, mask)
        return node_states(self.model_, bank, 0, nodes, seed=self.seed, **SAMPLING).cpu().numpy()

    def score(self, graph: Any = None, mask: Any = None) -> float:
        """Accuracy on the labelled nodes of a graph.

        Args:
            graph: As in :meth:`predict`.
            mask: (N,) bool; None = the graph's test nodes, or all labelled ones.
        """
        known = self._graph(graph)
        chosen = known.labelled & _mask(mask, known, known.test_mask)
        if not chosen.any() or known.y is None:
            raise DataError("GFM133", "there is no labelled node to score on", where=known.name)
        y = known.y[chosen].numpy()
        if known.y.ndim == 1:  # the graph may number its classes differently
            place = {name: i for i, name in enumerate(self.classes_.tolist())}
            y = np.array([place.get(name, len(place)) for name in known.class_names])[y]
        return accuracy(y, self.predict_proba(known, chosen))

    def save(self, folder: str | Path) -> None:
        """Write the fitted model: a checkpoint folder that :meth:`load` reads.

        Raises:
            OutputError: GFM801 if it cannot be written.
        """
        self._check_fitted()
        params = {k: v for k, v in self.get_params().items() if k != "checkpoint"}
        params["checkpoint"] = str(self.checkpoint) if self.checkpoint is not None else None
        meta = {
            "name": f"fitted on {self.graph_name_}",
            "estimator": {
                "params": params,
                "graph": self.graph_name_,
                "classes": [str(c) for c in self.classes_],
                "history": self.history_,
                "best_step": self.best_step_,
                "val_score": self.val_score_,
                "fit_seconds": self.fit_seconds_,
                "transform": self.transform_.config(),
                "calibration": self.calibration_.config(),
                "corpus_novelty": self.corpus_novelty_,
            },
            "not_judged_on": self.not_judged_on_,
            "environment": environment(self.seed),
        }
        extra = {
            "transform": self.transform_.tensors(),
            "calibration": self.calibration_.tensors(),
        }
        save_checkpoint(Path(folder), self.model_, meta=meta, extra=extra)

    @classmethod
    def load(cls, folder: str | Path) -> GraphFMClassifier:
        """A fitted model from its folder; it predicts graphs that are passed to it.

        Raises:
            CheckpointError: GFM301 to GFM307.
        """
        path = find_checkpoint(Path(folder))
        config = verify_checkpoint(path)
        if "estimator" not in config:
            raise CheckpointError(
                "GFM307",
                f"{folder} is a pretrained model, not fitted to a graph yet",
                fix="graphfm finetune --from it first",
            )
        saved = config["estimator"]
        estimator = cls(**saved["params"])
        tensors = read_tensors(path / "transform.safetensors")
        estimator.transform_ = FeatureTransform.from_parts(saved["transform"], tensors)
        estimator.model_ = load_model(path).to(pick_device(estimator.device))
        estimator.classes_ = np.array(saved["classes"])
        estimator.graph_, estimator.graph_name_ = None, saved["graph"]
        estimator.history_, estimator.best_step_ = saved["history"], saved["best_step"]
        estimator.not_judged_on_ = config.get("not_judged_on", [])
        estimator.val_score_, estimator.fit_seconds_ = saved["val_score"], saved["fit_seconds"]
        estimator.calibration_ = Calibration()  # of a fit before there was one
        if "calibration" in saved:
            tensors = read_tensors(path / "calibration.safetensors")
            estimator.calibration_ = Calibration.from_parts(saved["calibration"], tensors)
        estimator.temperature_ = estimator.calibration_.temperature
        estimator.corpus_novelty_ = saved.get("corpus_novelty", {})
        return estimator

    def _pretrained(self) -> GraphFM:
        if isinstance(self.checkpoint, GraphFM):
            return self.checkpoint
        if self.checkpoint is not None:
            return load_model(self.checkpoint)
        print("no pretrained weights are packaged yet: the trunk is random", file=sys.stderr)
        return GraphFM(ModelConfig(), seed=self.seed)

    def _masks(self, graph: Graph, train: Any, val: Any) -> tuple[Tensor, Tensor]:
        """What to learn from and what to stop by; no node is in both, none in the test mask."""
        no_node = torch.zeros(graph.num_nodes, dtype=torch.bool)
        all_nodes = ~no_node
        if train is None and graph.train_mask is None:
            others = [m for m in (graph.val_mask, graph.test_mask) if m is not None]
            all_nodes = ~torch.stack([no_node, *others]).any(dim=0)
        chosen = _mask(train, graph, graph.train_mask, default=all_nodes) & graph.labelled
        if val is None and train is None and graph.val_mask is not None:
            return chosen, graph.val_mask
        if val is not None:
            stop = _mask(val, graph, None, default=no_node)
            if (stop & chosen).any():
                raise DataError("GFM135", "train_mask and val_mask overlap", where=graph.name)
            return chosen, stop
        if graph.y is None or int(chosen.sum()) < 10:  # too few to spare any
            return chosen, no_node
        y = graph.y.clone()
        y[~chosen] = -1
        parts = stratified_split(
            y, (1 - VAL_SHARE, VAL_SHARE, 0.0), seed=self.seed, ids=graph.ids()
        )
        return parts[0], parts[1]

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError("this GraphFMClassifier is not fitted yet: call fit(graph) first")

    def _graph(self, graph: Any) -> Graph:
        self._check_fitted()
        if graph is not None:
            return as_graph(graph)
        if self.graph_ is None:
            raise DataError(
                "GFM124",
                f"a loaded model does not hold its graph ({self.graph_name_})",
                fix="pass the graph: predict(graph)",
            )
        return self.graph_

    def _ready(self, graph: Any, mask: Any) -> tuple[GraphBank, Tensor]:
        """The bank of a graph and the nodes asked for."""
        known = self._graph(graph)
        prepared = prepare(known, transform=self.transform_)
        bank = bank_of(prepared, self.model_.encoder.latents.device)
        nodes = _mask(mask, known, None).nonzero().flatten()
        if not len(nodes):
            raise DataError("GFM133", "there is no node to predict", where=known.name)
        return bank, nodes


def _novelty_beside(checkpoint: Any, graph: Graph) -> dict[str, dict[str, float]]:
    """Where a graph lies in the corpus that a checkpoint names, as far as the catalog knows it."""
    if not isinstance(checkpoint, str | Path):
        return {}
    ids = verify_checkpoint(find_checkpoint(Path(checkpoint))).get("corpus", [])
    entries = Catalog.read().entries
    return graph_novelty(graph, [entries[i] for i in ids if i in entries])


def _mask(given: Any, graph: Graph, own: Tensor | None, default: Tensor | None = None) -> Tensor:
    """A mask as given, else the graph's own, else the default, else all nodes."""
    if given is None:
        if own is not None:
            return own
        return default if default is not None else torch.ones(graph.num_nodes, dtype=torch.bool)
    mask = torch.as_tensor(given)
    if mask.dtype != torch.bool or mask.shape != (graph.num_nodes,):
        raise DataError(
            "GFM116",
            f"a mask must be ({graph.num_nodes},) bool, got {tuple(mask.shape)} {mask.dtype}",
            where=graph.name,
        )
    return mask
