"""Experts: several closed-form classifiers of one graph, weighted by their held-out loss.

``graphfm.model.heads.classify.ExpertHead`` pools their predictions. Linear experts are ridges on
different columns; one expert is boosted trees; others are shares of the known labels in reach. For
training nodes, an expert returns its held-out prediction.

Shapes:
    N  nodes   Q  nodes asked for   n  nodes with known labels   E  experts   C  classes
    R  raw columns   P  columns of one expert
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.checkpoint.checks import FIX, in_range
from graphfm.errors import CheckpointError
from graphfm.experts import trees
from graphfm.experts.columns import KERNEL, NARROW, READ_LABELS, TREES, View
from graphfm.experts.same_graph import describe_nodes, edge_hash, match_labels
from graphfm.experts.scaled_ridge import ScaledRidge, fit_scaled_ridge
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.sampling.batch import subsample

log = logging.getLogger(__name__)

MAX_FIT_NODES = 8000  # of a ridge: 1,000 columns then take 1.5 s
MAX_LOG_PROBS = 250_000_000  # numbers for all nodes, 1 GB; larger graphs are fitted without experts
MAX_EXPERTS = 11  # the head's own ridge included
TEMPERATURES = tuple(2.0 ** (k / 2) for k in range(-2, 12))
FLOOR = -9.0  # smaller log-probabilities are cut


@dataclass(frozen=True, kw_only=True, eq=False)
class Experts:
    """Experts fitted to one graph.

    Args:
        names: Name of each expert, (E,).
        fits: Tensors of the fitted experts, by name.
        held_out: Held-out loss of each expert over log C, (E,); 1 = the uniform guess.
        temperature: Factor of each expert's scores, (E,).
        scale: Divisors of the column blocks, centre and length of the kernel's rows, and
            ``structure``, the hash of the graph's edges.
        known: ``y`` (n,), the known labels, and what their nodes are recognised by
            (:func:`~graphfm.experts.same_graph.describe_nodes`).
        best: Fitted expert of least held-out loss among those that read no label. Its predictions
            stand for the unknown labels of neighbors.
        num_classes: Number of classes C.
        seed: Seed of folds and frequencies.
    """

    names: tuple[str, ...]
    fits: Mapping[str, Mapping[str, Tensor]]
    held_out: Tensor
    temperature: Tensor
    scale: Mapping[str, Tensor]
    known: Mapping[str, Tensor]
    best: str
    num_classes: int
    seed: int

    @property
    def power(self) -> float | None:
        """Power of the feature axes, as the narrow experts chose it; None without features."""
        return float(self.scale["power"]) if "power" in self.scale else None

    def config(self) -> dict[str, Any]:
        """Return the plain values, for a checkpoint."""
        plain = {"best": self.best, "num_classes": self.num_classes, "seed": self.seed}
        return {"names": list(self.names), **plain}

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors, for a checkpoint."""
        groups = {"known": self.known, "scale": self.scale}
        groups |= {f"fits.{name}": fit for name, fit in self.fits.items()}
        flat = {f"{group}.{key}": t for group, of in groups.items() for key, t in of.items()}
        return {"held_out": self.held_out, "temperature": self.temperature, **flat}

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> Experts:
        """Build experts from the results of :meth:`config` and :meth:`tensors`.

        Raises:
            CheckpointError: GFM302 for parts that do not belong together.
        """
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, _, key = name.rpartition(".")
            groups.setdefault(group, {})[key] = tensor
        fits = {k.removeprefix("fits."): v for k, v in groups.items() if k.startswith("fits.")}
        names, temperature = list(config["names"]), groups[""]["temperature"]
        for key in ("num_classes", "seed"):
            in_range(f"estimator.experts.{key}", config[key], 0, 2**63, whole=True)
        if len(names) != len(temperature) or not {config["best"], *fits} <= {*names}:
            raise CheckpointError(
                "GFM302",
                f"estimator.experts.names: expected {len(temperature)} names, among them "
                f"{', '.join(sorted(fits))}; got {str(names)[:200]}",
                where="config.json",
                fix=FIX,
            )
        if not (temperature > 0).all():
            raise CheckpointError(
                "GFM302", "temperature: expected positive numbers", where="experts.safetensors"
            )
        return cls(
            names=tuple(names),
            best=config["best"],
            num_classes=config["num_classes"],
            seed=config["seed"],
            held_out=groups[""]["held_out"],
            temperature=temperature,
            fits=fits,
            scale=groups["scale"],
            known=groups["known"],
        )

    def columns(self, graph: PreparedGraph, raw: Tensor) -> Tensor:
        """Return the columns that a head reads behind the raw ones, for every node of a graph.

        Known labels are used where the graph has the nodes of the fit (``same_graph``). Without
        them, experts that read labels do not answer.

        Args:
            graph: The graph of the fit, or another one with its feature columns.
            raw: Raw multi-hop features of the graph, (N, R).

        Returns:
            Log-probabilities, (N, E C); NaN for experts that do not answer.
        """
        known = match_labels(graph, self.known, self.scale["structure"])
        classes = _in_order(self.known["y"], self.num_classes)
        view = View.of(graph, raw, known, classes, self.seed, self.scale)
        temperature = dict(zip(self.names, self.temperature.tolist(), strict=True))
        log_probs: dict[str, Tensor] = {}
        for name, fit in self.fits.items():
            if view.can_answer(name):
                scores = view.predict(name, _predictor(name, fit, classes))
                log_probs[name] = log_probabilities(scores, temperature[name])
        if view.label_shares is not None and self.best in log_probs:
            for name, scores in _label_scores(view, log_probs[self.best]).items():
                if name in temperature:
                    log_probs[name] = log_probabilities(scores, temperature[name])
        missing = torch.full((graph.num_nodes, self.num_classes), torch.nan)
        return torch.cat([log_probs.get(name, missing) for name in self.names], dim=1)


