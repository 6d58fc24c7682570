"""TODO: graphfm/fitting/answers.py, from graphfm/fitting/calibration.py."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphfm.fitting.calibration import Calibration
from graphfm.fitting.conformal import (
    check_coverage,
    class_scores,
    nodes_needed,
    sets_of,
    smooth,
    threshold,
)
from graphfm.fitting.ensemble import Ensemble
from graphfm.fitting.inference import _Neighbors, run_nodes
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """All that a fitted model says of some nodes.

    Args:
        proba: (Q, C) calibrated probabilities.
        uncalibrated: (Q, C) those at temperature 1.
        novelty: (Q,) see :class:`StateCloud`; NaN where it is not known.
        sets: (Q, C) bool, classes of each prediction set; None = no coverage was asked for.
        filled: (Q,) bool, sets that were empty and got the likeliest class; None without sets.
    """

    proba: np.ndarray
    uncalibrated: np.ndarray
    novelty: np.ndarray
    sets: np.ndarray | None = None
    filled: np.ndarray | None = None


def answer(
    model: GraphFM | Ensemble,
    bank: GraphBank,
    nodes: Tensor,
    calibration: Calibration,
    *,
    coverage: float | None,
    seed: int,
    num_neighbors: int,
    max_context: int,
    num_context: int | None = None,
) -> Answers:
    """Probabilities, novelty and, with a coverage, sets of some nodes, in one pass over them.

    Args:
        model: Fitted; its one graph is the bank's first.
        bank: Holds the graph.
        nodes: (Q,) places.
        calibration: Of the fit.
        coverage: Share of sets that shall hold the true class; None = no sets.
        seed: Of the fit.
        num_neighbors: T.
        max_context: Nodes that the encoder reads.
        num_context: It reads of the first so many only; None = of all.
    """
    share = 0.0 if coverage is None else calibration.smoothing
    around = _Neighbors.of(bank, nodes, seed, num_neighbors if share else 0)
    cloud = calibration.cloud
    logits, novelty = run_nodes(
        model,
        bank,
        around.nodes,
        (lambda states: torch.full((len(states),), torch.nan)) if cloud is None else cloud.novelty,
        seed=seed,
        num_neighbors=num_neighbors,
        max_context=max_context,
        num_context=num_context,
    )
    name = bank.names[0]
    head = model.head(name)
    several = model.specs[name].task.kind == "multilabel"
    proba = head.probabilities(logits / calibration.temperature)
    sets, filled = None, None
    if coverage is not None:
        bound = threshold(calibration.scores, check_coverage(coverage))
        if math.isinf(bound):
            log.warning(
                "every set holds every class: a coverage of %g needs at least %d calibration nodes "
                "(half of the validation nodes), the fit had %d",
                coverage, nodes_needed(coverage), len(calibration.scores),
            )  # fmt: skip
        mixed = smooth(class_scores(proba), *around.places, share)
        sets = sets_of(mixed, bound, fill=not several).numpy()
        filled = (sets & ~sets_of(mixed, bound, fill=False).numpy()).any(axis=1)
    rows = around.rows
    return Answers(
        proba=proba[rows].numpy(),
        uncalibrated=head.probabilities(logits[rows]).numpy(),
        novelty=novelty[rows].numpy(),
        sets=sets,
        filled=filled,
    )
