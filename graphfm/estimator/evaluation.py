"""Comparison, report and importances of a fitted estimator.

Shapes:
    N  nodes
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from graphfm.errors import DataError
from graphfm.estimator.base import GraphEstimator
from graphfm.estimator.masks import mask_of, split_to_compare
from graphfm.estimator.saved import config_of
from graphfm.graphs.graph import Graph
from graphfm.graphs.labels import as_numbers
from graphfm.graphs.order import Order, in_order

if TYPE_CHECKING:
    from graphfm.benchmark.verdict import Comparison
    from graphfm.report.importance import Importances


def compare_with_baselines(
    estimator: GraphEstimator,
    graph: Graph,
    *,
    predictions: Any = None,
    max_gcn_seconds: float | None = None,
) -> Comparison[Any]:
    """Score a fitted estimator and simple baselines on the same test nodes.

    Args:
        estimator: Fitted estimator.
        graph: Graph with labels.
        predictions: Predictions for all nodes. Default: computed.
        max_gcn_seconds: Time that the GCN may take, in seconds. Default: 30.

    Returns:
        Scores by method, ``graphfm`` first, with a ``verdict``.

    Raises:
        DataError: GFM133 without training or test nodes.
    """
    from graphfm.benchmark.class_order import add_unknown_columns, match_classes
    from graphfm.benchmark.compare import compare, compare_numbers

    split = split_to_compare(graph, estimator.masks_given_for(graph))
    answers = estimator.answer(graph) if predictions is None else predictions
    if estimator.TASK == "regress":
        split = as_numbers(split)
        order = Order.of(split)
        return compare_numbers(answers.values[order.nodes.numpy()], order.apply(split))
    classes = estimator.own_config()["classes"]
    if list(split.class_names) != classes:
        y, unknown = match_classes(split, classes)
        split = split.replace(y=y, class_names=(*classes, *unknown))
        answers = replace(
            answers,
            proba=add_unknown_columns(answers.proba, unknown),
            uncalibrated=add_unknown_columns(answers.uncalibrated, unknown),
            sets=None,
        )
    order = Order.of(split)
    return compare(
        answers.take(order.nodes.numpy(), order.classes.numpy()),
        order.apply(split),
        seed=estimator.random_state,
        max_gcn_seconds=max_gcn_seconds,
    )


def write_report_of(
    estimator: GraphEstimator,
    path: Path,
    graph: Graph,
    *,
    tsne: bool,
    max_seconds: float,
) -> None:
    """Write the report of a fitted classifier as one HTML file.

    Args:
        estimator: Fitted classifier.
        path: File to write.
        graph: Graph with labels; without test nodes the report has no table of methods.
        tsne: If true, draw the map of nodes by t-SNE.
        max_seconds: Time for the importances, in seconds; 0 leaves them out.

    Raises:
        OutputError: GFM402 unless the name ends in .html or .htm.
    """
    from graphfm.errors import OutputError
    from graphfm.report.build import write_report
    from graphfm.report.fit_record import FitRecord, fit_command, saved_columns
    from graphfm.report.subject import ModelOnGraph

    if path.suffix not in (".html", ".htm"):
        raise OutputError("GFM402", f"a report must end in .html, got {path.name}", where=str(path))
    fit: dict[str, Any] = {"tune_reason": estimator.tune_reason_}
    try:
        split = split_to_compare(graph, estimator.masks_given_for(graph))
    except DataError:
        split = graph
    else:
        found = compare_with_baselines(estimator, graph)
        fit["test"] = {name: score.to_json() for name, score in found.items()}
        fit["verdict"] = found.verdict
    config = config_of(estimator)
    record = FitRecord(
        config=config,
        fit=fit,
        commands=fit_command({}, path),
        columns=saved_columns(config["estimator"]),
    )
    write_report(
        path,
        record,
        ModelOnGraph(model=estimator, graph=split),
        tsne=tsne,
        max_seconds=max_seconds,
        seed=estimator.random_state,
    )


def importances_of(
    estimator: GraphEstimator, graph: Graph, mask: Any, *, max_seconds: float
) -> Importances:
    """Compute the permutation importances of the columns of a graph.

    Args:
        estimator: Fitted classifier.
        graph: Graph with labels and features.
        mask: Nodes to evaluate on, (N,) bool. None uses the validation nodes, else the test nodes,
            else all labelled nodes.
        max_seconds: Time limit in seconds; a prediction that has begun is finished.

    Raises:
        DataError: GFM133 without a labelled node or without feature columns.
    """
    from graphfm.report.fit_record import saved_columns
    from graphfm.report.importance import column_groups, permutation_importances
    from graphfm.report.labels import known_nodes, labels_in_order

    y, _ = labels_in_order(graph, estimator.own_config()["classes"])
    known = known_nodes(graph, y)
    given = estimator.masks_given_for(graph)
    own = (graph.val_mask if given is None else given[1], graph.test_mask)
    parts = [part for part in own if part is not None and bool((part & known).any())]
    chosen = mask_of(mask, graph, parts[0] if parts else None) & known
    ordered, order = in_order(graph)
    nodes = chosen[order].nonzero().flatten()
    if y is None or not len(nodes):
        raise DataError(
            "GFM133", "there are no labelled nodes to compute importances on", where=graph.name
        )

    def predict(shuffled: Graph, asked: Tensor) -> Any:
        return estimator.answer(shuffled, asked).proba

    columns = saved_columns(config_of(estimator)["estimator"])
    found = permutation_importances(
        ordered,
        predict,
        nodes,
        y[order][nodes].numpy(),
        column_groups(columns, graph.num_features),
        max_seconds=max_seconds,
        seed=estimator.random_state,
    )
    if found is None:
        raise DataError("GFM133", "the graph has no feature columns to shuffle", where=graph.name)
    return found