def too_large(num_nodes: int, num_classes: int) -> bool:
    """True if a graph has too many nodes and classes for experts."""
    return num_nodes * MAX_EXPERTS * num_classes > MAX_LOG_PROBS


def fit_experts(
    graph: PreparedGraph,
    raw: Tensor,
    nodes: Tensor,
    *,
    num_classes: int,
    seed: int,
    with_trees: bool = True,
) -> tuple[Experts, Tensor] | None:
    """Fit all experts, and return them with their columns for the graph.

    Args:
        graph: The graph; only the labels of ``nodes`` are read.
        raw: Raw multi-hop features, (N, R).
        nodes: Indices of the nodes with known labels, (n,).
        num_classes: Number of classes C.
        seed: Seed of folds and frequencies, and of the sample where there are too many nodes.
        with_trees: Also grow boosted trees, which have no closed form and take longer.

    Returns:
        The experts, and their columns (N, E C) as :meth:`Experts.columns` returns them, with
        held-out predictions for the training nodes. None, with a warning, for too large a graph.
    """
    if too_large(graph.num_nodes, num_classes):
        text = "%s: %d nodes of %d classes are too many for experts: the ridge on node states and "
        log.warning(text + "raw features predicts alone", graph.name, graph.num_nodes, num_classes)
        return None
    assert graph.y is not None
    y = graph.y[nodes]
    known = torch.full((graph.num_nodes,), -1)
    known[nodes] = y
    classes = _in_order(y, num_classes)
    view = View.of(graph, raw, known, classes, seed, {})
    fits: dict[str, Mapping[str, Tensor]] = {}
    log_probs: dict[str, Tensor] = {}
    losses: dict[str, float] = {}
    temperature: dict[str, float] = {}
    ridges: dict[str, ScaledRidge] = {}

    def add_expert(name: str, scores: Tensor, rows: Tensor) -> None:
        temperature[name], losses[name] = choose_temperature(scores[rows], known[rows])
        log_probs[name] = log_probabilities(scores, temperature[name])

    for name in view.fitted_names():
        rows = subsample(nodes, trees.MAX_ROWS if name == TREES else MAX_FIT_NODES, seed=seed)
        if name == TREES:
            if not (with_trees and trees.can_grow(len(rows), num_classes)):
                continue
            fits[name], held_out = _fit_trees(view, rows, classes)
        else:
            ridges[name] = _fit_ridge(name, view, rows, classes, ridges)
            fit = ridges[name].fit
            fits[name], held_out = {"weight": fit.weight, "bias": fit.bias}, fit.held_out
        scores = view.predict(name, _predictor(name, fits[name], classes))
        scores[rows] = held_out
        add_expert(name, scores, rows)
    # An expert that reads labels would pass a node's own label on to its neighbors and back.
    best = min((name for name in losses if name not in READ_LABELS), key=losses.__getitem__)
    if view.label_shares is not None:
        for name, scores in _label_scores(view, log_probs[best]).items():
            add_expert(name, scores, nodes)
    assert len(log_probs) < MAX_EXPERTS
    experts = Experts(
        names=tuple(log_probs),
        fits=fits,
        held_out=torch.tensor(list(losses.values())),
        temperature=torch.tensor(list(temperature.values())),
        scale={**view.scale, "structure": edge_hash(graph)},
        known={"y": y, **describe_nodes(graph, nodes)},
        best=best,
        num_classes=num_classes,
        seed=seed,
    )
    return experts, torch.cat(list(log_probs.values()), dim=1)


