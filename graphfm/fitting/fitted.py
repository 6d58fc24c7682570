"""Result of a fit: the model and what belongs to it, and a summary as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from graphfm.experts.pool import Experts
from graphfm.fitting.calibration import Calibration
from graphfm.fitting.depth import Trial
from graphfm.fitting.descent import Depth
from graphfm.fitting.ensemble import Ensemble
from graphfm.graphs.features.multihop import Scaling
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """Results of a fit that are plain data.

    A folder of an earlier version lacks some keys; they get the default.

    Args:
        best_step: Gradient steps at the best validation score; 0 = the probe.
        corpus_novelty: Position of the graph among the graphs of the pretraining corpus, by size,
            degree, features and classes; empty if the corpus is unknown.
        cut_short: Depths, steps and members that the time limit left out, one sentence each.
        far_states: Share of nodes whose pretrained state lies farther from the corpus than 95% of
            the corpus' own held-out nodes; None if the checkpoint does not say.
        fit_seconds: Duration of the fit, in seconds.
        history: Loss of each step, and loss and score of each evaluation, of the first member.
        members: Number of ensemble members.
        tried: Depths that were tried, the probe first: depth, validation score, steps, seconds.
        tune: Depth of the fit.
        tune_reason: Reason for this depth.
        val_score: Validation score of the chosen step; None without validation nodes.
        weights: Name of the pretrained weights; ``random`` for none, ``given`` for a ``GraphFM``
            without a name.
    """

    # In the order of the keys in config.json.
    best_step: int = 0
    corpus_novelty: dict[str, dict[str, float]] = field(default_factory=dict)
    cut_short: list[str] = field(default_factory=list)
    far_states: float | None = None
    fit_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    members: int = 1
    tried: list[dict[str, Any]] = field(default_factory=list)
    tune: str = ""
    tune_reason: str = ""
    val_score: float | None = None
    weights: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the values by name, for ``config.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> FitSummary:
        """Read the values from a mapping that may hold other keys too."""
        return cls(**{f.name: saved[f.name] for f in fields(cls) if f.name in saved})


@dataclass(kw_only=True)
class Fitted:
    """A fitted model and everything that belongs to it.

    Args:
        model: Trunk with one adapter and one head, both named :data:`TARGET`; an ``Ensemble`` for
            several members.
        tune: Depth of the fit.
        tune_reason: Reason for this depth.
        tried: Trials, the probe first.
        history: Loss of each step, and loss and score of each evaluation, of the first member at
            the chosen depth.
        best_step: Gradient steps at the best validation score; 0 = the probe.
        val_score: Validation score there; None without validation nodes.
        seconds: Duration of the fit, in seconds.
        state_weight: Weight of the node states beside the raw features in the closed form.
        calibration: Temperature, conformal scores and novelty, learned from validation nodes.
        scaling: Scaling of the raw columns, to be reused for other graphs.
        experts: Experts whose predictions the head pools; None for a linear head.
        members: Number of ensemble members.
        cut_short: Depths, steps and members that the time limit left out, one sentence each.
        bank: Bank of the fit. Training nodes have held-out expert predictions in it; for all other
            nodes it gives the same predictions as a new bank.
        far_states: Share of nodes whose pretrained state lies farther from the corpus than 95% of
            the corpus' own held-out nodes; None without a ``corpus``.
    """

    model: GraphFM | Ensemble
    tune: Depth = "probe"
    tune_reason: str = ""
    tried: list[Trial] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    val_score: float | None = None
    seconds: float = 0.0
    state_weight: float = 0.0
    calibration: Calibration = field(default_factory=Calibration)
    scaling: Scaling | None = None
    experts: Experts | None = None
    members: int = 1
    cut_short: list[str] = field(default_factory=list)
    bank: GraphBank | None = None
    far_states: float | None = None

    def summary(self, *, weights: str, corpus_novelty: dict[str, dict[str, float]]) -> FitSummary:
        """Return the results that are plain data.

        Args:
            weights: Name of the pretrained weights.
            corpus_novelty: Position of the graph among those of the pretraining corpus.
        """
        names = ("best_step", "cut_short", "far_states", "history", "members", "tune",
                 "tune_reason", "val_score")  # fmt: skip
        return FitSummary(
            **{name: getattr(self, name) for name in names},
            fit_seconds=self.seconds,
            tried=[trial.to_json() for trial in self.tried],
            weights=weights,
            corpus_novelty=corpus_novelty,
        )
