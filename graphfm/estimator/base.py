"""What both estimators have in common: fitting, states, masks, rows without edges.

Shapes:
    N  nodes   Q  nodes asked for   D  width   n  rows   F  feature columns   M  rows kept
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data
from torch import Tensor

from graphfm.checkpoint.folder import not_judged_on
from graphfm.checkpoint.hub import NOVELTY, RANDOM
from graphfm.errors import DataError
from graphfm.estimator.masks import MIN_TO_SPARE, VAL_SHARE, mask_of
from graphfm.fitting.budget import Budget
from graphfm.fitting.calibration import Calibration
from graphfm.fitting.cost import check_memory
from graphfm.fitting.ensemble import Ensemble
from graphfm.fitting.experts.pool import Experts
from graphfm.fitting.finetune import MAX_STEPS, finetune
from graphfm.fitting.inference import node_states
from graphfm.fitting.novelty import graph_novelty
from graphfm.fitting.probe import MAX_CONTEXT, SAMPLING, bank_of
from graphfm.fitting.sizes import sizes_of
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.features.multihop import Scaling
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from graphfm.graphs.features.transform import FeatureTransform
from graphfm.graphs.graph import Graph
from graphfm.graphs.inputs import is_matrix, is_rows, read_graph, rows_graph
from graphfm.graphs.readers.options import Reading, ReadOptions
from graphfm.graphs.spec import Task, TaskSpec
from graphfm.graphs.splits import stratified_split
from graphfm.machine import pick_device
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import sample_context
from graphfm.training.state_cloud import StateCloud


class GraphEstimator(BaseEstimator):
    """What both have in common; use :class:`GraphFMClassifier` or :class:`GraphFMRegressor`."""

    TASK: ClassVar[Task]

    best_step_: int
    calibration_: Calibration
    corpus_novelty_: dict[str, dict[str, float]]
    experts_: Experts | None
    far_states_: float | None
    cut_short_: list[str]
    fit_seconds_: float
    graph_: Graph | None
    graph_name_: str
    history_: list[dict[str, float]]
    members_: int
    model_: GraphFM | Ensemble
    not_judged_on_: list[str]
    reading_: Reading | None
    rows_: Tensor | None
    scaling_: Scaling | None
    transform_: FeatureTransform
    tried_: list[dict[str, Any]]
    tune_: str
    tune_reason_: str
    val_score_: float | None
    weights_: str

    def __init__(
        self,
        checkpoint: str | Path | GraphFM | None = None,
        *,
        tune: str = "auto",
        max_steps: int = MAX_STEPS,
        max_time: float | None = None,
        ensemble: int = 1,
        seed: int = 0,
        device: str = "auto",
        verbose: bool = False,
    ):
        self.checkpoint = checkpoint
        self.tune = tune
        self.max_steps = max_steps
        self.max_time = max_time
        self.ensemble = ensemble
        self.seed = seed
        self.device = device
        self.verbose = verbose

    def fit(
        self,
        graph: Any,
        y: Any = None,
        train_mask: Any = None,
        val_mask: Any = None,
        *,
        target: str | None = None,
        nodes: str | Path | None = None,
        options: ReadOptions | None = None,
    ) -> Self:
        """Learn from the labels of the training nodes.

        Args:
            graph: ``Graph``, PyG ``Data``, NetworkX graph, adjacency matrix, catalog id, or a file
                or folder as the command line takes it. With ``y`` a matrix is rows of features
                (n, F), dense or sparse: a graph without edges.
            y: Label of each node, (N,), in place of the graph's own; with rows of features (n,).
            train_mask: (N,) bool, nodes to learn from. Default: the graph's own; without one, all
                labelled nodes that are not in its other masks.
            val_mask: (N,) bool, nodes to stop by and to calibrate on. Default: the graph's own;
                without one, a fifth of the training nodes is split off.
            target: Column or node attribute that holds the label, for a file or a NetworkX graph.
            nodes: The node table that goes with an edge list.
            options: Whatever else a file does not say of itself.

        Raises:
            DataError: For a graph or labels that cannot be used.
        """
        budget = Budget(self.max_time)
        known, self.reading_ = self._known(graph, y, target, nodes, options)
        masks = self._masks(known, train_mask, val_mask)
        start = self._pretrained()
        model = start.to(pick_device(self.device))
        sizes = sizes_of(known, model, num_train=int(masks[0].sum()))
        check_memory(sizes, model, model.device, ensemble=self.ensemble, where=known.name)
        prepared = prepare(known)
        fitted = finetune(
            prepared,
            model,
            train_mask=masks[0],
            val_mask=masks[1],
            tune=self.tune,  # type: ignore[arg-type]
            max_steps=self.max_steps,
            budget=budget,
            ensemble=self.ensemble,
            corpus=_corpus_states(start),
            seed=self.seed,
            progress=self.verbose,
        )
        self.history_, self.best_step_ = fitted.history, fitted.best_step
        self.val_score_, self.fit_seconds_ = fitted.val_score, fitted.seconds
        self.tune_, self.tune_reason_ = fitted.tune, fitted.tune_reason
        self.cut_short_, self.far_states_ = fitted.cut_short, fitted.far_states
        self.tried_ = [each.to_json() for each in fitted.tried]
        self.model_, self.members_ = fitted.model, fitted.members
        self.transform_, self.scaling_ = prepared.transform, fitted.scaling
        self.experts_ = fitted.experts
        self.calibration_ = fitted.calibration
        self.rows_ = None
        if self._of_rows:  # what the encoder reads when further rows are predicted
            kept = sample_context(known.num_nodes, MAX_CONTEXT, seed=[self.seed, 0, 0])
            self.rows_ = prepared.x[kept].clone()
        about = start.about
        self.weights_ = str(about.get("name", "given" if start is self.checkpoint else RANDOM))
        self.not_judged_on_ = not_judged_on(about)
        self.corpus_novelty_ = _novelty_beside(about.get("corpus", []), known)
        self.graph_, self.graph_name_ = known, known.name
        return self

    def embed(self, graph: Any = None, mask: Any = None, *, nodes: Any = None) -> np.ndarray:
        """State of each node, (Q, D); arguments as in :meth:`predict`."""
        bank, places, how = self._ready(graph, mask, nodes)
        return node_states(self.model_, bank, 0, places, **how).cpu().numpy()

    def __sklearn_tags__(self) -> Any:
        """Rows of features may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _labels_of_rows(self, y: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
        """Labels (n,) of rows as a graph holds them; learns what they mean."""
        raise NotImplementedError

    def _labelled(self, graph: Graph, y: Any) -> Graph:
        """The graph with these labels, or with its own as the task reads them."""
        raise NotImplementedError

    @property
    def _of_rows(self) -> bool:
        """Whether it was fitted to rows of features without edges."""
        return hasattr(self, "n_features_in_")

    def _known(
        self,
        graph: Any,
        y: Any,
        target: str | None,
        nodes: str | Path | None,
        options: ReadOptions | None,
    ) -> tuple[Graph, Reading | None]:
        for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit to rows
            if hasattr(self, name):
                delattr(self, name)
        if is_rows(graph, y):
            x, y = validate_data(
                self,
                graph,
                y,
                accept_sparse="csr",
                dtype=np.float32,
                y_numeric=self.TASK == "regress",
                ensure_min_samples=2,
            )
            labels, class_names = self._labels_of_rows(y)
            return rows_graph(x, labels, class_names), None
        read = read_graph(graph, target=target, nodes=nodes, options=options, task=self.TASK)
        return self._labelled(read.graph, y), read.reading

    def _pretrained(self) -> GraphFM:
        if isinstance(self.checkpoint, GraphFM):
            return self.checkpoint
        return GraphFM.from_pretrained(self.checkpoint, seed=self.seed)

    def _masks(self, graph: Graph, train: Any, val: Any) -> tuple[Tensor, Tensor]:
        """What to learn from and what to stop by; no node is in both, none in the test mask."""
        no_node = torch.zeros(graph.num_nodes, dtype=torch.bool)
        all_nodes = ~no_node
        if train is None and graph.train_mask is None:
            others = [m for m in (graph.val_mask, graph.test_mask) if m is not None]
            all_nodes = ~torch.stack([no_node, *others]).any(dim=0)
        chosen = mask_of(train, graph, graph.train_mask, default=all_nodes) & graph.labelled
        if val is None and train is None and graph.val_mask is not None:
            return chosen, graph.val_mask
        if val is not None:
            stop = mask_of(val, graph, None, default=no_node)
            if (stop & chosen).any():
                raise DataError("GFM135", "train_mask and val_mask overlap", where=graph.name)
            return chosen, stop
        if graph.y is None or int(chosen.sum()) < MIN_TO_SPARE:
            return chosen, no_node
        y = graph.y.clone()
        y[~chosen] = torch.nan if y.is_floating_point() else -1
        parts = stratified_split(
            y, (1 - VAL_SHARE, VAL_SHARE, 0.0), seed=self.seed, ids=graph.ids()
        )
        return parts[0], parts[1]

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet: call fit(graph) first"
            )

    def _graph(self, graph: Any, nodes: Any = None) -> Graph:
        """The graph asked about; None = that of the fit."""
        self._check_fitted()
        if graph is not None and self._of_rows and is_matrix(graph):
            x = validate_data(self, graph, reset=False, accept_sparse="csr", dtype=np.float32)
            return rows_graph(x)
        if graph is not None:
            return read_graph(graph, like=self.reading_, nodes=nodes, task=self.TASK).graph
        if self.graph_ is None:
            raise DataError(
                "GFM124",
                f"a loaded model does not hold its graph ({self.graph_name_})",
                fix="pass the graph: predict(graph)",
            )
        return self.graph_

    def _ready(
        self, graph: Any, mask: Any, nodes: Any = None
    ) -> tuple[GraphBank, Tensor, dict[str, Any]]:
        """The bank of a graph, the nodes asked for, and how they are sampled."""
        known = self._graph(graph, nodes)
        places = mask_of(mask, known, None).nonzero().flatten()
        if not len(places):
            raise DataError("GFM133", "there is no node to predict", where=known.name)
        prepared = prepare(known, transform=self.transform_, cache=self.rows_ is None)
        how: dict[str, Any] = {"seed": self.seed, **SAMPLING}
        if self.rows_ is not None and known.num_edges == 0:
            # What is said of a row does not depend on the rows that are asked about beside it.
            prepared = _beside(self.rows_, prepared)
            places, how["num_context"] = places + len(self.rows_), len(self.rows_)
        device = next(self.model_.parameters()).device
        bank = bank_of(prepared, device, like=self.scaling_, experts=self.experts_)
        return bank, places, how


