"""From a fitted model and its graph to the page.

Shapes:
    N  nodes   Q  nodes that were predicted   C  classes   D  width of the states
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphfm.fitting.answers import Answers
from graphfm.graphs.graph import Graph, labelled_nodes
from graphfm.report import pictures
from graphfm.report.evidence import Judged, map_of, most_doubtful
from graphfm.report.folder import (
    Run,
    curves_of,
    depth_of,
    lead_of,
    methods_of,
    of_fit,
    of_graph,
    score_card,
    versions_of,
)
from graphfm.report.importance import Group, permutation_importances
from graphfm.report.page import Page
from graphfm.report.remarks import class_counts, remarks_on
from graphfm.report.sections import judgement, table_of_importances
from graphfm.report.text import short

MAX_NODES = 20_000  # predicted for a page; of a larger graph a part, which is said
MAX_JUDGED = 10_000  # of them; an accuracy is then known to a point
MAX_ON_MAP = 3_000  # 12 bytes each; more are a blot
PARTS = ("train", "val", "test")
# How a remark of ours begins, and the words in which a reader of files says the same.
READER_SAYS = {
    "Nodes without a neighbor": "no neighbor",
    "Repeated edges": "more than once",
    "Edges from a node to itself": "to itself",
    "The graph is directed": "directed:",
    "Nodes without a label": "have no label",
}
WORDS = {"val": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The graph, and the model to ask about it.

    Args:
        graph: The one it was fitted on, read again.
        answer: Probabilities and sets of the nodes under a mask (N,), in ascending order.
        embed: States of the nodes under a mask, (Q, D).
        said: What the reader of the graph logged.
    """

    graph: Graph
    answer: Callable[[Graph, Tensor], Answers]
    embed: Callable[[Graph, Tensor], np.ndarray]
    said: Sequence[str] = field(default_factory=list)


def build_page(
    run: Run,
    subject: Subject | None,
    *,
    missing: Sequence[str] = (),
    tsne: bool = False,
    max_seconds: float = 20.0,
    seed: int = 0,
) -> Page:
    """Put the page together.

    Args:
        run: The folder.
        subject: The graph and the model; None = only what the folder holds is shown.
        missing: Why that is so, in sentences.
        tsne: Draw the map by t-SNE instead of principal components.
        max_seconds: For the importances; 0 = leave them out.
        seed: Of samples and shuffles.
    """
    estimator, scores = run.estimator, run.fit.get("test", {})
    metric = next(iter(scores.get("graphfm", ())), "accuracy")
    methods = methods_of(scores, metric)
    content: dict[str, Any] = {
        "title": short(str(estimator["graph"])),
        "lead": lead_of(run, methods, metric),
        "missing": list(missing),
        "facts": {
            "The graph": of_graph(run, None if subject is None else subject.graph),
            "The fit": of_fit(run),
        },
        "methods": methods,
        "metric": metric.replace("_", " "),
        "curves": curves_of(estimator),
        "commands": run.commands,
        "versions": versions_of(run.saved.get("environment", {})),
        "cards": [score_card(m, metric) for m in methods[:1]],
    }
    if subject is not None:
        more = _of_nodes(run, subject, tsne=tsne, max_seconds=max_seconds, seed=seed)
        content["cards"] += more.pop("cards")
        content |= more
    content["cards"] += [
        ("time to fit", f"{estimator['fit_seconds']:.1f} s", f"depth: {depth_of(estimator)}")
    ]
    return Page(**content)


def labels_in_order(graph: Graph, classes: Sequence[str]) -> tuple[Tensor | None, list[str]]:
    """Labels numbered as the model numbers its classes, and the classes that it does not know.

    A node of a class that the model does not know counts as unlabelled.
    """
    y, names = graph.y, list(graph.class_names)
    if y is None or names == list(classes):
        return y, []
    unknown = sorted(set(names) - set(classes))
    if y.ndim == 2:  # columns cannot be told apart from missing labels
        return None, unknown or names
    place = {name: i for i, name in enumerate(classes)}
    numbers = torch.tensor([place.get(name, -1) for name in names] + [-1])
    return numbers[y], unknown  # -1 reads the last entry


