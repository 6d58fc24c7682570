"""The command ``graphfm evaluate``: score a fitted model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.inputs import DirectedOption, GraphOption, NodesOption, UnknownLikeFitOption
from graphfm.cli.terminal import next_step, note, pairs, show, show_json, unused
from graphfm.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from graphfm.benchmark.scores import Scores
    from graphfm.estimator import GraphFMRegressor
    from graphfm.graphs.graph import Graph


class Part(StrEnum):
    """Nodes to score the model on."""

    TEST = "test"
    VAL = "val"
    TRAIN = "train"
    ALL = "all"


def evaluate(
    model: Annotated[Path, typer.Option(help="Folder written by `graphfm finetune`.")],
    graph: GraphOption,
    target: Annotated[
        str | None,
        typer.Option(help="Column of the true labels. Default: that of the fit."),
    ] = None,
    nodes: NodesOption = None,
    directed: DirectedOption = None,
    unknown_nodes: UnknownLikeFitOption = None,
    on: Annotated[
        Part,
        typer.Option(help="Nodes to score: a part of the split of the fit, or all labelled nodes."),
    ] = Part.TEST,
    coverage: Annotated[
        float, typer.Option(help="Share of prediction sets that should contain the true class.")
    ] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score a fitted model: accuracy with its 95% interval, calibration, prediction sets.

    The expected calibration error uses 15 bins with equal numbers of nodes. It is given after and
    before temperature scaling.

    For a continuous target: RMSE, MAE and R2 with bootstrap intervals, compared with predicting
    the mean.

    For an OGB graph, the score of OGB's own Evaluator is added if the package ogb is installed.
    """
    from graphfm.benchmark.class_order import (
        add_unknown_columns,
        count_unknown,
        match_classes,
    )
    from graphfm.benchmark.scores import scores, set_scores
    from graphfm.cli.fitted import open_fitted
    from graphfm.cli.numbers import number_lines
    from graphfm.estimator import GraphFMRegressor
    from graphfm.fitting.conformal import check_coverage
    from graphfm.metrics import official_metric

    check_coverage(coverage)
    fitted, read, fit = open_fitted(
        model, graph, target, nodes=nodes, directed=directed, unknown_nodes=unknown_nodes
    )
    if read.y is None:
        raise DataError(
            "GFM131",
            "there are no labels to compare with",
            where=read.name,
            fix="name the column of the labels: --target COLUMN",
        )
    mask = _nodes(read, fit, on)
    if isinstance(fitted, GraphFMRegressor):
        found = _numbers(fitted, read, fit, mask, coverage)
        own, floor, kept = found["model"], found["mean"], found["intervals"]
        if as_json:
            floors = None if floor is None else floor.to_json()
            facts = {**own.to_json(), "mean": floors, "intervals": kept}
            show_json({"graph": graph, "on": on.value, **facts})
        else:
            lines = number_lines(own, floor, kept)
            show(f"{read.name}, {own.num_nodes:,} nodes ({on.value})\n{lines}")
        _done(fitted, read, fit, on, model=model, graph=graph, nodes=nodes)
        return
    classes = [str(c) for c in fitted.classes_]
    y, unknown = match_classes(read, classes)
    answers = fitted.answer(read, coverage=coverage)
    assert answers.sets is not None
    proba, before, sets_of = (
        add_unknown_columns(v, unknown) for v in (answers.proba, answers.uncalibrated, answers.sets)
    )
    result = scores(proba, y, mask, uncalibrated=before)
    sets = set_scores(sets_of, y, mask, coverage=coverage)
    not_known = count_unknown(y, mask, classes, unknown)
    official = official_metric(read.name, y[mask].numpy(), proba[mask.numpy()])
    if as_json:
        beside = {} if official is None else {"official": dict([official])}
        facts = {**result.to_json(), "temperature": fitted.temperature_, "sets": sets}
        facts["unseen_classes"] = not_known
        show_json({"graph": graph, "on": on.value, **facts, **beside})
    else:
        show(f"{read.name}, {result.num_nodes:,} nodes ({on.value})")
        show(class_lines(result, sets, official))
    _done(fitted, read, fit, on, model=model, graph=graph, nodes=nodes)


