"""Intervals that hold the true number as often as was asked for.

Split conformal prediction with the absolute residual as score (Lei, G'Sell, Rinaldo, Tibshirani,
Wasserman 2018, JASA, "Distribution-free predictive inference for regression", algorithm 2): the
prediction plus and minus one quantile of the residuals of validation nodes that fitted nothing. If
these and the nodes asked about are exchangeable, an interval holds its number with at least the
coverage, on average over draws of the calibration nodes. All intervals are equally wide.

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
from graphfm.fitting.inference import run_nodes
from graphfm.graphs.graph import labelled_nodes
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import subsample
from graphfm.training.state_cloud import StateCloud

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Values:
    """All that a fitted model says of some nodes, in the unit of the target.

    Args:
        values: (Q,) float64 predictions.
        novelty: (Q,) see :class:`StateCloud`; NaN where it is not known.
        low: (Q,) lower end of each interval; None = no coverage was asked for.
        high: (Q,) upper end.
    """

    values: np.ndarray
    novelty: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


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
    """Learn the residuals of validation nodes and the cloud of states.

    Args:
        model: Fitted; its one graph is the bank's first.
        bank: Holds the graph.
        train: Places of nodes it has learned from.
        fit: Places of the validation nodes that may choose something.
        held: Places of those that may not.
        seed: Of neighbors.
        **sampling: ``num_neighbors`` and ``max_context``.
    """
    name = bank.names[0]
    y = bank.y[name].cpu()
    known = labelled_nodes(y)
    fit, held = (subsample(nodes[known[nodes]], MAX_NODES, seed=seed) for nodes in (fit, held))
    how = {"seed": seed, **sampling}
    residuals, off_train = torch.zeros(0, dtype=torch.float64), torch.zeros(0)
    if len(held):
        logits, off_train = run_nodes(model, bank, held, Tensor.cpu, **how)
        given = model.head(name).values(logits.to(bank.device)).cpu()
        residuals = (given - y[held]).abs().sort().values
    else:
        log.warning(
            "no node is left to calibrate intervals on (that takes %d labelled validation nodes): "
            "they will reach from -inf to inf", MIN_VALIDATION,
        )  # fmt: skip
        if len(fit):
            off_train = run_nodes(model, bank, fit, Tensor.cpu, **how)[1]
    _, reference = run_nodes(model, bank, subsample(train, MAX_NODES, seed=seed), Tensor.cpu, **how)
    return Calibration(
        num_nodes=len(fit),
        scores=residuals,
        cloud=StateCloud.of(reference, off_train) if len(off_train) else None,
    )


def answer_values(
    model: GraphFM | Ensemble,
    bank: GraphBank,
    nodes: Tensor,
    calibration: Calibration,
    *,
    coverage: float | None,
    **sampling: Any,
) -> Values:
    """Predictions, novelty and, with a coverage, intervals of some nodes, in one pass over them.

    Args:
        model: Fitted; its one graph is the bank's first.
        bank: Holds the graph.
        nodes: (Q,) places.
        calibration: Of the fit.
        coverage: Share of intervals that shall hold the true number; None = no intervals.
        **sampling: As in :func:`graphfm.fitting.inference.decoded_tiles`.

    Raises:
        DataError: GFM180 for a coverage that is none.
    """
    cloud = calibration.cloud

    def novelty_of(states: Tensor) -> Tensor:
        return torch.full((len(states),), torch.nan) if cloud is None else cloud.novelty(states)

    logits, novelty = run_nodes(model, bank, nodes, novelty_of, **sampling)
    head = model.head(bank.names[0])
    values = head.values(logits.to(bank.device)).cpu().numpy()
    if coverage is None:
        return Values(values=values, novelty=novelty.numpy())
    bound = threshold(calibration.scores, check_coverage(coverage))
    if math.isinf(bound):
        log.warning(
            "every interval reaches from -inf to inf: a coverage of %g needs at least %d "
            "calibration nodes (half of the validation nodes), the fit had %d",
            coverage, nodes_needed(coverage), len(calibration.scores),
        )  # fmt: skip
    return Values(values=values, novelty=novelty.numpy(), low=values - bound, high=values + bound)