def _of_nodes(
    run: Run, subject: Subject, *, tsne: bool, max_seconds: float, seed: int
) -> dict[str, Any]:
    """The sections that need the graph."""
    graph = subject.graph
    classes = tuple(str(c) for c in run.estimator["classes"])
    y, strange = labels_in_order(graph, classes)
    split, remarks = _split(run, graph)
    if strange:
        names = ", ".join(short(name) for name in strange[:8])
        remarks.append(f"The model does not know the classes {names}; they are not judged.")
    part = next((p for p in ("test", "val") if p in split and split[p].any()), "")
    judged_mask = _known(graph, y) & split[part] if part else _known(graph, y) & False
    nodes = _chosen(judged_mask, seed)
    answers = subject.answer(graph, _mask(graph, nodes))
    at = judged_mask[nodes].numpy()
    own = [line for line in remarks_on(graph, y, classes, split) if not _said(line, subject.said)]
    said = list(dict.fromkeys([*run.fit.get("said", []), *subject.said]))
    remarks = [*said, *remarks, *own]
    if len(nodes) < graph.num_nodes:
        remarks.append(
            f"{len(nodes):,} of {graph.num_nodes:,} nodes were predicted for this page, chosen at "
            "random: its tables and pictures speak of those."
        )
    content: dict[str, Any] = {"warnings": remarks, "cards": []}
    guess, several = answers.proba.argmax(axis=1), y is not None and y.ndim == 2
    wrong = np.zeros(len(nodes), dtype=bool)
    if y is not None and at.any():
        train = split.get("train")
        judged = Judged(
            part=WORDS[part],
            y=y[nodes[at]].numpy(),
            proba=answers.proba[at],
            uncalibrated=answers.uncalibrated[at],
            sets=None if answers.sets is None else answers.sets[at],
            classes=classes,
            train_counts=None if train is None else class_counts(y, train, len(classes)),
        )
        content |= judgement(judged, run.estimator)
        if not several:
            wrong[at] = guess[at] != judged.y
        _compare_with_fit(run, judged, remarks)
    free = ~split["train"][nodes].numpy() if "train" in split else np.ones(len(nodes), dtype=bool)
    words, ids = _label_words(y, nodes, classes), graph.ids()
    doubts = most_doubtful(
        answers.proba[free],
        [ids[i] for i in nodes[free].tolist()],
        classes,
        [word for word, kept in zip(words, free, strict=True) if kept],
        several=several,
    )
    content["doubts"] = [
        {k: short(v) if isinstance(v, str) else v for k, v in vars(d).items()} for d in doubts
    ]
    labels = np.full(len(nodes), -1) if y is None or several else y[nodes].numpy()
    if several:
        labels = guess
    content["map"] = _map(subject, nodes, labels, wrong, answers, classes, tsne, seed)
    content["importances"] = _importances(subject, run, y, split, max_seconds, seed)
    return content


def _importances(
    subject: Subject,
    run: Run,
    y: Tensor | None,
    split: Mapping[str, Tensor],
    max_seconds: float,
    seed: int,
) -> dict[str, Any] | None:
    """On the validation nodes, so that nothing is chosen by the test nodes; else on those."""
    known = _known(subject.graph, y)
    part = next((p for p in ("val", "test") if p in split and (split[p] & known).any()), "")
    if y is None or not part or max_seconds <= 0:
        return None
    nodes = (split[part] & known).nonzero().flatten()
    found = permutation_importances(
        subject.graph,
        lambda graph, mask: subject.answer(graph, mask).proba,
        nodes,
        y[nodes].numpy(),
        _groups(run, subject.graph),
        max_seconds=max_seconds,
        seed=seed,
    )
    return None if found is None else table_of_importances(found, WORDS[part])


def _map(
    subject: Subject,
    nodes: Tensor,
    labels: np.ndarray,
    wrong: np.ndarray,
    answers: Answers,
    classes: Sequence[str],
    tsne: bool,
    seed: int,
) -> dict[str, Any] | None:
    """What the head reads, and what it makes of that: two pictures side by side."""
    if len(nodes) < 3:
        return None
    several = bool((wrong == 0).all() and answers.proba.sum(axis=1).max() > 1.001)
    kept = np.arange(len(nodes))
    if len(nodes) > MAX_ON_MAP:
        rng = np.random.default_rng(seed)
        kept = np.sort(rng.choice(len(nodes), MAX_ON_MAP, replace=False))
    states = subject.embed(subject.graph, _mask(subject.graph, nodes[kept]))
    logs = np.log(answers.proba[kept].clip(1e-6))
    logs -= logs.mean(axis=1, keepdims=True)
    drawn = []
    for title, values in (("Node states", states), ("Predictions", logs)):
        points, how = map_of(values.astype(np.float64), tsne=tsne, seed=seed)
        names = [*map(short, classes)]
        picture = pictures.node_map(title, points, labels[kept], wrong[kept], names, how)
        drawn.append({"title": title, "picture": picture, "how": how})
    said = (
        f"{len(kept):,} of {subject.graph.num_nodes:,} nodes, coloured by their "
        + (
            "likeliest label. "
            if several
            else "label; crosses are judged nodes that it got wrong. "
        )
        + f"First the states that the head reads, {states.shape[1]} numbers per node; then what "
        "the model makes of them, the logarithms of its probabilities."
    )
    if tsne:
        said += " Distances between groups and their sizes mean nothing in such maps."
    return {"pictures": drawn, "how": said}


