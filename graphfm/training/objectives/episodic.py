"""Episodic objective: the loss of a ridge that is solved inside the step, as a fit solves it.

    folds     the targets of a graph are split into F folds
    W_f       = argmin_W |A_f W - Y_f|^2 + lambda |W|^2      A_f, Y_f: all folds except f
    loss      = mean over f and q in fold f of  -log softmax(scale W_f a_q)[y_q] / log C

A row a_q holds the state of node q and, with ``beside: raw``, its raw multi-hop features, as in a
fit: then the state learns what these features lack. The gradient goes through the solve (Bertinetto
et al. 2019, arXiv 1805.08136). No weight belongs to one graph, so a state learns to serve a head
that is solved for a new graph. lambda and scale are chosen as in a fit, by leave-one-out on the
nodes that the ridge is solved on. They are constants of the step.

Shapes:
    B  graphs of a batch   Q  nodes to predict (Q_b: of graph b)   n  nodes that the ridge is solved
    on   P  columns that the ridge reads   C  classes
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from graphfm.config.parts import PartConfig
from graphfm.errors import DataError
from graphfm.model.nn.ridge import fit_ridge, predict_ridge
from graphfm.training.objectives.supervised import POWERS, weighted_loss

SCALES = torch.linspace(-2.0, 5.0, 22).exp()  # candidates; each is 1.4 times the one before
LAMBDAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # half as dense as in a fit: the scale makes up
PSEUDO_COUNT = 1.0  # unlabelled nodes in the choice of a scale; limits confidence with few labels
UNIFORM = 1.0  # loss over log C of a graph that has no node to predict


class Config(PartConfig):
    """Construction of episodes."""

    kind: Literal["episodic"] = "episodic"
    balance: Literal["graph", "target", "sqrt"] = "graph"
    """graph = graphs weigh the same, target = targets weigh the same, sqrt = between."""
    folds: int = Field(default=4, ge=2)
    """Number of folds of a graph's targets; the ridge of the other folds predicts each."""
    beside: Literal["none", "raw"] = "raw"
    """Columns of the ridge beside the state: none, or raw multi-hop features, as in a fit."""

    @property
    def reads_raw(self) -> bool:
        """True if batches must hold raw multi-hop features."""
        return self.beside == "raw"

    def build(self) -> Objective:
        """Build the objective."""
        return Objective(POWERS[self.balance], folds=self.folds, beside=self.reads_raw)


