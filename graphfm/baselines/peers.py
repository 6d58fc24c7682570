"""Every peer by its name: one fit at its default settings, or a random search on validation nodes.

A module declares its :class:`~graphfm.baselines.task.Peer`: how to fit, the default settings and
what to search. The search is the same for all: the defaults first, then independent draws; the best
on the validation nodes answers (Bergstra and Bengio 2012, "Random search for hyper-parameter
optimization").
"""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from torch import Tensor

from graphfm.baselines.task import METRICS, Peer, Settings, Task
from graphfm.errors import DataError
from graphfm.graphs.graph import Graph

log = logging.getLogger(__name__)

MODULES = {
    "majority": "majority",
    "ridge": "ridge",
    "logistic": "logistic",
    "logistic-hops": "logistic",
    "trees": "trees",
    "trees-hops": "trees",
    "label-propagation": "label_propagation",
    "correct-and-smooth": "correct_and_smooth",
    "mlp": "classic",
    "gcn": "classic",
    "sage": "classic",
    "gat": "classic",
    "gcnii": "gcnii",
    "gprgnn": "gprgnn",
    "nagphormer": "nagphormer",
}
PEERS = tuple(MODULES)
TUNED = tuple(kind for kind in PEERS if kind not in ("majority", "ridge"))

MAX_DRAWS = 10_000  # a space of four settings is soon exhausted


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a peer says of a graph.

    Args:
        proba: Class probabilities of every node, (N, C) float64.
        val_score: Accuracy or ROC-AUC on the validation nodes; NaN without any.
        seconds: Of all trials.
        settings: Those that were chosen.
        trials: How many fits were done.
        seconds_of_best: Of the one fit with the chosen settings.
    """

    proba: np.ndarray
    val_score: float
    seconds: float
    settings: Settings
    trials: int
    seconds_of_best: float


def answer(
    kind: str,
    graph: Graph,
    train_mask: Tensor,
    val_mask: Tensor | None,
    *,
    seed: int,
    trials: int = 0,
    settings: Settings | None = None,
    max_seconds: float | None = None,
    metric: str = "accuracy",
) -> Answer:
    """Fit a peer; the labels under the two masks are all that is read.

    Args:
        kind: One of :data:`PEERS`.
        graph: The graph.
        train_mask: Nodes to learn from, (N,) bool.
        val_mask: Nodes to choose epochs and settings by, (N,) bool.
        seed: Decides initial weights, dropout and the draws of the search.
        trials: 0 = one fit at the default settings; n = the best of n settings, of which the
            defaults are the first. A kind without a search space is fitted once.
        settings: What an earlier search has chosen: fitted once, in place of a search.
        max_seconds: Of the processor, for a search: no trial begins later, and one that is under
            way stops there with its best epoch so far. So does a fit of ``settings``; one at the
            defaults always ends. None = no limit.
        metric: ``accuracy``, or ``roc_auc``, the mean over classes, each against the rest.

    Raises:
        DataError: GFM134 without a class per node, GFM116 for a mask of another length, GFM131
            without a labelled training node, or without a validation node to search by.
        ValueError: For an unknown kind or metric, or a negative number of trials.
    """
    if kind not in MODULES or metric not in METRICS or trials < 0:
        raise ValueError(
            f"expected a kind of {PEERS}, a metric of {METRICS} and trials of at least 0, got "
            f"{kind!r}, {metric!r}, {trials}"
        )
    start = time.perf_counter()
    task = Task.of(graph, train_mask, val_mask, metric=metric)
    module = import_module(f"graphfm.baselines.{MODULES[kind]}")
    peer: Peer = module.PEERS[kind]
    if trials > 1 and peer.space and not len(task.labels.val):
        raise DataError(
            "GFM131",
            "a search needs at least one labelled validation node, got none",
            where=graph.name,
            fix="give a val_mask, or trials=0 for the default settings",
        )
    if settings is None:
        wanted = max(1, trials) if peer.space else 1
        draws = _draws(peer, np.random.default_rng([seed, zlib.crc32(kind.encode())]))
    else:
        wanted, draws = 1, iter([settings])
    # Seconds of the processor: what else the machine does takes no trial from a search.
    deadline = math.inf
    if (wanted > 1 or settings is not None) and max_seconds is not None:
        deadline = time.process_time() + max_seconds
    best: Answer | None = None
    best_score = (-math.inf, -math.inf)
    done = 0
    for drawn in draws:
        if done == wanted or (done and time.process_time() >= deadline):
            break
        begin = time.perf_counter()
        proba = peer.fit(task, drawn, seed=seed, deadline=deadline).astype(np.float64)
        done += 1
        score = task.val_score(proba)
        if best is None or score > best_score:
            best_score = score
            best = Answer(
                proba=proba,
                val_score=score[0],
                seconds=0.0,
                settings=dict(drawn),
                trials=done,
                seconds_of_best=time.perf_counter() - begin,
            )
    if done < wanted:
        late = time.process_time() >= deadline
        why = f"{max_seconds:.3g} seconds were over" if late else "there are no other settings"
        log.warning("%s on %s: %d of %d trials: %s", kind, graph.name, done, wanted, why)
    assert best is not None
    seconds = time.perf_counter() - start
    return Answer(**{**vars(best), "seconds": seconds, "trials": done})


def _draws(peer: Peer, rng: np.random.Generator) -> Iterator[Settings]:
    """The defaults, then draws from the space, none of them twice."""
    seen = [peer.defaults]
    yield peer.defaults
    for _ in range(MAX_DRAWS):
        drawn = {name: values[rng.integers(len(values))] for name, values in peer.space.items()}
        settings = {**peer.defaults, **drawn}
        if settings not in seen:
            seen.append(settings)
            yield settings
