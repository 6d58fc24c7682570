"""Base class of the two estimators: fit, embed, and the graph to predict.

Shapes:
    N  nodes   Q  nodes asked for   D  width   n  rows   F  feature columns
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data
from torch import Tensor

from graphfm.checkpoint.folder import not_judged_on
from graphfm.checkpoint.pretrained import NOVELTY, weights_name
from graphfm.errors import DataError
from graphfm.estimator.attributes import FittedAttributes
from graphfm.estimator.given import GraphKeywords, graph_of
from graphfm.estimator.masks import fit_masks, mask_of, parts_of_nodes, split_ids
from graphfm.estimator.rows import join_rows
from graphfm.fitting.budget import Budget
from graphfm.fitting.cost import check_memory
from graphfm.fitting.finetune import MAX_STEPS, finetune
from graphfm.fitting.fit_order import FitOrder, prepare_in_order
from graphfm.fitting.inference import check_answers, node_states
from graphfm.fitting.novelty import graph_novelty
from graphfm.fitting.probe import MAX_CONTEXT, SAMPLING, bank_of
from graphfm.fitting.refit import refit
from graphfm.fitting.sizes import sizes_of
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from graphfm.graphs.graph import Graph
from graphfm.graphs.inputs import is_matrix, is_rows, read_graph, rows_graph
from graphfm.graphs.order import Order, inverse
from graphfm.graphs.readers.options import Reading, ReadOptions
from graphfm.graphs.spec import Task
from graphfm.log_lines import print_log_lines
from graphfm.machine import pick_device
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import sample_context
from graphfm.training.state_cloud import StateCloud


class GraphEstimator(FittedAttributes, BaseEstimator):
    """Base class of :class:`GraphFMClassifier` and :class:`GraphFMRegressor`."""

    TASK: ClassVar[Task]

    # Of the graph of the fit; none is saved.
    _bank: GraphBank | None = None
    _order: Order | None = None
    _given_masks: tuple[Tensor, Tensor] | None = None

    def __init__(
        self,
        checkpoint: str | Path | GraphFM | None = None,
        *,
        tune: str = "auto",
        max_steps: int = MAX_STEPS,
        max_time: float | None = None,
        ensemble: int = 1,
        random_state: int = 0,
        device: str = "auto",
        verbose: bool = False,
        refit: bool = False,
    ):
        self.checkpoint = checkpoint
        self.tune = tune
        self.max_steps = max_steps
        self.max_time = max_time
        self.ensemble = ensemble
        self.random_state = random_state
        self.device = device
        self.verbose = verbose
        self.refit = refit

    def fit(
        self,
        graph: Any = None,
        y: Any = None,
        train_mask: Any = None,
        val_mask: Any = None,
        *,
        target: str | None = None,
        options: ReadOptions | None = None,
        **given: Unpack[GraphKeywords],
    ) -> Self:
        """Fit to the labels of the training nodes.

        Args:
            graph: Edge list as a table of pandas, polars or pyarrow, a NetworkX or igraph graph, a
                PyG ``Data`` or dataset of one graph, an AnnData object, a ``Graph``, an adjacency
                matrix, a catalog id, or a file or folder as the command line reads it. With ``y``,
                a table or a dense matrix holds rows of features, (n, F): a graph without edges.
            y: Labels of the nodes, instead of the graph's own: by position, (N,), or by id, as a
                mapping or a pandas Series with an index of ids; with rows of features (n,).
            train_mask: Training nodes: (N,) bool, or their positions or ids. Default: the graph's
                own; without one, all labelled nodes that are not in its other masks.
            val_mask: Validation nodes, which choose the step and calibrate. Default: the graph's
                own; without one, a fifth of the training nodes.
            target: Column or node attribute that holds the label.
            options: Other options for reading. Default: detected from the content.
            **given: Node table of an edge list, ``nodes``; or arrays in place of a graph:
                ``edge_index`` (2, E) or ``adjacency`` (N, N), ``x`` (N, F), ``node_ids`` (N,).

        Raises:
            DataError: If the graph or the labels cannot be used.
        """
        with print_log_lines() if self.verbose else nullcontext():
            return self._fit(graph, y, train_mask, val_mask, target, options, given)

    def _fit(
        self,
        graph: Any,
        y: Any,
        train_mask: Any,
        val_mask: Any,
        target: str | None,
        options: ReadOptions | None,
        given: GraphKeywords,
    ) -> Self:
        budget = Budget(self.max_time)
        known, self.reading_ = self._read_fit_graph(graph, y, target, options, **given)
        order = Order.of(known)
        ordered = order.apply(known)
        masks = [
            None if mask is None else mask_of(mask, known, None)[order.nodes]
            for mask in (train_mask, val_mask)
        ]
        train, val = fit_masks(ordered, *masks, seed=self.random_state)
        start = self._pretrained()
        model = start.to(pick_device(self.device))
        sizes = sizes_of(known, model, num_train=int(train.sum()))
        check_memory(sizes, model, model.device, ensemble=self.ensemble, where=known.name)
        prepared = prepare_in_order(ordered, order)
        fitted = finetune(
            prepared,
            model,
            train_mask=train,
            val_mask=val,
            tune=self.tune,  # type: ignore[arg-type]
            max_steps=self.max_steps,
            budget=budget,
            ensemble=self.ensemble,
            corpus=StateCloud(**start.extra[NOVELTY]) if NOVELTY in start.extra else None,
            seed=self.random_state,
            progress=self.verbose,
        )
        about = start.about
        self.summary_ = fitted.summary(
            weights=weights_name(start, self.checkpoint),
            corpus_novelty=_corpus_novelty(about.get("corpus", []), known),
        )
        self.model_, self.calibration_ = fitted.model, fitted.calibration
        self.transform_, self.scaling_ = prepared.transform, fitted.scaling
        self.experts_, self.order_ = fitted.experts, FitOrder.of(order, prepared)
        self.rows_ = None
        if self._of_rows:  # the encoder reads them again when other rows are predicted
            keys = prepared.sample_keys
            kept = sample_context(
                known.num_nodes, MAX_CONTEXT, seed=[self.random_state, 0, 0], keys=keys
            )
            self.rows_ = prepared.x[kept].clone()
        self.not_judged_on_ = not_judged_on(about)
        self.graph_, self.graph_name_ = known, known.name
        no_masks = train_mask is None and val_mask is None
        learned = (train[order.places], val[order.places])
        self._given_masks, self._bank, self._order = None if no_masks else learned, None, order
        self.split_ = {} if self._of_rows else split_ids(known, *learned)
        return self.refit_all() if self.refit else self

    def refit_all(self) -> Self:
        """Fit again on every label of the graph, at the depth and the step that the fit chose.

        Temperature, thresholds and ``val_score_`` stay those of the fit before: no label is left to
        measure them on. Afterwards :meth:`score` needs a mask or another graph.

        Raises:
            DataError: GFM124 for a loaded model, which does not hold its graph.
        """
        known = self._graph(None)
        order = self._order_of(known)
        assert order is not None
        fitted = refit(
            self.model_,
            self._prepared(known, order),
            self._pretrained().to(pick_device(self.device)),
            labelled=known.labelled[order.nodes],
            tune=self.tune_,
            steps=self.best_step_,
            seed=self.random_state,
            progress=self.verbose,
        )
        self.model_, self.scaling_, self.experts_ = fitted.model, fitted.scaling, fitted.experts
        nobody = torch.zeros_like(known.labelled)
        self._given_masks, self._bank = (known.labelled, nobody), None
        self.split_ = {} if self._of_rows else split_ids(known, known.labelled, nobody)
        return self

    def embed(
        self, graph: Any = None, mask: Any = None, **given: Unpack[GraphKeywords]
    ) -> np.ndarray:
        """Return the state of each node, (Q, D); arguments as in :meth:`predict`."""
        bank, places, back, sampling = self._ready(graph, mask, **given)
        states = node_states(self.model_, bank, 0, places, **sampling).cpu()
        check_answers(states)
        return states[back].numpy()

    def answer(
        self,
        graph: Any = None,
        mask: Any = None,
        *,
        coverage: float | None = None,
        **given: Unpack[GraphKeywords],
    ) -> Any:
        """Return all predictions for some nodes, made in one pass."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        """Tags of scikit-learn: rows of features may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling, without what is made again from the graph when needed."""
        return {k: v for k, v in super().__getstate__().items() if k not in ("_bank", "_order")}

    def masks_given_for(self, graph: Graph) -> tuple[Tensor, Tensor] | None:
        """Training and validation nodes of the fit, if masks were passed and it had this graph."""
        return self._given_masks if graph is self.graph_ else None

    def parts_of(self, graph: Graph) -> list[str | None] | None:
        """Part that each node had in the fit: train, val, test, unlabelled, or None for no part.

        The result is None if the split is unknown, or if neither ids nor the name of the graph say
        that these are nodes of the fit.
        """
        same = graph.node_ids is not None or graph.name == self.graph_name_
        return parts_of_nodes(graph, self.split_) if same and any(self.split_.values()) else None

    def own_config(self) -> dict[str, Any]:
        """Return the keys that only this kind of estimator saves."""
        raise NotImplementedError

    def _labels_of_rows(self, y: np.ndarray) -> tuple[Tensor, tuple[str, ...]]:
        """Convert the labels (n,) of rows to those of a graph, and store their meaning."""
        raise NotImplementedError

    def _labelled(self, graph: Graph, y: Any) -> Graph:
        """Return the graph with these labels, or with its own as the task reads them."""
        raise NotImplementedError

    @property
    def _of_rows(self) -> bool:
        """True if the model was fitted to rows of features without edges."""
        return hasattr(self, "n_features_in_")

    def _read_fit_graph(
        self,
        graph: Any,
        y: Any,
        target: str | None,
        options: ReadOptions | None,
        *,
        nodes: Any = None,
        **arrays: Any,
    ) -> tuple[Graph, Reading | None]:
        """Read the graph of a fit, and how it was read; None if it was read before."""
        graph = graph_of(graph, y, **arrays)
        for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit to rows
            if hasattr(self, name):
                delattr(self, name)
        alone = graph is not None and nodes is None and target is None and options is None
        if alone and is_rows(graph, y):
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
        """Return the pretrained model that the fit begins with."""
        if isinstance(self.checkpoint, GraphFM):
            return self.checkpoint
        return GraphFM.from_pretrained(self.checkpoint, seed=self.random_state)

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError(
                f"this {type(self).__name__} is not fitted yet: call fit(graph) first"
            )

    def _graph(self, graph: Any, nodes: Any = None, **arrays: Any) -> Graph:
        """Read the graph to predict; None is the graph of the fit."""
        graph = graph_of(graph, **arrays)
        self._check_fitted()
        if graph is None and nodes is not None:
            raise DataError(
                "GFM105", "a node table needs the edge list beside it",
                fix="pass both: predict(edges, nodes=nodes)",
            )  # fmt: skip
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
        self, graph: Any, mask: Any, **given: Unpack[GraphKeywords]
    ) -> tuple[GraphBank, Tensor, Tensor, dict[str, Any]]:
        """Return what a prediction needs.

        Returns:
            The bank of the graph in canonical order; the indices in it of the nodes asked for,
            ascending; the position among these of each node in the user's order; and sampling
            options.
        """
        known = self._graph(graph, **given)
        asked = mask_of(mask, known, None).nonzero().flatten()
        if not len(asked):
            raise DataError("GFM133", "there is no node to predict", where=known.name)
        order = self._order_of(known)
        places, by_place = (asked if order is None else order.places[asked]).sort()
        back, sampling = inverse(by_place), {"seed": self.random_state, **SAMPLING}
        if self.rows_ is not None and known.num_edges == 0:
            # The encoder reads rows of the fit only: predictions do not depend on the other rows.
            prepared = join_rows(self.rows_, self._prepared(known, order))
            places, sampling["num_context"] = places + len(self.rows_), len(self.rows_)
            return self._new_bank(prepared), places, back, sampling
        if known is not self.graph_:
            return self._new_bank(self._prepared(known, order)), places, back, sampling
        if self._bank is None or self._bank.device != next(self.model_.parameters()).device:
            self._bank = self._new_bank(self._prepared(known, order))
        return self._bank, places, back, sampling

    def _rows_of_table(self, graph: Graph, mask: Any) -> tuple[list[str], list[str | None] | None]:
        """Return the ids and the parts of the nodes under a mask."""
        places = mask_of(mask, graph, None).nonzero().flatten().tolist()
        ids, parts = graph.ids(), self.parts_of(graph)
        return [ids[i] for i in places], None if parts is None else [parts[i] for i in places]

    def _order_of(self, graph: Graph) -> Order | None:
        """Return the canonical order of a graph, once for that of the fit: 3 s at 100,000 nodes.

        None keeps the user's order, as for folders of version 0.1.0.
        """
        if self.order_ is None:
            return None
        if graph is not self.graph_:
            return self.order_.order_of(graph)
        if self._order is None:
            self._order = self.order_.order_of(graph)
        return self._order

    def _prepared(self, graph: Graph, order: Order | None) -> PreparedGraph:
        """Prepare a graph as in the fit; folders of version 0.1.0 keep the user's order."""
        cache = self.rows_ is None
        if order is None or self.order_ is None:
            return prepare(graph, transform=self.transform_, cache=cache)
        ordered = order.apply(graph)
        return self.order_.align(
            prepare_in_order(ordered, order, transform=self.transform_, cache=cache)
        )

    def _new_bank(self, prepared: PreparedGraph) -> GraphBank:
        """Build the bank of a graph, with raw columns and expert predictions as in the fit."""
        device = next(self.model_.parameters()).device
        return bank_of(prepared, device, like=self.scaling_, experts=self.experts_)


def _corpus_novelty(ids: list[str], graph: Graph) -> dict[str, dict[str, float]]:
    """Position of a graph among the graphs of a corpus that the catalog lists."""
    entries = Catalog.read().entries if ids else {}
    return graph_novelty(graph, [entries[i] for i in ids if i in entries])
