"""Prediction intervals with a guaranteed coverage, for a continuous target.

Split conformal prediction with the absolute residual as score (Lei, G'Sell, Rinaldo, Tibshirani,
Wasserman 2018, JASA, "Distribution-free predictive inference for regression", algorithm 2): the
prediction plus and minus one quantile of the residuals of calibration nodes. If these and the nodes
to predict are exchangeable, an interval contains its number with at least the coverage, on average
over draws of the calibration nodes. All intervals have the same width.

Shapes:
    Q  nodes asked for   D  width   n  calibration nodes
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphfm.fitting.calibration import MAX_NODES, MIN_VALIDATION, Calibration
from graphfm.fitting.conformal import check_coverage, nodes_needed, threshold
from graphfm.fitting.ensemble import Ensemble
from graphfm.fitting.inference import check_answers, run_nodes
from graphfm.graphs.graph import labelled_nodes
from graphfm.machine import one_thread_if_small
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import subsample
from graphfm.training.state_cloud import StateCloud

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Values:
    """All predictions of a fitted regressor for some nodes, in the unit of the target.

    Args:
        values: Predictions, (Q,) float64.
        novelty: Novelty of each node, (Q,), see :class:`StateCloud`; NaN if unknown.
        low: Lower end of each interval, (Q,); None without a coverage.
        high: Upper end of each interval, (Q,); None without a coverage.
    """

    values: np.ndarray
    novelty: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Values:
        """Return the predictions of some nodes."""
        return Values(
            values=self.values[rows],
            novelty=self.novelty[rows],
            low=None if self.low is None else self.low[rows],
            high=None if self.high is None else self.high[rows],
        )

    def __repr__(self) -> str:
        low, high = self.values.min(), self.values.max()
        return f"Values({len(self.values):,} nodes, {low:.4g} to {high:.4g})"


def calibrate_values(
    model: GraphFM | Ensemble,
    bank: GraphBank,
    *,
    train: Tensor,
    fit: Tensor,
    held: Tensor,
    seed: int,
    **sampling: Any,
) -> Calibration:
    """Compute the residuals of calibration nodes and the cloud of states.

    Args:
        model: Fitted model; its graph is the first of the bank.
        bank: Bank that holds the graph.
        train: Indices of the training nodes.
        fit: Indices of the validation nodes that chose step and depth.
        held: Indices of the validation nodes that are used for the intervals only.
        seed: Seed of neighbors.
        **sampling: ``num_neighbors`` and ``max_context``.
    """
    name = bank.names[0]
    y = bank.y[name].cpu()
    known = labelled_nodes(y)
    fit, held = (subsample(nodes[known[nodes]], MAX_NODES, seed=seed) for nodes in (fit, held))
    options = {"seed": seed, **sampling}
    residuals, off_train = torch.zeros(0, dtype=torch.float64), torch.zeros(0)
    if len(held):
        logits, off_train = run_nodes(model, bank, held, Tensor.cpu, **options)
        predicted = model.head(name).values(logits.to(bank.device)).cpu()
        residuals = (predicted - y[held]).abs().sort().values
    else:
        log.warning(
            "too few validation nodes to calibrate intervals (%d labelled ones are needed): each "
            "interval will reach from -inf to inf", MIN_VALIDATION,
        )  # fmt: skip
        if len(fit):
            off_train = run_nodes(model, bank, fit, Tensor.cpu, **options)[1]
    _, reference = run_nodes(
        model, bank, subsample(train, MAX_NODES, seed=seed), Tensor.cpu, **options
    )
    return Calibration(
        num_nodes=len(fit),
        scores=residuals,
        cloud=StateCloud.of(reference, off_train) if len(off_train) else None,
    )


@one_thread_if_small(1)
def answer_values(
    model: GraphFM | Ensemble,
    bank: GraphBank,
    nodes: Tensor,
    calibration: Calibration,
    *,
    coverage: float | None,
    **sampling: Any,
) -> Values:
    """Predict numbers, novelty and intervals in one pass over the nodes.

    Args:
        model: Fitted model; its graph is the first of the bank.
        bank: Bank that holds the graph.
        nodes: Indices of the nodes, (Q,).
        calibration: Calibration of the fit.
        coverage: Share of intervals that contain the true number; None makes no intervals.
        **sampling: Keywords of :func:`graphfm.fitting.inference.decoded_tiles`.

    Raises:
        DataError: GFM180 if the coverage is out of range.
    """
    cloud = calibration.cloud

    def novelty_of(states: Tensor) -> Tensor:
        return torch.full((len(states),), torch.nan) if cloud is None else cloud.novelty(states)

    logits, novelty = run_nodes(model, bank, nodes, novelty_of, **sampling)
    head = model.head(bank.names[0])
    predicted = head.values(logits.to(bank.device)).cpu()
    check_answers(predicted)
    values = predicted.numpy()
    if coverage is None:
        return Values(values=values, novelty=novelty.numpy())
    bound = threshold(calibration.scores, check_coverage(coverage))
    if math.isinf(bound):
        log.warning(
            "every interval reaches from -inf to inf: a coverage of %g needs at least %d "
            "calibration nodes (half of the validation nodes), and the fit had %d",
            coverage, nodes_needed(coverage), len(calibration.scores),
        )  # fmt: skip
    return Values(values=values, novelty=novelty.numpy(), low=values - bound, high=values + bound)
