"""The command ``graphfm predict``: write a prediction for every node."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphfm.cli.inputs import DirectedOption, GraphOption, NodesOption, UnknownLikeFitOption
from graphfm.cli.terminal import note, show_json
from graphfm.errors import RecipeError

if TYPE_CHECKING:
    import numpy as np

    from graphfm.cli.output import PredictedRows
    from graphfm.graphs.graph import Graph

NUMBER_COVERAGE = 0.9  # default coverage of the intervals of a regression
SET_COLUMNS = ["set", "abstain", "novelty"]


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
    from graphfm.cli.numbers import not_calibrated_here, note_intervals, write_numbers
    from graphfm.cli.output import PredictedRows, check_file, parts_of_nodes
    from graphfm.estimator import GraphFMRegressor
    from graphfm.fitting.conformal import check_coverage
    from graphfm.fitting.probe import TARGET

    if coverage is not None:
        check_coverage(coverage)
    check_file(out, overwrite=overwrite)
    fitted, read, fit = open_fitted(
        model, graph, target, nodes=nodes, directed=directed, unknown_nodes=unknown_nodes
    )
    suggest = partial(
        suggest_scores,
        model,
        graph,
        read,
        fit,
        nodes=nodes,
        target=target,
        unknown_nodes=unknown_nodes,
        directed=directed or None,
        undirected=directed is False or None,
    )
    parts = parts_of_nodes(read, fit)
    if only is not None and parts is None:
        parts = ["" if known else "unlabelled" for known in read.labelled.tolist()]
    rows = PredictedRows(split=parts, only=only.value if only else None)
    written = sum(rows.has(i) for i in range(read.num_nodes))
    if isinstance(fitted, GraphFMRegressor):
        if proba:
            raise RecipeError(
                "GFM209", "--proba needs a model of classes, but this model predicts a number"
            )
        asked = NUMBER_COVERAGE if coverage is None else coverage
        values = fitted.answer(read, coverage=asked)
        write_numbers(out, read, values, rows)
        same = read.name == fitted.graph_name_
        width = note_intervals(values, asked, same_graph=same, fitted_on=fitted.graph_name_)
        known = width if width < float("inf") else None
        facts = {"out": str(out), "num_nodes": written, "coverage": asked, "width": known}
        _done(facts, as_json=as_json)
        suggest()
        return
    classes = [str(c) for c in fitted.classes_]
    several = fitted.model_.specs[TARGET].task.kind == "multilabel"
    answers = fitted.answer(read, coverage=coverage)
    more = None
    if answers.sets is not None:
        more = SetColumns(sets=answers.sets, novelty=answers.novelty)
    write_predictions(out, read, answers.proba, classes, several, proba, more, rows)
    facts = {"out": str(out), "num_nodes": written, "classes": classes}
    if coverage is not None and more is not None:
        sizes = more.sets.sum(axis=1)
        facts |= {"coverage": coverage, "mean_set_size": float(sizes.mean())}
        note(f"prediction sets at {coverage:.0%}: {sizes.mean():.2f} classes on average")
        if read.name != fitted.graph_name_:
            note(not_calibrated_here(coverage, fitted.graph_name_))
        if not several:
            abstained = int((sizes != 1).sum())
            facts["num_abstained"] = abstained
            note(
                f"{abstained:,} of {len(sizes):,} nodes have no single class in their set (abstain)"
            )
        if answers.filled is not None and answers.filled.any():
            note(f"{answers.filled.sum():,} sets were empty; they now have the most probable class")
    _done(facts, as_json=as_json)
    suggest()


def _done(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print the result."""
    if as_json:
        show_json(facts)
    note(f"{facts['num_nodes']:,} predictions written to {facts['out']}")


@dataclass(frozen=True, kw_only=True)
class SetColumns:
    """Values of the columns that ``--coverage`` adds.

    Args:
        sets: Prediction sets, (N, C) bool.
        novelty: Novelty of each node, (N,); NaN if unknown, written as an empty cell.
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
    rows: PredictedRows | None = None,
) -> None:
    """Write ``id,label,probability``, then ``set,abstain,novelty`` and a column per class.

    Args:
        out: File to write; Parquet if the name ends in ``.parquet``, else CSV.
        graph: The graph; its node ids become the first column.
        probabilities: Class probabilities, (N, C).
        classes: Class names, C of them.
        several: True if a node can have several labels.
        every: True to add the ``p_CLASS`` columns.
        beside: Values of the set columns; None to leave them out.
        rows: Nodes to write, and the split. Default: all nodes, no column ``split``.
    """
    import numpy as np

    from graphfm.cli.output import PredictedRows, RowWriter, table_file

    rows = rows or PredictedRows()
    if several:
        above = probabilities >= 0.5
        labels = [";".join(c for c, yes in zip(classes, row, strict=True) if yes) for row in above]
        best = np.where(above, probabilities, 1 - probabilities).prod(axis=1)
    else:
        choice = probabilities.argmax(axis=1)
        labels = [classes[i] for i in choice]
        best = probabilities[np.arange(len(choice)), choice]
    with table_file(out, text=("id", "label", "set", "split")) as file:
        writer = RowWriter(file)
        named = SET_COLUMNS if beside is not None else []
        columns = [f"p_{c}" for c in classes if every]
        writer.writerow(["id", "label", "probability", *named, *columns, *rows.head])
        for i, name in enumerate(graph.ids()):
            if not rows.has(i):
                continue
            more = [f"{p:.6f}" for p in probabilities[i]] if every else []
            if beside is not None:
                chosen = [c for c, yes in zip(classes, beside.sets[i], strict=True) if yes]
                joined, novelty = ";".join(chosen), beside.novelty[i]
                alone = joined == labels[i] if several else len(chosen) == 1
                far = "" if np.isnan(novelty) else f"{novelty:.4f}"
                more = [joined, "false" if alone else "true", far, *more]
            writer.writerow([name, labels[i], f"{best[i]:.6f}", *more, *rows.cells(i)])
