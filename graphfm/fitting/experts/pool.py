"""Experts: closed-form answers of several kinds about one graph, each judged by held-out labels.

The head that pools what they say is ``graphfm.model.heads.classify.ExpertHead``. Linear experts are
ridges on different columns, their strength chosen by leave-one-out; one is boosted trees; others
are shares of the labels in reach. Of a node that an expert was fitted on, it says what it would
have said without that node.

Shapes:
    N  nodes   n  nodes with known labels   E  experts   C  classes   P  columns
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.fitting.experts import trees
from graphfm.fitting.experts.columns import KERNEL, NARROW, READ_LABELS, TREES, View
from graphfm.fitting.experts.same_graph import _hashes, _look_alike, _marks, _structure
from graphfm.fitting.experts.scaled_ridge import Emphasised, fit_emphasised
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.sampling.batch import subsample

log = logging.getLogger(__name__)

MAX_FIT_NODES = 8000  # of a ridge: 1,000 columns then take 1.5 s
MAX_SAID = 250_000_000  # numbers of all nodes, 1 GB; a larger graph is answered by its head alone
MOST = 11  # experts at most, that of the state counted
TEMPERATURES = tuple(2.0 ** (k / 2) for k in range(-2, 12))
FLOOR = -9.0  # log-probabilities below are cut
SILENT = 1.0  # in place of a log-probability: an expert that has nothing to say here


@dataclass(frozen=True, kw_only=True, eq=False)
class Experts:
    """Experts that were solved on one graph.

    Args:
        names: Of each, (E,).
        fits: Tensors of the fitted ones, by name.
        held_out: (E,) loss on held-out labels over log C; 1 = the uniform guess.
        temperature: (E,) what each one's scores are multiplied by.
        scale: What blocks of columns are divided by; the kernel's centre and length; a hash of the
            graph's edges.
        known: ``y`` (n,), and of each node with a known label ``id``, the hash of its name,
            ``degree``, and ``x``, the sum of its features.
        best: The fitted one of least loss that reads no label: it speaks for neighbors whose label
            is not known.
        num_classes: C.
        seed: Of folds and frequencies.
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
        """Of the axes of features, as the narrow experts chose it; None without features."""
        return float(self.scale["power"]) if "power" in self.scale else None

    def config(self) -> dict[str, Any]:
        """The plain values, for a checkpoint."""
        plain = {"best": self.best, "num_classes": self.num_classes, "seed": self.seed}
        return {"names": list(self.names), **plain}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, for a checkpoint."""
        groups = {"known": self.known, "scale": self.scale}
        groups |= {f"fits.{name}": fit for name, fit in self.fits.items()}
        flat = {f"{group}.{key}": t for group, of in groups.items() for key, t in of.items()}
        return {"held_out": self.held_out, "temperature": self.temperature, **flat}

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> Experts:
        """What :meth:`config` and :meth:`tensors` gave."""
        groups: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, _, key = name.rpartition(".")
            groups.setdefault(group, {})[key] = tensor
        fits = {k.removeprefix("fits."): v for k, v in groups.items() if k.startswith("fits.")}
        return cls(
            names=tuple(config["names"]),
            best=config["best"],
            num_classes=config["num_classes"],
            seed=config["seed"],
            held_out=groups[""]["held_out"],
            temperature=groups[""]["temperature"],
            fits=fits,
            scale=groups["scale"],
            known=groups["known"],
        )

    def columns(self, graph: PreparedGraph, raw: Tensor) -> Tensor:
        """What a head reads of every node of a graph beside its raw columns.

        Labels count as known where the graph has the nodes that they were given to.

        Args:
            graph: The graph of the fit, or another one with its feature columns.
            raw: (N, R) its raw multi-hop features.

        Returns:
            (N, E C) log-probabilities; :data:`SILENT` of experts that have nothing to say.
        """
        known, classes = self._known_on(graph), _in_order(self.known["y"], self.num_classes)
        view = View.of(graph, raw, known, classes, self.seed, self.scale)
        temperature = dict(zip(self.names, self.temperature.tolist(), strict=True))
        said: dict[str, Tensor] = {}
        for name, fit in self.fits.items():
            if view.can_answer(name):
                answers = view.answer(name, _answering(name, fit, classes))
                said[name] = log_probabilities(answers, temperature[name])
        if view.context is not None and self.best in said:
            for name, answers in {**view.shares(), **view.neighbors_of(said[self.best])}.items():
                if name in temperature:
                    said[name] = log_probabilities(answers, temperature[name])
        silent = torch.full((graph.num_nodes, self.num_classes), SILENT)
        return torch.cat([said.get(name, silent) for name in self.names], dim=1)

    def _known_on(self, graph: PreparedGraph) -> Tensor:
        """Labels of this graph's nodes that the fit knew, (N,), -1 elsewhere."""
        known = torch.full((graph.num_nodes,), -1)
        hashes, wanted = _hashes(graph), self.known["id"].numpy()
        order = np.argsort(hashes)
        nodes = order[np.searchsorted(hashes, wanted, sorter=order).clip(max=len(order) - 1)]
        found = hashes[nodes] == wanted
        if not found.any():
            return known
        here, nodes = torch.from_numpy(found), torch.from_numpy(nodes[found])
        then = {key: v[here] for key, v in self.known.items()}
        if not (self._has_edges_of(graph) or _look_alike(_marks(graph, nodes), then)):
            log.warning(
                "%s: %d nodes are called as training nodes are, but look otherwise: no training "
                "label is used as context", graph.name, len(nodes),
            )  # fmt: skip
            return known
        known[nodes] = then["y"]
        return known

    def _has_edges_of(self, graph: PreparedGraph) -> bool:
        """Whether it is the graph of the fit, whatever became of its features."""
        return torch.equal(_structure(graph), self.scale["structure"])