class Objective:
    """Loss of closed-form heads, cross-validated over the targets of each graph.

    A graph whose targets are divided over several batches has an episode in each of them. Its loss
    then depends on the division, because a ridge of fewer nodes is another ridge.

    Args:
        power: A graph with n targets has the weight n ** power.
        folds: Number of folds of a graph's targets.
        beside: If true, the ridge reads raw multi-hop features beside the state.
    """

    needs_training_nodes = True
    """True if :meth:`evaluate` needs a batch of training nodes."""

    def __init__(self, power: float, *, folds: int, beside: bool):
        self.power, self.folds, self.beside = power, folds, beside

    def __call__(
        self, model, batch, totals: Mapping[str, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of a step, or the term of one of its batches.

        Args:
            model: GraphFM.
            batch: GraphBatch with labels.
            totals: See :meth:`graphfm.training.objectives.supervised.Objective.__call__`.

        Returns:
            The loss over log C, a scalar; and the mean loss of each graph, (B,), without gradient.

        Raises:
            DataError: GFM214 for a graph whose task is not single-label classification.
        """
        states = model.embed(batch)
        losses = []
        for columns, y in zip(self._columns(model, batch, states), batch.y, strict=True):
            fold = torch.arange(len(y), device=y.device) % self.folds  # targets are shuffled
            by_fold = [
                episode(columns[fold != f], y[fold != f], columns[fold == f], y[fold == f])[0]
                for f in range(self.folds)
            ]
            losses.append(_mean(torch.cat(by_fold), columns))
        per_graph = torch.stack(losses)
        # The added zero gives the states a gradient even if no node can be predicted.
        loss = weighted_loss(per_graph, batch, totals, self.power) + 0 * states.sum()
        return loss, per_graph.detach()

    def evaluate(self, model, batch, training) -> list[tuple[Tensor, Tensor]]:
        """Return loss, a scalar, and probabilities, (Q_b, C_b), of each graph of a batch.

        Args:
            model: GraphFM in evaluation mode.
            batch: GraphBatch with labels: the nodes to predict.
            training: GraphBatch of the same graphs: the nodes that the ridges are solved on.
        """
        results = []
        known_columns = self._columns(model, training, model.embed(training))
        query_columns = self._columns(model, batch, model.embed(batch))
        for name, known, query, y_known, y in zip(
            batch.names, known_columns, query_columns, training.y, batch.y, strict=True
        ):
            losses, predicted, classes = episode(known, y_known, query, y)
            probabilities = query.new_zeros(len(y), model.specs[name].task.num_classes)
            probabilities[:, classes] = predicted.to(probabilities.dtype)
            results.append((_mean(losses, query), probabilities))
        return results

    def flops(self, model, batch) -> int:
        """Return the FLOPs of a batch beside the model: solving ridges, choosing lambda, backward.

        Args:
            model: GraphFM.
            batch: GraphBatch with labels.
        """
        total = 0
        for name, size, raw in zip(batch.names, batch.sizes, batch.raw, strict=True):
            width = model.shape.dim + (raw.shape[1] if self.beside and raw is not None else 0)
            nodes = size - size // self.folds
            small, large = sorted((nodes, width))
            classes = model.specs[name].task.num_classes
            solve = 2 * small * small * (large + classes) + small**3 // 3
            total += self.folds * (3 * solve + 2 * small * small * large + 9 * small**3)
        return total

    def _columns(self, model, batch, states: Tensor) -> list[Tensor]:
        """Return the columns that the ridge of each graph reads: B times (Q_b, P_b), float64."""
        found = []
        for name, own, raw in zip(batch.names, states.split(batch.sizes), batch.raw, strict=True):
            kind = model.specs[name].task.kind
            if kind != "classify":
                raise DataError(
                    "GFM214",
                    f"the episodic objective needs one class per node, but the task is {kind}",
                    where=name,
                    why="its loss is the cross-entropy of a ridge on one-hot labels",
                    fix=f"data.exclude=[{name}], or objective.kind=supervised",
                )
            columns = own.double()
            if self.beside:
                assert raw is not None, "the corpus makes raw columns for objectives that read them"
                # Scaled to a mean square of 1, as each raw block is: both weigh the same.
                columns = columns / columns.square().mean().sqrt().clamp(min=1e-6)
                columns = torch.cat([columns, raw.double()], dim=1)
            found.append(columns)
        return found


def episode(
    known: Tensor, y_known: Tensor, query: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve a ridge on some nodes and predict others. Only the loss reads the labels of those.

    Args:
        known: Columns of the nodes that the ridge is solved on, (n, P).
        y_known: Their classes, (n,); -1 = unlabelled.
        query: Columns of the nodes to predict, (Q, P).
        y: Their classes, (Q,).

    Returns:
        Losses over log C of the nodes whose class is among ``y_known``, (at most Q,), empty if
        there are fewer than two classes; probabilities, (Q, C); and the classes, (C,).
    """
    labelled = y_known >= 0
    known, y_known = known[labelled], y_known[labelled]
    classes, place = y_known.unique(return_inverse=True)
    if len(classes) < 2:
        return query.new_zeros(0), query.new_ones(len(query), len(classes)), classes
    targets = F.one_hot(place, len(classes)).to(known.dtype)
    with torch.no_grad():
        fit = fit_ridge(known.detach(), targets, lambdas=LAMBDAS)
        held_out = fit.held_out.to(known.dtype)
        scales = SCALES.to(held_out)
        log_probs = (scales[:, None, None] * held_out).log_softmax(dim=2)  # (22, n, C)
        rows = torch.arange(len(place), device=place.device)
        likelihood = log_probs[:, rows, place].sum(dim=1)
        likelihood = likelihood + PSEUDO_COUNT * log_probs.mean(dim=(1, 2))
        scale = scales[likelihood.argmax()]
    predicted = (scale * predict_ridge(known, targets, query, lam=fit.lam)).log_softmax(dim=1)
    at = torch.searchsorted(classes, y).clamp(max=len(classes) - 1)
    seen = classes[at] == y
    losses = F.nll_loss(predicted[seen], at[seen], reduction="none") / math.log(len(classes))
    return losses, predicted.exp(), classes


def _mean(losses: Tensor, like: Tensor) -> Tensor:
    """Return the mean of losses as float32; :data:`UNIFORM` if there are none."""
    mean = losses.mean() if len(losses) else like.new_tensor(UNIFORM)
    return mean.float()
