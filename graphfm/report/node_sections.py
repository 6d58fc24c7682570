"""Sections of the page that need the graph: predictions, uncertain nodes, map, importances.

Shapes:
    N  nodes   Q  predicted nodes   C  classes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphfm.fitting.answers import Answers
from graphfm.graphs.graph import Graph
from graphfm.metrics import accuracy
from graphfm.report import pictures
from graphfm.report.evidence import Evaluated, most_uncertain, project
from graphfm.report.fit_record import FitRecord
from graphfm.report.importance import column_groups, permutation_importances
from graphfm.report.labels import (
    known_nodes,
    label_texts,
    labels_in_order,
    mask_of,
    split_masks,
)
from graphfm.report.remarks import class_counts, remarks_on, without_repeats
from graphfm.report.sections import COVERAGE, evaluation_sections, importance_section
from graphfm.report.subject import FittedModel, ModelOnGraph
from graphfm.report.text import short

MAX_NODES = 20_000  # nodes to predict; of a larger graph a sample, and the page says so
MAX_EVALUATED = 10_000  # evaluated nodes in the sample: the accuracy is then known to one point
MAX_ON_MAP = 3_000  # points, 12 bytes each; more of them overlap
MAX_UNKNOWN = 8  # names of unknown classes in a sentence
PART_NAMES = {"val": "validation", "test": "test"}


def node_sections(
    record: FitRecord,
    subject: ModelOnGraph,
    *,
    tsne: bool,
    max_seconds: float,
    seed: int,
) -> dict[str, Any]:
    """Predict the graph and return sections by the name of the page's field, and cards.

    Args:
        record: The fit.
        subject: The fitted model and the graph.
        tsne: If true, draw the map of nodes by t-SNE.
        max_seconds: Time for the importances, in seconds; 0 leaves them out.
        seed: Seed of samples and shuffles.
    """
    model, graph = subject.model, subject.graph
    classes = tuple(str(c) for c in record.estimator["classes"])
    y, unknown = labels_in_order(graph, classes)
    multilabel = y is not None and y.ndim == 2
    split, remarks = split_masks(graph, record.fit.get("nodes"))
    if unknown:
        names = ", ".join(short(name) for name in unknown[:MAX_UNKNOWN])
        remarks.append(f"The model was not fitted to the classes {names}; they are not evaluated.")
    known = known_nodes(graph, y)
    part = next((p for p in ("test", "val") if p in split and split[p].any()), "")
    to_evaluate = known & split[part] if part else known & False
    nodes = _sample(to_evaluate, seed)
    answers = model.answer(graph, mask_of(graph, nodes), coverage=COVERAGE)
    logged = list(dict.fromkeys(subject.log_lines))
    own = without_repeats(remarks_on(graph, y, classes, split), subject.log_lines)
    remarks = [*logged, *remarks, *own]
    if len(nodes) < graph.num_nodes:
        remarks.append(
            f"This page uses a random sample of {len(nodes):,} of the {graph.num_nodes:,} nodes."
        )
    content: dict[str, Any] = {"warnings": remarks, "cards": []}
    wrong = np.zeros(len(nodes), dtype=bool)
    at = to_evaluate[nodes].numpy()
    if y is not None and at.any():
        train = split.get("train")
        evaluated = Evaluated(
            part=PART_NAMES[part],
            y=y[nodes[at]].numpy(),
            proba=answers.proba[at],
            uncalibrated=answers.uncalibrated[at],
            sets=None if answers.sets is None else answers.sets[at],
            classes=classes,
            train_counts=None if train is None else class_counts(y, train, len(classes)),
        )
        content |= evaluation_sections(evaluated, record.estimator)
        if not multilabel:
            wrong[at] = evaluated.predicted != evaluated.y
        remarks += _difference_from_fit(record, evaluated)
    content["uncertain"] = _uncertain_nodes(graph, y, nodes, answers, classes, split)
    labels = np.full(len(nodes), -1) if y is None else y[nodes].numpy()
    if multilabel:
        labels = answers.proba.argmax(axis=1)
    content["map"] = _map(
        model, graph, nodes, labels, wrong, answers, classes,
        multilabel=multilabel, tsne=tsne, seed=seed,
    )  # fmt: skip
    content["importances"] = _importances(record, model, graph, y, split, max_seconds, seed)
    return content


def _sample(evaluated: Tensor, seed: int) -> Tensor:
    """Choose the nodes to predict, ascending: all, or a sample that prefers evaluated nodes."""
    if len(evaluated) <= MAX_NODES:
        return torch.arange(len(evaluated))
    rng = np.random.default_rng(seed)
    first = rng.permutation(evaluated.nonzero().flatten().numpy())[:MAX_EVALUATED]
    others = rng.permutation((~evaluated).nonzero().flatten().numpy())[: MAX_NODES - len(first)]
    return torch.from_numpy(np.sort(np.concatenate([first, others])))


def _uncertain_nodes(
    graph: Graph,
    y: Tensor | None,
    nodes: Tensor,
    answers: Answers,
    classes: Sequence[str],
    split: Mapping[str, Tensor],
) -> list[dict[str, Any]]:
    """Rows of the table of uncertain nodes; training nodes are left out."""
    free = ~split["train"][nodes].numpy() if "train" in split else np.ones(len(nodes), dtype=bool)
    texts, ids = label_texts(y, nodes, classes), graph.ids()
    found = most_uncertain(
        answers.proba[free],
        [ids[i] for i in nodes[free].tolist()],
        classes,
        [text for text, kept in zip(texts, free, strict=True) if kept],
        multilabel=y is not None and y.ndim == 2,
    )
    return [{k: short(v) if isinstance(v, str) else v for k, v in vars(n).items()} for n in found]


def _map(
    model: FittedModel,
    graph: Graph,
    nodes: Tensor,
    labels: np.ndarray,
    wrong: np.ndarray,
    answers: Answers,
    classes: Sequence[str],
    *,
    multilabel: bool,
    tsne: bool,
    seed: int,
) -> dict[str, Any] | None:
    """Two pictures: node states, and log-probabilities of the model."""
    if len(nodes) < 3:
        return None
    kept = np.arange(len(nodes))
    if len(nodes) > MAX_ON_MAP:
        rng = np.random.default_rng(seed)
        kept = np.sort(rng.choice(len(nodes), MAX_ON_MAP, replace=False))
    states = model.embed(graph, mask_of(graph, nodes[kept]))
    log_probs = np.log(answers.proba[kept].clip(1e-6))
    log_probs -= log_probs.mean(axis=1, keepdims=True)
    drawn = []
    for title, values in (("Node states", states), ("Predictions", log_probs)):
        points, how = project(values.astype(np.float64), tsne=tsne, seed=seed)
        names = [*map(short, classes)]
        picture = pictures.node_map(title, points, labels[kept], wrong[kept], names, how)
        drawn.append({"title": title, "picture": picture, "how": how})
    colours = (
        "The colour is the most probable label. "
        if multilabel
        else "The colour is the label; a cross is a wrong prediction. "
    )
    text = (
        f"{len(kept):,} of {graph.num_nodes:,} nodes. {colours}"
        f"First picture: the node states that the classifier reads, {states.shape[1]} numbers per "
        "node. Second picture: the logarithms of the predicted probabilities. Nodes that lie close "
        "to each other look alike to the model."
    )
    if tsne:
        text += " With t-SNE, the distances between groups and their sizes mean nothing."
    return {"pictures": drawn, "how": text}


def _importances(
    record: FitRecord,
    model: FittedModel,
    graph: Graph,
    y: Tensor | None,
    split: Mapping[str, Tensor],
    max_seconds: float,
    seed: int,
) -> dict[str, Any] | None:
    """Importances on the validation nodes, so that no choice depends on test labels.

    Without labelled validation nodes, on the test nodes.
    """
    known = known_nodes(graph, y)
    part = next((p for p in ("val", "test") if p in split and (split[p] & known).any()), "")
    if y is None or not part or max_seconds <= 0:
        return None
    nodes = (split[part] & known).nonzero().flatten()
    found = permutation_importances(
        graph,
        lambda shuffled, mask: model.answer(shuffled, mask).proba,
        nodes,
        y[nodes].numpy(),
        column_groups(record.columns, graph.num_features),
        max_seconds=max_seconds,
        seed=seed,
    )
    return None if found is None else importance_section(found, PART_NAMES[part])


def _difference_from_fit(record: FitRecord, evaluated: Evaluated) -> list[str]:
    """Return a sentence if the accuracy differs from the one that the fit measured."""
    measured = record.fit.get("test", {}).get("graphfm", {})
    same_nodes = measured.get("num_nodes") == len(evaluated.y)
    if evaluated.multilabel or evaluated.part != PART_NAMES["test"] or not same_nodes:
        return []
    here = accuracy(evaluated.y, evaluated.proba)
    if abs(here - measured["accuracy"]) <= 0.005:
        return []
    return [
        f"The fit measured an accuracy of {measured['accuracy']:.3f} on its test nodes, this page "
        f"measures {here:.3f}: the graph or the machine has changed since the fit."
    ]
