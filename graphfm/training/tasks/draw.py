"""From (seed, number) to a task.

Shapes:
    N  nodes   n  shown nodes   C  classes
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.features.transform import FeatureTransform
from graphfm.graphs.graph import class_names_of
from graphfm.graphs.spec import TaskSpec
from graphfm.training.tasks import columns, labels, synthetic
from graphfm.training.tasks.structures import Structure, TaskCorpus
from graphfm.training.tasks.task import GROUP, show_labels

MAX_AXES = 96  # leading feature axes; the experts' cost grows with them
TRIES = 20  # draws until a target has two classes
MAKERS = {"columns": columns.make, "synthetic": synthetic.make, "labels": labels.make}


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A task, before the experts solve it.

    Args:
        number: Its number.
        kind: ``columns``, ``synthetic`` or ``labels``.
        source: Id of the corpus graph, or ``drawn``.
        graph: The graph; ``y`` holds the labels of all nodes, -1 = none.
        shown: Mask of the nodes whose labels are shown, (N,).
    """

    number: int
    kind: str
    source: str
    graph: PreparedGraph
    shown: Tensor


def draw_tasks(
    corpus: TaskCorpus, seed: int, group: int, kinds: Mapping[str, float]
) -> Iterator[Task]:
    """Draw the :data:`GROUP` tasks of one group, which share a structure.

    Args:
        corpus: Corpus graphs.
        seed: Seed of all tasks.
        group: Number of the group; its tasks are ``group * GROUP`` and on.
        kinds: Relative frequency of each kind.
    """
    structure = corpus.structure(np.random.default_rng([seed, 0, group]))
    for number in range(group * GROUP, (group + 1) * GROUP):
        yield _draw(structure, np.random.default_rng([seed, 1, number]), number, kinds)


def _draw(
    structure: Structure, rng: np.random.Generator, number: int, kinds: Mapping[str, float]
) -> Task:
    """Draw one task; a kind that the structure does not have gives way to another."""
    weight = np.array([kinds.get(kind, 0.0) for kind in MAKERS])
    for turn in range(TRIES):
        kind = str(rng.choice(list(MAKERS), p=weight / weight.sum()))
        if turn > TRIES // 2:
            kind = "synthetic"
        target = MAKERS[kind](structure, rng)
        shown = None if target is None else show_labels(target.y, rng)
        if target is not None and shown is not None:
            y, mask = shown
            graph = _prepared(structure, target.x, target.prepared, y)
            return Task(
                number=number,
                kind=kind,
                source=structure.source,
                graph=graph,
                shown=torch.from_numpy(mask),
            )
    raise AssertionError(f"no task in {TRIES} draws on {structure.source}")


def _prepared(structure: Structure, x: np.ndarray, done: bool, y: np.ndarray) -> PreparedGraph:
    """Transform features and wrap the task as a prepared graph."""
    features, transform = torch.from_numpy(np.ascontiguousarray(x)), FeatureTransform.fit(None)
    if not done:
        transform = FeatureTransform.fit(features)
        features = transform.apply(features)
    labels = torch.from_numpy(y.astype(np.int64))
    names = class_names_of(labels)
    return PreparedGraph(
        name="task",
        rowptr=structure.rowptr,
        col=structure.col,
        x=features[:, :MAX_AXES].contiguous(),
        pe=structure.pe,
        y=labels,
        train_mask=None,
        val_mask=None,
        test_mask=None,
        task=TaskSpec(kind="classify", num_classes=len(names)),
        class_names=names,
        node_ids=None,
        transform=transform,
    )
