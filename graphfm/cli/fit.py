"""Fit, save and compare a model: the work that ``finetune`` and ``demo`` share."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.cli.terminal import note, pairs

if TYPE_CHECKING:
    from graphfm.benchmark.scores import Scores
    from graphfm.benchmark.verdict import Comparison
    from graphfm.estimator import GraphFMClassifier, GraphFMRegressor
    from graphfm.graphs.graph import Graph
    from graphfm.graphs.readers.options import ReadGraph


COVERAGE = 0.9  # coverage of the prediction sets and intervals that are reported
MANY_FAR = 0.5  # share of far nodes from which on a graph is called unlike the corpus
FAR = 3.0  # standard deviations from the corpus mean from which on a property is reported


def fit(read: ReadGraph, *, out: Path, asked: dict[str, Any], device: str) -> dict[str, Any]:
    """Fit a model, save it, and compare it with the baselines.

    Args:
        read: The graph with its split, and how its file was read.
        out: Folder to save the model to; what it holds is replaced after the fit.
        asked: Options of the fit: ``from``, ``tune``, ``max_steps``, ``max_time``, ``ensemble``,
            ``refit_all`` and ``seed``; saved in ``split.json`` with everything else that the
            dictionary has.
        device: Device to compute on.

    Returns:
        ``model``, the fitted estimator; ``scores``, the test scores by method, None without test
        nodes; ``json``, the facts of the fit as plain data.
    """
    from graphfm.cli.audit import warn_if_seen
    from graphfm.estimator import GraphFMClassifier, GraphFMRegressor

    given = ("tune", "max_steps", "max_time", "ensemble")
    chosen = {name: asked[name] for name in given if asked.get(name) is not None}
    whole = read.graph
    assert whole.y is not None and whole.test_mask is not None
    estimator = GraphFMRegressor if whole.task.kind == "regress" else GraphFMClassifier
    chosen |= {"random_state": asked["seed"], "device": device, "verbose": sys.stderr.isatty()}
    model = estimator(asked["from"], **chosen)
    began = time.perf_counter()
    model.fit(read)
    seconds = time.perf_counter() - began
    limit = asked.get("max_time")
    scores: Comparison[Any] | None = None
    coverage: dict[str, Any] = {}
    if bool((whole.test_mask & whole.labelled).any()):
        left = None if limit is None else limit - seconds
        scores, coverage = _test_scores(model, whole, max_gcn_seconds=left)
    else:
        note("no labelled test nodes: the fit is kept, but it has no score")
        coverage = {"intervals" if model.TASK == "regress" else "sets": None}
    if isinstance(model, GraphFMClassifier):
        coverage["temperature"] = model.temperature_
    warn_if_seen(whole, model.not_judged_on_)
    if asked.get("refit_all"):
        began = time.perf_counter()
        model.refit_all()
        seconds += time.perf_counter() - began
        note(
            f"fitted again on all {int(whole.labelled.sum()):,} labels (--refit-all): the saved "
            "model is this fit; scores and calibration are those of the fit before"
        )
    facts = {
        "weights": model.weights_,
        "fit_seconds": seconds,
        "depth": model.tune_,
        "tune_reason": model.tune_reason_,
        "tried": model.tried_,
        "members": model.members_,
        "cut_short": model.cut_short_,
        "best_step": model.best_step_,
        "val_score": model.val_score_,
        "calibration_nodes": len(model.calibration_.scores),
        **coverage,
        "corpus_novelty": model.corpus_novelty_,
        "far_states": model.far_states_,
        "metric": scores["graphfm"].to_json() if scores else None,
        "test": {name: s.to_json() for name, s in (scores or {}).items()},
        "verdict": scores.verdict if scores else None,
    }
    save_fit(model, out, {**asked, **facts})
    return {"model": model, "scores": scores, "json": facts}


def _test_scores(
    model: GraphFMClassifier | GraphFMRegressor, graph: Graph, *, max_gcn_seconds: float | None
) -> tuple[Comparison[Any], dict[str, Any]]:
    """Return the test scores by method, and the scores of the sets or intervals."""
    from graphfm.benchmark.number_scores import interval_scores
    from graphfm.benchmark.scores import set_scores
    from graphfm.estimator import GraphFMRegressor

    assert graph.y is not None and graph.test_mask is not None
    test = (graph.y, graph.test_mask)
    if isinstance(model, GraphFMRegressor):
        values = model.answer(graph, coverage=COVERAGE)
        found = interval_scores(values, *test, coverage=COVERAGE)
        return model.compare(graph, predictions=values), {"intervals": found}
    answers = model.answer(graph, coverage=COVERAGE)
    assert answers.sets is not None
    sets = set_scores(answers.sets, *test, coverage=COVERAGE)
    compared = model.compare(graph, predictions=answers, max_gcn_seconds=max_gcn_seconds)
    return compared, {"sets": sets}


def save_fit(model: GraphFMClassifier | GraphFMRegressor, out: Path, facts: dict[str, Any]) -> None:
    """Write the model, its split and its metrics; the whole folder appears at once.

    Raises:
        OutputError: GFM801 if the folder cannot be written; an existing folder stays as it was.
    """
    from graphfm.errors import OutputError
    from graphfm.estimator.saved import save_fitted
    from graphfm.storage import whole_folder
    from graphfm.training.metrics_log import MetricsLog

    try:
        with whole_folder(out.resolve()) as folder:
            save_fitted(model, folder, facts=facts)
            log = MetricsLog(folder)
            for record in model.history_:
                metrics = {k: v for k, v in record.items() if k != "step"}
                log.write("train" if "loss" in record else "eval", int(record["step"]), metrics)
            log.close()
    except OSError as error:
        raise OutputError(
            "GFM801",
            f"the fitted model could not be written: {error}",
            where=str(out),
            fix="make room or choose another --out",
        ) from None


def calibration_lines(own: Scores, facts: dict[str, Any]) -> str:
    """Return two lines: calibration of the probabilities, coverage of the prediction sets.

    Args:
        own: Test scores of the fitted model.
        facts: Facts of the fit, with ``temperature`` and ``sets``.
    """
    before = (
        "" if own.ece_uncalibrated is None else f" ({own.ece_uncalibrated:.3f} before calibration)"
    )
    sets = facts["sets"]
    return pairs(
        {
            "calibration error": (
                f"{own.ece:.3f}{before}, Brier {own.brier:.3f}, "
                f"temperature {facts['temperature']:.2f}"
            ),
            "prediction sets": (
                f"{sets['coverage']:.1%} contain the true class (requested: {sets['asked']:.0%}), "
                f"{sets['mean_size']:.2f} classes on average"
            ),
        },
        indent="",
    )


def warn_if_unlike_corpus(
    corpus_novelty: dict[str, dict[str, float]], far_states: float | None
) -> None:
    """Warn if a graph differs much from the graphs that the model was pretrained on.

    Args:
        corpus_novelty: The estimator's ``corpus_novelty_``.
        far_states: The estimator's ``far_states_``.
    """
    if far_states is not None and far_states > MANY_FAR:
        note(
            f"unlike the pretraining graphs: {far_states:.0%} of the nodes are farther from them "
            "than 95% of their own nodes; predictions may be less accurate"
        )
    for name, place in corpus_novelty.items():
        if abs(place["z"]) > FAR:
            note(
                f"unlike the pretraining graphs: {place['value']:,.4g} {name}, "
                f"{abs(place['z']):.1f} standard deviations "
                f"{'above' if place['z'] > 0 else 'below'} their mean"
            )
