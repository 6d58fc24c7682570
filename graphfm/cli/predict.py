"""The command ``graphfm predict``: write a prediction for every node."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.inputs import DirectedOption, GraphOption, NodesOption, UnknownLikeFitOption
from graphfm.cli.terminal import note, show_json
from graphfm.errors import RecipeError

if TYPE_CHECKING:
    import pyarrow as pa

    from graphfm.estimator import GraphFMClassifier, GraphFMRegressor
    from graphfm.fitting.answers import Answers
    from graphfm.graphs.graph import Graph

NUMBER_COVERAGE = 0.9  # default coverage of the intervals of a regression


class Only(StrEnum):
    """Nodes that a file of predictions can be limited to."""

    UNLABELLED = "unlabelled"


def predict(
    model: Annotated[Path, typer.Option(help="Folder written by `graphfm finetune`.")],
    graph: GraphOption,
    out: Annotated[
        Path,
        typer.Option(
            help="File to write, .csv or .parquet: id,label,probability, or for a number "
            "id,prediction,low,high,novelty."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(help="Column of the labels, not used as a feature. Default: that of the fit."),
    ] = None,
    nodes: NodesOption = None,
    directed: DirectedOption = None,
    unknown_nodes: UnknownLikeFitOption = None,
    proba: Annotated[
        bool, typer.Option("--proba", help="Add one column per class: p_CLASS.")
    ] = False,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Add the columns set, abstain, novelty. With 0.9, about 9 of 10 sets contain the "
            "true class."
        ),
    ] = None,
    only: Annotated[
        Only | None,
        typer.Option(help="Write only these nodes: unlabelled, those without a known label."),
    ] = None,
    safe_csv: Annotated[
        bool,
        typer.Option(
            "--safe-csv",
            help="For spreadsheets: put ' before a text that begins with =, +, - or @ in the CSV "
            "file, or they may run it as a formula.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Predict every node of a graph.

    The last column, `split`, is the part that a node had in the fit: train, val, test, unlabelled,
    or nothing for a labelled node that was in no part.

    With several labels per node, `label` lists all labels with a probability of 0.5 or more,
    separated by `;`. `probability` is the probability of exactly this list, if labels are
    independent.

    With --coverage, `set` lists the possible classes of a node, separated by `;`. With 0.9, 90% of
    the sets contain the true class, for nodes like the validation nodes of the fit. `abstain` is
    true if the set is not exactly one class (with several labels: if the set differs from `label`).
    `novelty` is the share of validation nodes that are closer to the training nodes than this node.

    If the target is a number, the file has `prediction`, and `low` and `high`: an interval that
    contains the true number with the probability --coverage (default 0.9).
    """
    from graphfm.cli.fitted import open_fitted, suggest_scores
    from graphfm.cli.output import check_file, write_table
    from graphfm.estimator import GraphFMRegressor
    from graphfm.fitting.conformal import check_coverage

    if coverage is not None:
        check_coverage(coverage)
    check_file(out, overwrite=overwrite)
    fitted, read, fit = open_fitted(
        model, graph, target, nodes=nodes, directed=directed, unknown_nodes=unknown_nodes
    )
    made = _numbers if isinstance(fitted, GraphFMRegressor) else _classes
    table, facts = made(fitted, read, proba=proba, coverage=coverage)
    if only is not None:
        table = table.filter(~read.labelled.numpy())
    write_table(out, table, safe=safe_csv)
    facts = {"out": str(out), "num_nodes": table.num_rows, **facts}
    if "split" in table.column_names:
        counts = table["split"].value_counts().to_pylist()
        facts["split"] = {count["values"]: count["counts"] for count in counts}
    if as_json:
        show_json(facts)
    note(f"{facts['num_nodes']:,} predictions written to {out}")
    flags = {"nodes": nodes, "target": target, "unknown_nodes": unknown_nodes}
    suggest_scores(model, graph, read, fit, directed=directed, **flags)


def _numbers(
    fitted: GraphFMRegressor, read: Graph, *, proba: bool, coverage: float | None
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the predictions of a number as a table, and facts about them."""
    from graphfm.cli.numbers import note_intervals

    if proba:
        raise RecipeError(
            "GFM209", "--proba needs a model of classes, but this model predicts a number"
        )
    asked = NUMBER_COVERAGE if coverage is None else coverage
    values = fitted.answer(read, coverage=asked)
    same = read.name == fitted.graph_name_
    width = note_intervals(values, asked, same_graph=same, fitted_on=fitted.graph_name_)
    facts = {"coverage": asked, "width": width if width < float("inf") else None}
    return fitted.table_of(read, values), facts


def _classes(
    fitted: GraphFMClassifier, read: Graph, *, proba: bool, coverage: float | None
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the predictions of classes as a table, and facts about them."""
    answers = fitted.answer(read, coverage=coverage)
    facts: dict[str, Any] = {"classes": fitted.classes_.tolist()}
    if coverage is not None:
        facts |= _note_sets(fitted, read, answers, coverage)
    return fitted.table_of(read, answers, proba=proba), facts


def _note_sets(
    fitted: GraphFMClassifier, read: Graph, answers: Answers, coverage: float
) -> dict[str, Any]:
    """Print lines about the prediction sets, and return the facts in them."""
    from graphfm.cli.numbers import not_calibrated_here
    from graphfm.fitting.probe import TARGET

    assert answers.sets is not None and answers.filled is not None
    sizes = answers.sets.sum(axis=1)
    facts = {"coverage": coverage, "mean_set_size": float(sizes.mean())}
    note(f"prediction sets at {coverage:.0%}: {sizes.mean():.2f} classes on average")
    if read.name != fitted.graph_name_:
        note(not_calibrated_here(coverage, fitted.graph_name_))
    if fitted.model_.specs[TARGET].task.kind != "multilabel":
        abstained = int((sizes != 1).sum())
        facts["num_abstained"] = abstained
        note(f"{abstained:,} of {len(sizes):,} nodes have no single class in their set (abstain)")
    if answers.filled.any():
        note(f"{answers.filled.sum():,} sets were empty; they now have the most probable class")
    return facts
