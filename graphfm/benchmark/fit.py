"""Fit one model on one split, predict the test nodes and measure the cost.

Shapes:
    N  nodes   Q  test nodes   C  classes
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from graphfm.baselines.gcn import NO_FEATURES
from graphfm.baselines.peers import fit_peer
from graphfm.benchmark.models import ANCHOR, STATES, Competitor
from graphfm.checkpoint.folder import Checkpoint
from graphfm.config.recipe import ModelConfig
from graphfm.fitting.answers import answer
from graphfm.fitting.budget import Budget
from graphfm.fitting.cost import flops_of
from graphfm.fitting.descent import DEPTHS
from graphfm.fitting.finetune import MAX_STEPS, finetune
from graphfm.fitting.fitted import Fitted
from graphfm.fitting.probe import SAMPLING, adopt, answer_by_states, bank_of
from graphfm.fitting.sizes import sizes_of
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.graph import Graph
from graphfm.model.graphfm import GraphFM


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Predictions of one fit and its cost.

    Args:
        proba: Probabilities of the test nodes, (Q, C).
        seconds: Processor time of all fits, the search and the prediction, in seconds. With one
            thread it equals the wall time of an idle machine, and a busy machine does not change
            it.
        wall_seconds: Wall time of the same, in seconds.
        fit_seconds: Wall time of one fit with the chosen settings, in seconds. Default: unknown.
        val_score: Score on the validation nodes. Default: none.
        settings: Chosen settings.
        trials: Number of fits.
        flops: Estimated floating point operations. Default: unknown.
    """

    proba: np.ndarray
    seconds: float
    wall_seconds: float
    fit_seconds: float | None = None
    val_score: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    trials: int = 1
    flops: float | None = None


def measure(
    competitor: Competitor,
    graph: Graph,
    prepared: PreparedGraph,
    *,
    checkpoint: Checkpoint | str | None,
    seed: int,
    steps: int = MAX_STEPS,
    trials: int = 0,
    settings: Mapping[str, Any] | None = None,
    search_seconds: float | None = None,
    max_seconds: float | None = None,
    metric: str = "accuracy",
) -> Measured:
    """Fit a model to the training nodes and predict the test nodes.

    Args:
        competitor: The model.
        graph: Graph with its split, without the labels of the test nodes.
        prepared: The prepared graph, for graphfm's models; preparing it is timed separately.
        checkpoint: The pretrained model, or its folder. None uses the default shape of the package.
        seed: Seed of initial weights, order of nodes and random search.
        steps: Maximum number of gradient steps of graphfm's models.
        trials: Maximum number of trials of a search.
        settings: Settings of a peer from an earlier search. Default: search, or the defaults.
        search_seconds: Time limit of a search after its first ten trials, in seconds. Default:
            none.
        max_seconds: Time limit in seconds: no trial and no step begins later. Default: none.
        metric: Metric that a search maximizes on validation nodes.

    Raises:
        GraphFMError: If the model cannot be fitted.
    """
    assert graph.train_mask is not None and graph.test_mask is not None
    test_nodes = graph.test_mask.nonzero().flatten()
    if competitor.own:
        model = pretrained_model(checkpoint, seed=seed if competitor.random else None)
    timer = _Timer()
    if not competitor.own:
        found = fit_peer(
            competitor.kind,
            graph,
            graph.train_mask,
            graph.val_mask,
            seed=seed,
            trials=trials if competitor.tuned else 0,
            settings=None if settings is None else dict(settings),
            search_seconds=search_seconds,
            max_seconds=max_seconds,
            metric=metric,
        )
        return Measured(
            proba=found.proba[test_nodes.numpy()],
            **timer.read(),
            fit_seconds=found.seconds_of_best,
            val_score=found.val_score if np.isfinite(found.val_score) else None,
            settings=found.settings,
            trials=found.trials,
            flops=_gcn_flops(graph, found.settings) if competitor.name == ANCHOR else None,
        )
    if competitor.kind == STATES:
        return Measured(proba=_on_states(model, graph, prepared, test_nodes, seed), **timer.read())
    fitted = finetune(
        prepared,
        model,
        train_mask=graph.train_mask,
        val_mask=graph.val_mask,
        tune=competitor.kind,  # type: ignore[arg-type]
        max_steps=steps if competitor.steps is None else competitor.steps,
        budget=Budget(max_seconds),
        pool=not competitor.alone,
        seed=seed,
    )
    assert fitted.bank is not None
    predictions = answer(
        fitted.model,
        fitted.bank,
        test_nodes,
        fitted.calibration,
        coverage=None,
        seed=seed,
        **SAMPLING,
    )
    return Measured(
        proba=predictions.proba,
        **timer.read(),
        fit_seconds=fitted.seconds,
        val_score=fitted.val_score,
        settings={
            "depth": fitted.tune,
            "step": fitted.best_step,
            "state_weight": fitted.state_weight,
            "cut_short": list(fitted.cut_short),
        },
        flops=_own_flops(graph, prepared, model, fitted),
    )


