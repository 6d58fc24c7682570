"""Learn to be read by a closed-form head: what a fit does, inside the step.

The targets of each graph are dealt to a few folds. A ridge is solved on the states of all folds but
one, and judged on that one; the gradient goes through the solve (Bertinetto et al. 2019, arXiv
1805.08136). No weight belongs to a dataset: what a state must have is what a new head can use.

With ``beside: raw`` the ridge reads the raw multi-hop features too, as it does in a fit: the state
then learns what they do not say.

Strength of the ridge and scale of its scores are chosen as in a fit, by leave-one-out on the nodes
it is solved on, and are constants of the step.

Shapes:
    Q  targets   B  graphs   P  columns that the ridge reads   C  classes of an episode
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
from graphfm.training.objectives.supervised import BALANCE, balanced

SCALES = torch.linspace(-2.0, 5.0, 22).exp()  # of scores; each is 1.4 times the one before
LAMBDAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)  # half as dense as a fit's: a scale is shared
DOUBT = (
    1.0  # nodes of no known label that a scale must do justice to: few nodes do not make it sure
)
UNIFORM = 1.0  # loss of a graph whose episodes have nothing to judge


class Config(PartConfig):
    """How an episode is made."""

    kind: Literal["episodic"] = "episodic"
    balance: Literal["graph", "target", "sqrt"] = "graph"
    """graph = every graph alike, target = every target alike, sqrt = between."""
    folds: int = Field(default=4, ge=2)
    """Parts that a graph's targets are dealt to; each is judged by the ridge of the others."""
    beside: Literal["none", "raw"] = "raw"
    """What the ridge reads beside the state: nothing, or raw multi-hop features, as in a fit."""

    @property
    def reads_raw(self) -> bool:
        """Whether batches must hold raw multi-hop features."""
        return self.beside == "raw"

    def build(self) -> Objective:
        """The objective."""
        return Objective(BALANCE[self.balance], folds=self.folds, beside=self.reads_raw)


class Objective:
    """See the module.

    A graph that a plan cuts over several batches has an episode in each: its loss then depends on
    how it is cut, for a ridge of fewer nodes is another. Graphs that are not cut are not affected.

    Args:
        power: A graph with n targets weighs n to this power.
        folds: Parts of a graph's targets.
        beside: Whether the ridge reads raw columns beside the state.
    """

    reads_taught = True

    def __init__(self, power: float, *, folds: int, beside: bool):
        self.power, self.folds, self.beside = power, folds, beside

    def __call__(
        self, model, batch, totals: Mapping[str, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Loss of a step, or a batch's share of it.

        Args:
            model: A GraphFM.
            batch: A GraphBatch with labels.
            totals: As of :class:`graphfm.training.objectives.supervised.Objective`.

        Returns:
            The loss, a scalar, over log C: 1 = the uniform guess; and the mean loss of each graph,
            (B,), without gradient.

        Raises:
            DataError: GFM214 for a graph whose nodes do not have one class of several.
        """
        states = model.embed(batch)
        losses = []
        for columns, y in zip(self._columns(model, batch, states), batch.y, strict=True):
            fold = torch.arange(len(y), device=y.device) % self.folds  # targets come shuffled
            told = [
                episode(columns[fold != f], y[fold != f], columns[fold == f], y[fold == f])[0]
                for f in range(self.folds)
            ]
            losses.append(_mean(torch.cat(told), columns))
        # Also where no episode has anything to judge, there is a gradient: of zero.
        per_graph = torch.stack(losses)
        loss = balanced(per_graph, batch, totals, self.power) + 0 * states.sum()
        return loss, per_graph.detach()

    def judge(self, model, batch, taught) -> list[tuple[Tensor, Tensor]]:
        """Loss and probabilities (Q_b, C_b) of each graph of a batch, B pairs.

        Args:
            model: A GraphFM, in evaluation mode.
            batch: A GraphBatch with labels: the nodes to judge on.
            taught: Of the same graphs, the nodes that the ridges are solved on.
        """
        found = []
        fitted = self._columns(model, taught, model.embed(taught))
        asked = self._columns(model, batch, model.embed(batch))
        for name, known, x, y_known, y in zip(
            batch.names, fitted, asked, taught.y, batch.y, strict=True
        ):
            losses, said, classes = episode(known, y_known, x, y)
            told = x.new_zeros(len(y), model.specs[name].task.num_classes)
            told[:, classes] = said.to(told.dtype)
            found.append((_mean(losses, x), told))
        return found

    def flops(self, model, batch) -> int:
        """Of the ridges of a batch, solved and differentiated, and their strengths chosen."""
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
        """What the ridge of each graph reads, B times (Q_b, P_b) float64."""
        found = []
        for name, own, raw in zip(batch.names, states.split(batch.sizes), batch.raw, strict=True):
            kind = model.specs[name].task.kind
            if kind != "classify":
                raise DataError(
                    "GFM214",
                    f"the episodic objective learns from one class of several, this is {kind}",
                    where=name,
                    why="its loss is the cross-entropy of a ridge on one-hot labels",
                    fix=f"data.exclude=[{name}], or objective.kind=supervised",
                )
            columns = own.double()
            if self.beside:
                assert raw is not None, "the corpus makes raw columns where an objective reads them"
                # A mean square of 1, as each raw block has: the state is to count by what it says.
                columns = columns / columns.square().mean().sqrt().clamp(min=1e-6)
                columns = torch.cat([columns, raw.double()], dim=1)
            found.append(columns)
        return found


def episode(
    known: Tensor, y_known: Tensor, asked: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve a ridge on some nodes and judge it on others, whose labels only the loss reads.

    Args:
        known: (n, P) columns.
        y_known: (n,) classes, -1 = not known.
        asked: (Q, P) columns.
        y: (Q,).

    Returns:
        Losses over log C of the nodes whose class the ridge has seen, (at most Q,); probabilities
        (Q, C); and the classes that it has seen, (C,). Without two of them there is no loss.
    """
    there = y_known >= 0
    known, y_known = known[there], y_known[there]
    classes, place = y_known.unique(return_inverse=True)
    if len(classes) < 2:
        return asked.new_zeros(0), asked.new_ones(len(asked), len(classes)), classes
    targets = F.one_hot(place, len(classes)).to(known.dtype)
    with torch.no_grad():
        fit = fit_ridge(known.detach(), targets, lambdas=LAMBDAS)
        held_out = fit.held_out.to(known.dtype)
        scales = SCALES.to(held_out)
        nats = (scales[:, None, None] * held_out).log_softmax(dim=2)
        rows = torch.arange(len(place), device=place.device)
        told = nats[:, rows, place].sum(dim=1) + DOUBT * nats.mean(dim=(1, 2))
        scale = scales[told.argmax()]
    said = (scale * predict_ridge(known, targets, asked, lam=fit.lam)).log_softmax(dim=1)
    at = torch.searchsorted(classes, y).clamp(max=len(classes) - 1)
    seen = classes[at] == y
    losses = F.nll_loss(said[seen], at[seen], reduction="none") / math.log(len(classes))
    return losses, said.exp(), classes


def _mean(losses: Tensor, like: Tensor) -> Tensor:
    """Of losses, as float32; :data:`UNIFORM` of none."""
    mean = losses.mean() if len(losses) else like.new_tensor(UNIFORM)
    return mean.float()
