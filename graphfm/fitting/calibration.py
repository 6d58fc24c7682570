"""Calibration of probabilities (temperature) and of prediction sets (conformal thresholds).

Validation nodes are halved: one half chooses the step and fits the temperature, the other half is
used for nothing but the thresholds (``conformal``).

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

from graphfm.checkpoint.checks import in_range
from graphfm.fitting.conformal import (
    choose_smoothing,
    class_scores,
    smooth,
    true_scores,
)
from graphfm.fitting.ensemble import Ensemble
from graphfm.fitting.inference import Neighborhood, run_nodes
from graphfm.graphs.splits import stable_hash
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import subsample
from graphfm.training.state_cloud import StateCloud

log = logging.getLogger(__name__)

# With fewer, half of them are too few for a coverage of 0.9 (nodes_needed(0.9) = 9), so all of them
# choose the step and fit the temperature.
MIN_VALIDATION = 18
MAX_NODES = 2048  # in each half: the coverage of a fit then varies by 0.7 points
# Width of the prior on log temperature. Over 15 graphs the temperature that is best on test nodes
# has a standard deviation of 0.04 at depth probe (already calibrated by leave-one-out) and 0.05 at
# depth decoder. This prior is far wider, so that 100 nodes can correct a head. Without a prior, 18
# nodes of webkb-texas give 0.80, and a test loss of 0.47 instead of 0.38.
PRIOR_WIDTH = 0.25
MAX_REFERENCE = 512  # reference nodes of a cloud of states, which has 96 dimensions
MAX_CHOICE = 512  # nodes that choose the smoothing; with their neighbors they take 2 s
FEW = 30  # nodes; with fewer the prior outweighs them, and a warning says so


def no_scores() -> Tensor:
    """Return an empty tensor of scores."""
    return torch.zeros(0, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Values that a fit learned from validation nodes; the defaults are those without any.

    Args:
        temperature: Divisor of the logits.
        num_nodes: Number of nodes that the temperature was fitted on.
        smoothing: Share of the neighbors in conformal scores.
        scores: Conformal scores of the true classes of the calibration nodes, (n,), ascending; for
            a number, absolute residuals.
        cloud: Cloud of the node states, for novelty; None if unknown.
    """

    temperature: float = 1.0
    num_nodes: int = 0
    smoothing: float = 0.0
    scores: Tensor = field(default_factory=no_scores)
    cloud: StateCloud | None = None

    def config(self) -> dict[str, Any]:
        """Return the plain values, for a checkpoint."""
        return {k: getattr(self, k) for k in ("temperature", "num_nodes", "smoothing")}

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors, for a checkpoint."""
        cloud = {} if self.cloud is None else {f"cloud.{k}": v for k, v in vars(self.cloud).items()}
        return {"scores": self.scores, **cloud}

    @classmethod
    def from_parts(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Calibration:
        """Build a calibration from the results of :meth:`config` and :meth:`tensors`.

        Raises:
            CheckpointError: GFM302 for a number out of its range.
        """
        in_range("calibration.temperature", config.get("temperature", 1.0), 1e-6)
        in_range("calibration.num_nodes", config.get("num_nodes", 0), 0)
        in_range("calibration.smoothing", config.get("smoothing", 0.0), 0, 1)
        cloud = {k.removeprefix("cloud."): v for k, v in tensors.items() if k != "scores"}
        return cls(**config, scores=tensors["scores"], cloud=StateCloud(**cloud) if cloud else None)


def split_validation(ids: Sequence[str], *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Halve the validation nodes by a hash of their ids.

    Args:
        ids: Ids of the validation nodes.
        seed: Seed of the hash.

    Returns:
        Positions in ``ids`` of the nodes that choose step and temperature, and of those that
        calibrate, ascending. The second is empty with fewer than :data:`MIN_VALIDATION` ids.
    """
    order = np.argsort(stable_hash([f"calibration {i}" for i in ids], seed=seed), kind="stable")
    half = len(order) - num_choosing(len(order))
    return np.sort(order[half:]), np.sort(order[:half])


def num_choosing(num_val: int) -> int:
    """Return how many of the validation nodes choose step and temperature; the rest calibrate."""
    return num_val - num_val // 2 if num_val >= MIN_VALIDATION else num_val


def fit_temperature(logits: Tensor, y: Tensor, head: nn.Module) -> float:
    """Fit the temperature of highest posterior (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    ``min_t sum_v nll(logits_v / e^t, y_v) + t^2 / (2 s^2)`` with s = :data:`PRIOR_WIDTH`. With few
    nodes it stays near 1; with nodes that are all predicted right it does not fall to 0. For
    several labels a node, nll is the mean over its labels, which are not independent.

    Args:
        logits: Logits, (Q, C).
        y: Classes (Q,) or labels (Q, C).
        head: Head of the model, for its loss.
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
    """Fit temperature, smoothing, conformal scores and the cloud of states.

    Args:
        model: Fitted model; its graph is the first of the bank.
        bank: Bank that holds the graph.
        train: Indices of the training nodes.
        fit: Indices of the validation nodes that fit temperature and smoothing.
        held: Indices of the validation nodes that are used for the thresholds only.
        seed: Seed of neighbors.
        num_neighbors: Number of sampled neighbors T.
        max_context: Largest number of nodes that the encoder reads.
    """
    name = bank.names[0]
    head, y = model.head(name), bank.y[name].cpu()
    known = y >= 0 if y.ndim == 1 else (y >= 0).all(dim=1)
    fit, held = (subsample(nodes[known[nodes]], MAX_NODES, seed=seed) for nodes in (fit, held))
    _warn_few_nodes(len(fit), len(held))
    sampling = {"seed": seed, "num_neighbors": num_neighbors, "max_context": max_context}

    # Temperature; some of its nodes, with their neighbors, choose the smoothing.
    choosing = subsample(fit, MAX_CHOICE, seed=[seed, 1])
    around = Neighborhood.of(bank, choosing, seed, num_neighbors, beside=fit)
    logits, states = run_nodes(model, bank, around.nodes, Tensor.cpu, **sampling)
    at_fit = torch.searchsorted(around.nodes, fit)
    temperature = fit_temperature(logits[at_fit], y[fit], head)
    smoothing = 0.0
    if len(choosing):
        scores = class_scores(head.probabilities(logits / temperature))
        smoothing = choose_smoothing(scores, *around.places, y[choosing])
    off_train = states[at_fit]

    # Conformal scores, on nodes that were used for nothing else.
    if len(held):
        around = Neighborhood.of(bank, held, seed, num_neighbors if smoothing else 0)
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


def _warn_few_nodes(num_fit: int, num_held: int) -> None:
    """Warn if there are too few validation nodes for the temperature or for prediction sets."""
    if num_fit == 0:
        log.warning("no labelled validation node: probabilities are not calibrated (temperature 1)")
    elif num_fit < FEW:
        log.warning("temperature fitted on only %d validation nodes: it stays near 1", num_fit)
    if num_held == 0:
        log.warning(
            "too few validation nodes to calibrate prediction sets (%d labelled ones are needed): "
            "each set will contain every class", MIN_VALIDATION,
        )  # fmt: skip