def too_large(num_nodes: int, num_classes: int) -> bool:
    """Whether a graph has too many nodes and classes for experts."""
    return num_nodes * MOST * num_classes > MAX_SAID


def fit_experts(
    graph: PreparedGraph,
    raw: Tensor,
    nodes: Tensor,
    *,
    num_classes: int,
    seed: int,
    with_trees: bool = True,
) -> tuple[Experts, Tensor] | None:
    """Solve all experts; beside them, what :meth:`Experts.columns` gives, held out where it can be.

    Args:
        graph: The graph; of its labels only those of ``nodes`` are read.
        raw: (N, R) raw multi-hop features.
        nodes: (n,) places of the nodes whose labels are known.
        num_classes: C.
        seed: Of folds, of frequencies, and of the choice of nodes where there are too many.
        with_trees: Whether there is time for what has no closed form.

    Returns:
        None for a graph that is too large, with a log line.
    """
    if too_large(graph.num_nodes, num_classes):
        log.warning(
            "%s: %d nodes of %d classes are too many for experts: one closed form answers alone",
            graph.name, graph.num_nodes, num_classes,
        )  # fmt: skip
        return None
    assert graph.y is not None
    y = graph.y[nodes]
    known = torch.full((graph.num_nodes,), -1)
    known[nodes] = y
    classes = _in_order(y, num_classes)
    view = View.of(graph, raw, known, classes, seed, {})
    fits: dict[str, Mapping[str, Tensor]] = {}
    said: dict[str, Tensor] = {}
    losses: dict[str, float] = {}
    temperature: dict[str, float] = {}
    ridges: dict[str, Emphasised] = {}

    def hear(name: str, answers: Tensor, on: Tensor) -> None:
        temperature[name], losses[name] = judge_expert(answers[on], known[on])
        said[name] = log_probabilities(answers, temperature[name])

    for name in view.fitted_names():
        on = subsample(nodes, trees.MAX_ROWS if name == TREES else MAX_FIT_NODES, seed=seed)
        if name == TREES:
            if not (with_trees and trees.can_grow(len(on), num_classes)):
                continue
            fits[name], held_out = _grown(view, on, classes)
        else:
            ridges[name] = _solved(name, view, on, classes, ridges)
            fit = ridges[name].fit
            fits[name], held_out = {"weight": fit.weight, "bias": fit.bias}, fit.held_out
        answers = view.answer(name, _answering(name, fits[name], classes))
        answers[on] = held_out
        hear(name, answers, on)
    # One that reads labels has read those of a node when it speaks for that node's neighbors.
    best = min((n for n in losses if n not in READ_LABELS), key=losses.__getitem__)
    if view.context is not None:
        for name, answers in {**view.shares(), **view.neighbors_of(said[best])}.items():
            hear(name, answers, nodes)
    assert len(said) < MOST
    experts = Experts(
        names=tuple(said),
        fits=fits,
        held_out=torch.tensor(list(losses.values())),
        temperature=torch.tensor(list(temperature.values())),
        scale={**view.scale, "structure": _structure(graph)},
        known={"y": y, "id": torch.from_numpy(_hashes(graph))[nodes], **_marks(graph, nodes)},
        best=best,
        num_classes=num_classes,
        seed=seed,
    )
    return experts, torch.cat(list(said.values()), dim=1)


