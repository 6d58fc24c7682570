"""One model on one split: probabilities of the test nodes, and what they cost.

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

from graphfm.baselines.peers import answer as peer_answer
from graphfm.benchmark.models import ANCHOR, STATES, Competitor
from graphfm.config.recipe import ModelConfig
from graphfm.fitting.answers import answer
from graphfm.fitting.budget import Budget
from graphfm.fitting.cost import flops_of
from graphfm.fitting.descent import DEPTHS
from graphfm.fitting.finetune import MAX_STEPS, finetune
from graphfm.fitting.members import Fitted
from graphfm.fitting.probe import SAMPLING, adopt, answer_by_states, bank_of
from graphfm.fitting.sizes import sizes_of
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.graph import Graph
from graphfm.model.graphfm import GraphFM


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What came of a fit.

    Args:
        proba: Of the test nodes, (Q, C).
        seconds: Of the processor, for all that it takes to answer: every fit, the search, the test
            nodes. With one thread that is what an idle machine's clock would say, and a busy one
            does not change it.
        wall_seconds: By the clock.
        fit_seconds: By the clock, of one fit with the settings that were chosen.
        val_score: On the validation nodes; None where it looks at none.
        settings: What was chosen.
        trials: Fits.
        flops: Floating point operations, estimated; None where nobody counts them.
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
    start: str | None,
    seed: int,
    steps: int = MAX_STEPS,
    trials: int = 0,
    settings: Mapping[str, Any] | None = None,
    max_seconds: float | None = None,
    metric: str = "accuracy",
) -> Measured:
    """Fit a model to the training nodes and let it answer for the test nodes.

    Args:
        competitor: Which.
        graph: With its split, and without the labels of its test nodes.
        prepared: The same for ours; making it is measured apart.
        start: Folder of the pretrained model; None = the shape that the package has by itself.
        seed: Of weights, order and draws.
        steps: Gradient steps of ours at most.
        trials: Of a search.
        settings: Of a peer, chosen earlier: no search.
        max_seconds: No trial and no step begins later.
        metric: What a search looks at.

    Raises:
        GraphFMError: As the model.
    """
    assert graph.train_mask is not None and graph.test_mask is not None
    asked = graph.test_mask.nonzero().flatten()
    if competitor.own:
        model = trunk(start, seed=seed if competitor.random else None)
    clock = _Clock()
    if not competitor.own:
        said = peer_answer(
            competitor.kind,
            graph,
            graph.train_mask,
            graph.val_mask,
            seed=seed,
            trials=trials if competitor.tuned else 0,
            settings=None if settings is None else dict(settings),
            max_seconds=max_seconds,
            metric=metric,
        )
        return Measured(
            proba=said.proba[asked.numpy()],
            **clock.read(),
            fit_seconds=said.seconds_of_best,
            val_score=said.val_score if np.isfinite(said.val_score) else None,
            settings=said.settings,
            trials=said.trials,
            flops=_gcn_flops(graph, said.settings) if competitor.name == ANCHOR else None,
        )
    if competitor.kind == STATES:
        return Measured(proba=_on_states(model, graph, prepared, asked, seed), **clock.read())
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
    said_of = answer(
        fitted.model, fitted.bank, asked, fitted.calibration, coverage=None, seed=seed, **SAMPLING
    )
    return Measured(
        proba=said_of.proba,
        **clock.read(),
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


def trunk(start: str | None, *, seed: int | None) -> GraphFM:
    """The pretrained model, or one of its shape with fresh weights where a seed is given."""
    if seed is None:
        assert start is not None, "a pretrained model has a folder"
        return _loaded(start)
    if start is None:
        return GraphFM(ModelConfig(), seed=seed)
    return GraphFM.from_config(_loaded(start).config(), seed=seed)


@lru_cache(maxsize=1)
def _loaded(start: str) -> GraphFM:
    return GraphFM.from_checkpoint(start)


def _on_states(
    model: GraphFM, graph: Graph, prepared: PreparedGraph, asked: torch.Tensor, seed: int
) -> np.ndarray:
    assert graph.train_mask is not None
    bank = bank_of(prepared, torch.device("cpu"))
    own = adopt(model, prepared, bank)
    nodes = (graph.train_mask & graph.labelled).nonzero().flatten()
    said: np.ndarray = answer_by_states(own, bank, nodes, asked, seed=seed).exp().numpy()
    return said


def _own_flops(graph: Graph, prepared: PreparedGraph, model: GraphFM, fitted: Fitted) -> float:
    """Of the probe, the gradient steps that were taken and the calibration; not of the answer."""
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
    """Of two layers: forward, backward twice as much but for the features, and validation."""
    x = graph.x
    filled = (
        2 * graph.num_nodes
        if x is None
        else x.nnz
        if not isinstance(x, torch.Tensor)
        else x.numel()
    )
    width, edges = settings["width"], graph.num_edges + graph.num_nodes
    inputs = 2 * filled * width
    rest = 2 * (edges * (width + graph.num_classes) + graph.num_nodes * width * graph.num_classes)
    return float(settings["epochs"] * (3 * inputs + 4 * rest))


class _Clock:
    """What it says since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, Any]:
        return {
            "seconds": time.process_time() - self.cpu,
            "wall_seconds": time.perf_counter() - self.wall,
        }
