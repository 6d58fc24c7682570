"""``graphfm predict``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.inputs import DirectedOption, GraphOption, NodesOption, Unknown, UnknownOption
from graphfm.cli.terminal import next_step, note, show_json
from graphfm.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np

    from graphfm.graphs.graph import Graph

NUMBER_COVERAGE = 0.9  # of intervals, where --coverage does not say
SET_COLUMNS = ["set", "abstain", "novelty"]


def predict(
    model: Annotated[Path, typer.Option(help="Folder that `graphfm finetune` wrote.")],
    graph: GraphOption,
    out: Annotated[
        Path,
        typer.Option(
            help="A .csv or .parquet: id,label,probability, or id,prediction,low,high,novelty."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(help="Node attribute that was predicted; default: the one of the fit."),
    ] = None,
    nodes: NodesOption = None,
    directed: DirectedOption = None,
    unknown_nodes: UnknownOption = Unknown.ERROR,
    proba: Annotated[
        bool, typer.Option("--proba", help="Also one column per class: p_CLASS.")
    ] = False,
    coverage: Annotated[
        float | None,
        typer.Option(help="Also set, abstain, novelty: of 10 sets at 0.9, 9 hold the true class."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Predict every node of a graph.

    Where a node may have several labels, `label` holds those above one half, separated by `;`, and
    `probability` is that of just this set if the labels were independent.

    With --coverage, `set` holds the classes that a node may have, separated by `;`, so that this
    share of the sets holds the true one, among nodes like the validation nodes of the fit.
    `abstain` is true where that is not one class alone (with several labels: not `label`).
    `novelty` is the share of validation nodes whose state is nearer to the training nodes'.

    A model of a continuous target writes `prediction`, and `low` and `high` of the interval that
    holds the true number as often as --coverage says, 0.9 if it is not given.
    """
    from graphfm.cli.fitted import open_fitted
    from graphfm.cli.numbers import say_of_intervals, write_numbers
    from graphfm.cli.output import check_file
    from graphfm.estimator import GraphFMRegressor
    from graphfm.fitting.conformal import check_coverage
    from graphfm.fitting.probe import TARGET

    if coverage is not None:
        check_coverage(coverage)
    check_file(out, overwrite=overwrite)
    fitted, read, _ = open_fitted(
        model, graph, target, nodes=nodes, directed=directed, unknown_nodes=unknown_nodes
    )
    if isinstance(fitted, GraphFMRegressor):
        if proba:
            raise RecipeError("GFM209", "--proba is about classes, the model predicts a number")
        asked = NUMBER_COVERAGE if coverage is None else coverage
        said = fitted.answer(read, coverage=asked)
        write_numbers(out, read, said)
        same = read.name == fitted.graph_name_
        width = say_of_intervals(said, asked, same_graph=same, fitted_on=fitted.graph_name_)
        known = width if width < float("inf") else None
        facts = {"out": str(out), "num_nodes": read.num_nodes, "coverage": asked, "width": known}
        _done(facts, model, graph, nodes, as_json=as_json)
        return
    classes = [str(c) for c in fitted.classes_]
    several = fitted.model_.specs[TARGET].task.kind == "multilabel"
    answers = fitted.answer(read, coverage=coverage)
    more = None
    if answers.sets is not None:
        more = SetColumns(sets=answers.sets, novelty=answers.novelty)
    write_predictions(out, read, answers.proba, classes, several, proba, more)
    facts = {"out": str(out), "num_nodes": read.num_nodes, "classes": classes}
    if more is not None:
        sizes = more.sets.sum(axis=1)
        facts |= {"coverage": coverage, "mean_set_size": float(sizes.mean())}
        note(f"sets at {coverage:.0%}: {sizes.mean():.2f} classes on average")
        if read.name != fitted.graph_name_:
            note(f"they were calibrated on {fitted.graph_name_}: {coverage:.0%} is no promise here")
        if not several:
            abstained = int((sizes != 1).sum())
            facts["num_abstained"] = abstained
            note(f"{abstained:,} of {len(sizes):,} nodes have no set of one class: abstain")
        if answers.filled is not None and answers.filled.any():
            note(f"{answers.filled.sum():,} sets were empty and hold the likeliest class")
    _done(facts, model, graph, nodes, as_json=as_json)


def _done(
    facts: dict[str, Any], model: Path, graph: str, nodes: Path | None, *, as_json: bool
) -> None:
    if as_json:
        show_json(facts)
    note(f"{facts['num_nodes']:,} predictions in {facts['out']}")
    flags = ["--nodes", nodes] if nodes else []
    next_step("graphfm evaluate --model", model, "--graph", graph, *flags)


@dataclass(frozen=True, kw_only=True)
class SetColumns:
    """What ``--coverage`` adds.

    Args:
        sets: (N, C) bool.
        novelty: (N,), NaN where it is not known: an empty field.
    """

    sets: np.ndarray
    novelty: np.ndarray


def write_predictions(
    out: Path,
    graph: Graph,
    probabilities: np.ndarray,
    classes: list[str],
    several: bool = False,
    every: bool = False,
    beside: SetColumns | None = None,
) -> None:
    """Write ``id,label,probability``, then ``set,abstain,novelty`` and a column per class.

    Args:
        out: The CSV, or Parquet if its name ends so.
        graph: Gives the ids.
        probabilities: (N, C).
        classes: Name of each class, (C,).
        several: Whether a node may have several labels.
        every: Whether to add ``p_CLASS`` columns.
        beside: What the columns of sets hold; None = no such columns.
    """
    import numpy as np

    from graphfm.cli.output import table_file

    if several:
        above = probabilities >= 0.5
        labels = [";".join(c for c, yes in zip(classes, row, strict=True) if yes) for row in above]
        best = np.where(above, probabilities, 1 - probabilities).prod(axis=1)
    else:
        choice = probabilities.argmax(axis=1)
        labels = [classes[i] for i in choice]
        best = probabilities[np.arange(len(choice)), choice]
    with table_file(out, text=("id", "label", "set")) as file:
        writer = csv.writer(file, lineterminator="\n")
        named = SET_COLUMNS if beside is not None else []
        columns = [f"p_{c}" for c in classes if every]
        writer.writerow(["id", "label", "probability", *named, *columns])
        for i, name in enumerate(graph.ids()):
            more = [f"{p:.6f}" for p in probabilities[i]] if every else []
            if beside is not None:
                chosen = [c for c, yes in zip(classes, beside.sets[i], strict=True) if yes]
                joined, novelty = ";".join(chosen), beside.novelty[i]
                alone = joined == labels[i] if several else len(chosen) == 1
                told = "" if np.isnan(novelty) else f"{novelty:.4f}"
                more = [joined, "false" if alone else "true", told, *more]
            writer.writerow([name, labels[i], f"{best[i]:.6f}", *more])