def _beside(rows: Tensor, prepared: PreparedGraph) -> PreparedGraph:
    """The rows of a fit (M, F'), then those of a graph without edges."""
    num_nodes = len(rows) + prepared.num_nodes
    pe = prepared.pe.new_zeros(num_nodes, prepared.pe.shape[1])  # as every node without an edge
    return PreparedGraph(
        name=prepared.name,
        rowptr=torch.zeros(num_nodes + 1, dtype=torch.int64),
        col=prepared.col,
        x=torch.cat([rows.to(prepared.x.dtype), prepared.x]),
        pe=pe,
        y=None,
        train_mask=None,
        val_mask=None,
        test_mask=None,
        task=TaskSpec(num_classes=0),
        class_names=(),
        node_ids=None,
        transform=prepared.transform,
        position_method=prepared.position_method,
    )


def _corpus_states(model: GraphFM) -> StateCloud | None:
    """Where the states of a model's corpus lie; None where its checkpoint does not say."""
    return StateCloud(**model.extra[NOVELTY]) if NOVELTY in model.extra else None


def _novelty_beside(ids: list[str], graph: Graph) -> dict[str, dict[str, float]]:
    """Where a graph lies among the graphs of a corpus, as far as the catalog knows them."""
    entries = Catalog.read().entries if ids else {}
    return graph_novelty(graph, [entries[i] for i in ids if i in entries])
