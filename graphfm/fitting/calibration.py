"""Probabilities that mean what they say, sets that hold what they promise.

Validation nodes are halved: one half chooses the step and fits the temperature, the other fits
nothing and sets the thresholds (``conformal``).

Shapes:
    Q  nodes asked for   C  classes   D  width   n  calibration nodes   U  nodes and their neighbors
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from graphfm.fitting.conformal import (
    choose_smoothing,
    class_scores,
    smooth,
    true_scores,
)
from graphfm.fitting.ensemble import Ensemble
from graphfm.fitting.inference import _Neighbors, run_nodes
from graphfm.graphs.splits import stable_hash
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import subsample
from graphfm.training.state_cloud import StateCloud

log = logging.getLogger(__name__)

# Half of fewer cannot bound a set at a coverage of 0.9 (nodes_needed(0.9) = 9), so all of them
# choose the step and fit the temperature.
MIN_VALIDATION = 18
MAX_NODES = 2048  # in each part: the coverage of a fit then varies by 0.7 points, as 9 in 2,050
# Width of the prior on log temperature. Over 15 graphs the one that is best on test nodes has a
# standard deviation of 0.04 at depth probe (its scale is honest already) and 0.05 at depth decoder;
# this is far wider, so that 100 nodes mend a head that is off. Without it, 18 nodes of webkb-texas
# give 0.80 and a test loss of 0.47 in place of 0.38.
PRIOR_WIDTH = 0.25
MAX_REFERENCE = 512  # nodes that a cloud of states lies around: of 96 dimensions, shrunk
MAX_CHOICE = 512  # nodes whose neighbors are predicted too, to choose the smoothing: 2 s
FEW = 30  # nodes; below, the prior outweighs them, and the log says so


def no_scores() -> Tensor:
    """Scores of no node."""
    return torch.zeros(0, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What a fit learned from its validation nodes; the defaults are those of a fit without any.

    Args:
        temperature: Logits are divided by it.
        num_nodes: Nodes it was fitted on.
        smoothing: Share of the neighbors in conformal scores.
        scores: (n,) of the true classes of the calibration nodes, ascending.
        cloud: Where states lie; None = not known.
    """

    temperature: float = 1.0
    num_nodes: int = 0
    smoothing: float = 0.0
    scores: Tensor = field(default_factory=no_scores)
    cloud: StateCloud | None = None

    def config(self) -> dict[str, Any]:
        """The plain values, for a checkpoint."""
        return {k: getattr(self, k) for k in ("temperature", "num_nodes", "smoothing")}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, for a checkpoint."""
        cloud = {} if self.cloud is None else {f"cloud.{k}": v for k, v in vars(self.cloud).items()}
        return {"scores": self.scores, **cloud}

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Calibration:
        """What :meth:`config` and :meth:`tensors` gave."""
        cloud = {k.removeprefix("cloud."): v for k, v in tensors.items() if k != "scores"}
        return cls(**config, scores=tensors["scores"], cloud=StateCloud(**cloud) if cloud else None)


def split_validation(ids: Sequence[str], *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Halve the validation nodes by a hash of their ids: (places to fit with, to calibrate with).

    The second is empty below :data:`MIN_VALIDATION`.
    """
    order = np.argsort(stable_hash([f"calibration {i}" for i in ids], seed=seed), kind="stable")
    half = len(order) - num_choosing(len(order))
    return np.sort(order[half:]), np.sort(order[:half])


def num_choosing(num_val: int) -> int:
    """How many of so many validation nodes may fit something; the others calibrate."""
    return num_val - num_val // 2 if num_val >= MIN_VALIDATION else num_val


def fit_temperature(logits: Tensor, y: Tensor, head: nn.Module) -> float:
    """The temperature of the highest posterior (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    ``min_t sum_v nll(logits_v / e^t, y_v) + t^2 / (2 s^2)`` with s = :data:`PRIOR_WIDTH`: few nodes
    leave it near 1, and nodes that are all predicted right do not send it to 0. With several labels
    a node, nll is the mean over its labels, which are not independent.

    Args:
        logits: (Q, C).
        y: (Q,) classes or (Q, C) labels.
        head: Gives the loss.
    """
    if not len(y):
        return 1.0
    z = logits.double()
    nats = math.log(2 if y.ndim == 2 else z.shape[1])  # heads divide by it

    def loss(t: float) -> float:
        nll = nats * float(head.loss(z * math.exp(-t), y).sum())  # type: ignore[operator]
        return nll + t * t / (2 * PRIOR_WIDTH**2)

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def calibrate(
    model: GraphFM | Ensemble,
    bank: GraphBank,
    *,
    train: Tensor,
    fit: Tensor,
    held: Tensor,
    seed: int,
    num_neighbors: int,
    max_context: int,
) -> Calibration:
    """Learn temperature, smoothing, thresholds and the cloud of states.

    Args:
        model: Fitted; its one graph is the bank's first.
        bank: Holds the graph.
        train: Places of nodes it has learned from.
        fit: Places of the validation nodes that may fit something.
        held: Places of those that may not.
        seed: Of neighbors.
        num_neighbors: T.
        max_context: Nodes that the encoder reads.
    """
    name = bank.names[0]
    head, y = model.head(name), bank.y[name].cpu()
    known = y >= 0 if y.ndim == 1 else (y >= 0).all(dim=1)
    fit, held = (subsample(nodes[known[nodes]], MAX_NODES, seed=seed) for nodes in (fit, held))
    _say_what_is_missing(len(fit), len(held))
    sampling = {"seed": seed, "num_neighbors": num_neighbors, "max_context": max_context}

    # The nodes that fit, of which some tell by their neighbors how much to smooth.
    choosing = subsample(fit, MAX_CHOICE, seed=[seed, 1])
    around = _Neighbors.of(bank, choosing, seed, num_neighbors, beside=fit)
    logits, states = run_nodes(model, bank, around.nodes, Tensor.cpu, **sampling)
    at_fit = torch.searchsorted(around.nodes, fit)
    temperature = fit_temperature(logits[at_fit], y[fit], head)
    smoothing = 0.0
    if len(choosing):
        scores = class_scores(head.probabilities(logits / temperature))
        smoothing = choose_smoothing(scores, *around.places, y[choosing])
    off_train = states[at_fit]

    # The nodes that fitted nothing.
    if len(held):
        around = _Neighbors.of(bank, held, seed, num_neighbors if smoothing else 0)
        logits, states = run_nodes(model, bank, around.nodes, Tensor.cpu, **sampling)
        scores = class_scores(head.probabilities(logits / temperature))
        true = true_scores(smooth(scores, *around.places, smoothing), y[held]).sort().values
        off_train = states[around.rows]
    _, reference = run_nodes(
        model, bank, subsample(train, MAX_REFERENCE, seed=seed), Tensor.cpu, **sampling
    )
    return Calibration(
        temperature=temperature,
        num_nodes=len(fit),
        smoothing=smoothing,
        scores=true if len(held) else no_scores(),
        cloud=StateCloud.of(reference, off_train) if len(off_train) else None,
    )


def _say_what_is_missing(num_fit: int, num_held: int) -> None:
    if num_fit == 0:
        log.warning("no labelled validation node: probabilities are not calibrated, temperature 1")
    elif num_fit < FEW:
        log.warning("temperature from only %d validation nodes: it stays near 1", num_fit)
    if num_held == 0:
        log.warning(
            "no node is left to calibrate prediction sets on (that takes %d labelled validation "
            "nodes): they will hold every class", MIN_VALIDATION,
        )  # fmt: skip