def _solved(
    name: str, view: View, on: Tensor, classes: Tensor, before: Mapping[str, Emphasised]
) -> Emphasised:
    """A ridge on columns of some nodes; what narrow experts chose before, a wide one has."""
    narrow = [before[n] for n in NARROW if n in before]
    powers = None
    if narrow and name not in NARROW:
        powers = (min(narrow, key=lambda one: one.fit.error).power,)
        view.scale["power"] = torch.tensor(powers)
    columns = view.columns(name, on)
    targets = F.one_hot(view.known[on], len(classes)).double()
    see = view.see if name == KERNEL else None
    found = fit_emphasised(
        columns, targets, view.axes, powers=powers, see=see, **view.features_in(name)
    )
    if name == KERNEL:
        view.keep(columns, found.gain)
    return found


def _grown(view: View, on: Tensor, classes: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
    """Boosted trees on some nodes, and what they say of each by folds, (n, C)."""
    place = classes.argsort()  # of each class in the order of coming
    columns, y = view.columns(TREES, on), place[view.known[on]]
    grown, held_out = trees.grow(columns, y, len(classes), seed=view.seed)
    return grown, held_out[:, place]


def _answering(name: str, fit: Mapping[str, Tensor], classes: Tensor) -> Callable[[Tensor], Tensor]:
    """What a fitted expert makes of its columns: (Q, P) -> (Q, C)."""
    if name != TREES:
        return lambda columns: columns @ fit["weight"] + fit["bias"]
    return lambda columns: trees.answer(fit, columns, len(classes))[:, classes.argsort()]


def _in_order(y: Tensor, num_classes: int) -> Tensor:
    """Classes in the order in which labels come, (C,): it does not depend on their numbers."""
    first = torch.full((num_classes,), len(y)).scatter_reduce(0, y, torch.arange(len(y)), "amin")
    return first.argsort(stable=True)


def judge_expert(answers: Tensor, y: Tensor) -> tuple[float, float]:
    """What to multiply held-out scores (n, C) by, and their loss then, over log C."""
    losses = {by: float(F.nll_loss(log_probabilities(answers, by), y)) for by in TEMPERATURES}
    by = min(losses, key=losses.__getitem__)
    return by, losses[by] / math.log(answers.shape[1])


def log_probabilities(answers: Tensor, by: float) -> Tensor:
    """Scores (Q, C) times a number -> log-probabilities (Q, C), cut at FLOOR."""
    return (answers * by).log_softmax(dim=1).clamp(min=FLOOR)