def class_lines(result: Scores, sets: dict[str, Any], official: tuple[str, float] | None) -> str:
    """Return the scores that ``graphfm evaluate`` prints for classes.

    Args:
        result: Scores of the model.
        sets: Result of :func:`graphfm.benchmark.scores.set_scores`.
        official: Name and value of the score of OGB's Evaluator; None for other graphs.
    """
    lines = {
        result.metric.replace("_", " "): (
            f"{result.main:.3f}  (95% interval {result.low:.3f}-{result.high:.3f})"
        ),
        "macro F1": f"{result.macro_f1:.3f}",
    }
    if result.balanced_accuracy is not None:
        lines["balanced accuracy"] = f"{result.balanced_accuracy:.3f}"
    if result.roc_auc is not None:
        lines["ROC-AUC"] = f"{result.roc_auc:.3f}"
    lines["Brier score"] = f"{result.brier:.3f}"
    lines["calibration error"] = (
        f"{result.ece:.3f}  ({result.ece_uncalibrated:.3f} before calibration)"
    )
    lines[f"sets at {sets['asked']:.0%}"] = (
        f"{sets['coverage']:.1%} contain the true class, {sets['mean_size']:.2f} classes on "
        f"average, {sets['one_class']:.1%} have exactly one class"
    )
    if official is not None:
        lines["OGB's Evaluator"] = f"{official[0]} {official[1]:.4f}"
    return pairs(lines)


def _numbers(
    fitted: GraphFMRegressor, read: Graph, fit: dict[str, Any], mask: Tensor, coverage: float
) -> dict[str, Any]:
    """Return the scores of the model, of predicting the training mean, and of the intervals."""
    from graphfm.baselines.numbers import mean
    from graphfm.benchmark.number_scores import interval_scores, number_scores
    from graphfm.graphs.labels import as_numbers

    read = as_numbers(read)
    assert read.y is not None
    values = fitted.answer(read, coverage=coverage)
    floor = None
    if fit.get("nodes", {}).get("train") or read.train_mask is not None:
        train = _nodes(read, fit, Part.TRAIN)
        if bool((train & read.labelled).any()):
            floor = number_scores(mean(read, train), read.y, mask)
    return {
        "model": number_scores(values.values, read.y, mask),
        "mean": floor,
        "intervals": interval_scores(values, read.y, mask, coverage=coverage),
    }


def _done(
    fitted: Any,
    read: Graph,
    fit: dict[str, Any],
    on: Part,
    *,
    model: Path,
    graph: str,
    nodes: Path | None,
) -> None:
    """Print warnings and the next command."""
    from graphfm.cli.audit import warn_if_seen

    warn_if_seen(read, fitted.not_judged_on_)
    if on is Part.ALL and fit:
        note("the model learned from some of these nodes: expect lower scores on new nodes")
    flags = ["--nodes", nodes] if nodes else []
    next_step(
        "graphfm predict --out", unused("preds.csv"), "--model", model, "--graph", graph, *flags
    )


def _nodes(graph: Graph, fit: dict[str, Any], on: Part) -> Tensor:
    """Return the nodes to score, (N,) bool. They are found by id, so their order may differ."""
    import torch

    if on is Part.ALL:
        return torch.ones(graph.num_nodes, dtype=torch.bool)
    named = fit.get("nodes", {}).get(on.value)
    if named is None:
        own: Tensor | None = getattr(graph, f"{on.value}_mask")
        if own is None:
            raise DataError(
                "GFM131",
                f"neither the model nor the graph has a list of its {on.value} nodes",
                fix="score all labelled nodes with --on all",
            )
        return own
    if not named:
        raise DataError(
            "GFM131",
            f"the fit kept no {on.value} nodes: it learned from all labels, or its split had none",
            fix="finetune without --refit-all and with another --split keeps some; --on all scores "
            "all labelled nodes, also those that the model learned from",
        )
    wanted = set(named)
    return torch.tensor([name in wanted for name in graph.ids()])
