"""Predictions of a fitted classifier: probabilities, novelty and prediction sets.

Shapes:
    Q  nodes asked for   C  classes
"""

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
from graphfm.fitting.inference import Neighborhood, check_answers, run_nodes
from graphfm.machine import one_thread_if_small
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """All predictions of a fitted classifier for some nodes.

    Args:
        proba: Calibrated probabilities, (Q, C).
        uncalibrated: Probabilities at temperature 1, (Q, C).
        novelty: Novelty of each node, (Q,), see :class:`StateCloud`; NaN if unknown.
        sets: Classes of each prediction set, (Q, C) bool; None without a coverage.
        filled: True for sets that were empty and got the likeliest class, (Q,) bool; None without
            sets.
    """

    proba: np.ndarray
    uncalibrated: np.ndarray
    novelty: np.ndarray
    sets: np.ndarray | None = None
    filled: np.ndarray | None = None

    def take(self, rows: np.ndarray, classes: np.ndarray) -> Answers:
        """Return the predictions of some nodes, with the classes in another order."""
        return Answers(
            proba=self.proba[rows][:, classes],
            uncalibrated=self.uncalibrated[rows][:, classes],
            novelty=self.novelty[rows],
            sets=None if self.sets is None else self.sets[rows][:, classes],
            filled=None if self.filled is None else self.filled[rows],
        )

    def __repr__(self) -> str:
        sets = "" if self.sets is None else f", sets of {self.sets.sum(axis=1).mean():.2f} classes"
        return f"Answers({len(self.proba):,} nodes, {self.proba.shape[1]:,} classes{sets})"


@one_thread_if_small(1)
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
    """Predict probabilities, novelty and prediction sets in one pass over the nodes.

    Args:
        model: Fitted model; its graph is the first of the bank.
        bank: Bank that holds the graph.
        nodes: Indices of the nodes, (Q,).
        calibration: Calibration of the fit.
        coverage: Share of sets that contain the true class; None makes no sets.
        seed: Seed of the fit.
        num_neighbors: Number of sampled neighbors T.
        max_context: Largest number of nodes that the encoder reads.
        num_context: The encoder reads only among this many first nodes. Default: among all.
    """
    share = 0.0 if coverage is None else calibration.smoothing
    around = Neighborhood.of(bank, nodes, seed, num_neighbors if share else 0)
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
    check_answers(proba)
    sets, filled = None, None
    if coverage is not None:
        bound = threshold(calibration.scores, check_coverage(coverage))
        if math.isinf(bound):
            log.warning(
                "every prediction set contains every class: a coverage of %g needs at least %d "
                "calibration nodes (half of the validation nodes), and the fit had %d",
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