def pretrained_model(checkpoint: Checkpoint | str | None, *, seed: int | None) -> GraphFM:
    """Load the pretrained model; with a seed, build one of its shape with random weights."""
    if seed is None:
        assert checkpoint is not None, "a pretrained model has a folder"
        return _loaded(checkpoint)
    if checkpoint is None:
        return GraphFM(ModelConfig(), seed=seed)
    return GraphFM.from_config(_loaded(checkpoint).config(), seed=seed)


@lru_cache(maxsize=1)
def _loaded(checkpoint: Checkpoint | str) -> GraphFM:
    return GraphFM.from_checkpoint(checkpoint)


def _on_states(
    model: GraphFM, graph: Graph, prepared: PreparedGraph, test_nodes: torch.Tensor, seed: int
) -> np.ndarray:
    """Probabilities of the test nodes by a linear model on node states, (Q, C)."""
    assert graph.train_mask is not None
    bank = bank_of(prepared, torch.device("cpu"))
    own = adopt(model, prepared, bank)
    nodes = (graph.train_mask & graph.labelled).nonzero().flatten()
    proba: np.ndarray = answer_by_states(own, bank, nodes, test_nodes, seed=seed).exp().numpy()
    return proba


def _own_flops(graph: Graph, prepared: PreparedGraph, model: GraphFM, fitted: Fitted) -> float:
    """Estimate FLOPs of probe, gradient steps and calibration; the prediction is not counted."""
    assert graph.train_mask is not None
    val = graph.train_mask & False if graph.val_mask is None else graph.val_mask
    sizes = sizes_of(
        prepared,
        model,
        num_train=int((graph.train_mask & graph.labelled).sum()),
        num_val=int((val & graph.labelled).sum()),
        pool=fitted.experts is not None,
    )
    probe = flops_of(sizes, model, DEPTHS[:1], max_steps=0)
    deeper = [t for t in fitted.tried if t.depth != DEPTHS[0]]
    return probe + sum(
        flops_of(sizes, model, (t.depth,), max_steps=t.steps) - probe for t in deeper
    )


def _gcn_flops(graph: Graph, settings: Mapping[str, Any]) -> float:
    """Estimate FLOPs of a GCN of two layers.

    Backward costs twice the forward pass, except for the features, which need no gradient.
    Validation adds one forward pass per epoch.
    """
    x = graph.x
    if x is None:
        filled = graph.num_nodes * NO_FEATURES
    else:
        filled = x.numel() if isinstance(x, torch.Tensor) else x.nnz
    width, edges = settings["width"], graph.num_edges + graph.num_nodes
    inputs = 2 * filled * width
    rest = 2 * (edges * (width + graph.num_classes) + graph.num_nodes * width * graph.num_classes)
    return float(settings["epochs"] * (3 * inputs + 4 * rest))


class _Timer:
    """Processor time and wall time since its construction, in seconds."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, Any]:
        return {
            "seconds": time.process_time() - self.cpu,
            "wall_seconds": time.perf_counter() - self.wall,
        }