def _label_scores(view: View, best: Tensor) -> dict[str, Tensor]:
    """Scores (N, C) of the experts that only average labels and predictions, by name."""
    return {**view.share_scores(), **view.neighbor_scores(best)}


def _fit_ridge(
    name: str, view: View, rows: Tensor, classes: Tensor, before: Mapping[str, ScaledRidge]
) -> ScaledRidge:
    """Fit a ridge on the columns of some nodes; narrow experts choose the power for wide ones."""
    narrow = [before[n] for n in NARROW if n in before]
    powers = None
    if narrow and name not in NARROW:
        powers = (min(narrow, key=lambda one: one.fit.error).power,)
        view.scale["power"] = torch.tensor(powers)
    columns = view.columns(name, rows)
    targets = F.one_hot(view.known[rows], len(classes)).double()
    feature_map = view.kernel_features if name == KERNEL else None
    found = fit_scaled_ridge(
        columns,
        targets,
        view.axes,
        powers=powers,
        feature_map=feature_map,
        **view.feature_blocks(name),
    )
    if name == KERNEL:
        view.keep_kernel_scale(columns, found.gain)
    return found


def _fit_trees(view: View, rows: Tensor, classes: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
    """Grow boosted trees on some nodes; return them and their held-out scores, (n, C)."""
    place = classes.argsort()  # of each class in the order in which labels come
    columns, y = view.columns(TREES, rows), place[view.known[rows]]
    grown, held_out = trees.grow(columns, y, len(classes), seed=view.seed)
    return grown, held_out[:, place]


def _predictor(name: str, fit: Mapping[str, Tensor], classes: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from a fitted expert's columns to its scores, (Q, P) -> (Q, C)."""
    if name != TREES:
        return lambda columns: columns @ fit["weight"] + fit["bias"]
    return lambda columns: trees.predict(fit, columns, len(classes))[:, classes.argsort()]


def _in_order(y: Tensor, num_classes: int) -> Tensor:
    """Classes in the order in which labels come, (C,), whatever their numbers."""
    first = torch.full((num_classes,), len(y)).scatter_reduce(0, y, torch.arange(len(y)), "amin")
    return first.argsort(stable=True)


def choose_temperature(scores: Tensor, y: Tensor) -> tuple[float, float]:
    """Choose the factor of held-out scores (n, C); return it and the loss over log C."""
    by = scores.new_tensor(TEMPERATURES)
    log_probs = (by[:, None, None] * scores).log_softmax(dim=2).clamp(min=FLOOR)
    losses = -log_probs[:, torch.arange(len(y)), y].mean(dim=1)
    at = int(losses.argmin())
    return TEMPERATURES[at], float(losses[at]) / math.log(scores.shape[1])


def log_probabilities(scores: Tensor, by: float) -> Tensor:
    """Log-probabilities of scores times a factor, cut at FLOOR: (Q, C) -> (Q, C)."""
    return (scores * by).log_softmax(dim=1).clamp(min=FLOOR)