def _said(remark: str, lines: Sequence[str]) -> bool:
    """Whether the reader of the graph has said the same."""
    words = [word for start, word in READER_SAYS.items() if remark.startswith(start)]
    return any(word in line for word in words for line in lines)


def _split(run: Run, graph: Graph) -> tuple[dict[str, Tensor], list[str]]:
    """Masks by part: of the fit, by id, or else the graph's own; and what does not fit."""
    named = run.fit.get("nodes")
    if not named:
        own = {part: getattr(graph, f"{part}_mask") for part in PARTS}
        return {part: mask for part, mask in own.items() if mask is not None}, []
    place = {name: i for i, name in enumerate(graph.ids())}
    split, lost = {}, 0
    for part in PARTS:
        ids = named.get(part, [])
        found = [place[name] for name in ids if name in place]
        lost += len(ids) - len(found)
        split[part] = _mask(graph, torch.tensor(found, dtype=torch.int64))
    if not lost:
        return split, []
    total = sum(len(ids) for ids in named.values())
    return split, [
        f"{lost:,} of the {total:,} nodes of the fit are not in this graph: it is not quite the "
        "one of the fit."
    ]


def _known(graph: Graph, y: Tensor | None) -> Tensor:
    """Nodes that can be judged, (N,) bool: with several labels a node, all of them are known."""
    if y is None:
        return torch.zeros(graph.num_nodes, dtype=torch.bool)
    return labelled_nodes(y) if y.ndim == 1 else (y >= 0).all(dim=1)


def _chosen(judged: Tensor, seed: int) -> Tensor:
    """Nodes to predict, ascending: all, or judged ones first where they are many."""
    if len(judged) <= MAX_NODES:
        return torch.arange(len(judged))
    rng = np.random.default_rng(seed)
    first = rng.permutation(judged.nonzero().flatten().numpy())[:MAX_JUDGED]
    others = rng.permutation((~judged).nonzero().flatten().numpy())[: MAX_NODES - len(first)]
    return torch.from_numpy(np.sort(np.concatenate([first, others])))


def _mask(graph: Graph, nodes: Tensor) -> Tensor:
    mask = torch.zeros(graph.num_nodes, dtype=torch.bool)
    mask[nodes] = True
    return mask


def _label_words(y: Tensor | None, nodes: Tensor, classes: Sequence[str]) -> list[str]:
    if y is None:
        return [""] * len(nodes)
    rows = y[nodes].tolist()
    if y.ndim == 1:
        return [classes[c] if c >= 0 else "" for c in rows]
    return ["; ".join(c for c, v in zip(classes, r, strict=True) if v == 1) for r in rows]


def _groups(run: Run, graph: Graph) -> list[Group]:
    """Columns of the user's and their places in x; numbered ones where no names were kept."""
    groups, start = [], 0
    for column in run.columns:
        width = len(column["levels"]) if column["kind"] == "category" else 1
        width += bool(column["indicator"])
        groups.append((str(column["name"]), list(range(start, start + width))))
        start += width
    if start == graph.num_features:
        return groups
    return [(f"column {i + 1}", [i]) for i in range(graph.num_features)]


def _compare_with_fit(run: Run, judged: Judged, remarks: list[str]) -> None:
    told = run.fit.get("test", {}).get("graphfm", {})
    if judged.several or judged.part != WORDS["test"] or told.get("num_nodes") != len(judged.y):
        return
    here = float((judged.guess == judged.y).mean())
    if abs(here - told["accuracy"]) > 0.005:
        remarks.append(
            f"The fit measured an accuracy of {told['accuracy']:.3f} on its test nodes, this page "
            f"{here:.3f}: the graph or the machine is not the one of the fit."
        )
