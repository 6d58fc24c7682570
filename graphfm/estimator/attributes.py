"""Attributes that an estimator has after a fit, or after it was loaded from a folder."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from graphfm.experts.pool import Experts
from graphfm.fitting.calibration import Calibration
from graphfm.fitting.ensemble import Ensemble
from graphfm.fitting.fit_order import FitOrder
from graphfm.fitting.fitted import FitSummary
from graphfm.graphs.features.multihop import Scaling
from graphfm.graphs.features.transform import FeatureTransform
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.options import Reading
from graphfm.model.graphfm import GraphFM


def _summary_value(name: str) -> Any:
    """Read-only attribute of an estimator: a value of its ``summary_``."""
    return property(lambda estimator: getattr(estimator.summary_, name))


class FittedAttributes:
    """Fitted attributes of both estimators; plain results of the fit are read from ``summary_``."""

    calibration_: Calibration
    experts_: Experts | None
    graph_: Graph | None
    graph_name_: str
    model_: GraphFM | Ensemble
    not_judged_on_: list[str]
    order_: FitOrder | None
    reading_: Reading | None
    rows_: Tensor | None
    scaling_: Scaling | None
    split_: dict[str, list[str]]
    summary_: FitSummary
    transform_: FeatureTransform

    # Documented in FitSummary.
    best_step_ = _summary_value("best_step")
    corpus_novelty_ = _summary_value("corpus_novelty")
    cut_short_ = _summary_value("cut_short")
    far_states_ = _summary_value("far_states")
    fit_seconds_ = _summary_value("fit_seconds")
    history_ = _summary_value("history")
    members_ = _summary_value("members")
    tried_ = _summary_value("tried")
    tune_ = _summary_value("tune")
    tune_reason_ = _summary_value("tune_reason")
    val_score_ = _summary_value("val_score")
    weights_ = _summary_value("weights")
