"""Peer methods by name: one fit with default settings, or a random search on validation nodes.

Each module declares a :class:`~graphfm.baselines.task.Peer`: fit function, default settings and
search space. The search is the same for all peers: the defaults first, then random settings, and
the best validation score wins (Bergstra and Bengio 2012, "Random search for hyper-parameter
optimization").
"""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

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

# A search without time for ten fits is no search: GCNII had 5 and NAGphormer 3 on some graphs.
MIN_TRIALS = 10
MAX_DRAWS = 10_000  # random settings to try before a small search space counts as exhausted


@dataclass(frozen=True, kw_only=True, eq=False)
class PeerResult:
    """Predictions of a peer method and its cost.

    Args:
        proba: Class probabilities of all nodes, (N, C) float64.
        val_score: Accuracy or ROC-AUC on the validation nodes; NaN without any.
        seconds: Wall time of all trials, in seconds.
        settings: Chosen settings.
        trials: Number of fits.
        seconds_of_best: Wall time of the fit with the chosen settings, in seconds.
    """

    proba: np.ndarray
    val_score: float
    seconds: float
    settings: Settings
    trials: int
    seconds_of_best: float


def fit_peer(
    kind: str,
    graph: Graph,
    train_mask: Tensor,
    val_mask: Tensor | None,
    *,
    seed: int,
    trials: int = 0,
    settings: Settings | None = None,
    search_seconds: float | None = None,
    max_seconds: float | None = None,
    metric: str = "accuracy",
) -> PeerResult:
    """Fit a peer method and predict all nodes; only the labels under the two masks are read.

    Args:
        kind: One of :data:`PEERS`.
        graph: The graph.
        train_mask: Training nodes, (N,) bool.
        val_mask: Validation nodes, which choose epochs and settings, (N,) bool. None if there are
            none.
        seed: Seed of initial weights, dropout and the random search.
        trials: Number of settings to try, the defaults first. 0 fits the defaults once. A peer
            without a search space is fitted once.
        settings: Settings from an earlier search: they are fitted once. Default: search.
        search_seconds: Processor time of a search, in seconds, after which no trial begins and a
            running one stops with its best epoch so far. It does not limit the first
            :data:`MIN_TRIALS` trials. Default: no limit.
        max_seconds: The same limit for all trials, and for a fit of ``settings``. A fit of the
            defaults has no limit. Default: none.
        metric: ``accuracy``, or ``roc_auc``, the mean over classes, each against the rest.

    Raises:
        DataError: GFM134 if the graph has no single class per node, GFM116 for a mask of another
            length, GFM131 without a labelled training node, or a search without validation nodes.
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
    space = peer.space_for(task)
    if trials > 1 and space and not len(task.labels.val):
        raise DataError(
            "GFM131",
            "a search needs at least one labelled validation node, got none",
            where=graph.name,
            fix="pass val_mask, or trials=0 for the default settings",
        )
    if settings is None:
        wanted = max(1, trials) if space else 1
        rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
        candidates = _candidate_settings(peer.defaults_for(task), space, rng)
    else:
        wanted, candidates = 1, iter([settings])
    # Processor time: a busy machine does not reduce the number of trials.
    last = search_end = math.inf
    if (wanted > 1 or settings is not None) and max_seconds is not None:
        last = time.process_time() + max_seconds
    if search_seconds is not None:
        search_end = time.process_time() + search_seconds
    best: PeerResult | None = None
    best_score = (-math.inf, -math.inf)
    done = 0
    for candidate in candidates:
        deadline = last if done < MIN_TRIALS else min(last, search_end)
        if done == wanted or (done and time.process_time() >= deadline):
            break
        begin = time.perf_counter()
        proba = peer.fit(task, candidate, seed=seed, deadline=deadline).astype(np.float64)
        done += 1
        score = task.val_score(proba)
        if best is None or score > best_score:
            best_score = score
            best = PeerResult(
                proba=proba,
                val_score=score[0],
                seconds=0.0,
                settings=dict(candidate),
                trials=done,
                seconds_of_best=time.perf_counter() - begin,
            )
    if done < wanted:
        late = time.process_time() >= deadline
        why = "its time limit was reached" if late else "no other settings are left"
        log.warning(
            "%s on %s: stopped after %d of %d trials: %s", kind, graph.name, done, wanted, why
        )
    assert best is not None
    seconds = time.perf_counter() - start
    return PeerResult(**{**vars(best), "seconds": seconds, "trials": done})


def _candidate_settings(
    defaults: Settings, space: Mapping[str, tuple[Any, ...]], rng: np.random.Generator
) -> Iterator[Settings]:
    """Yield the defaults, then random settings without repeats."""
    seen = [defaults]
    yield defaults
    for _ in range(MAX_DRAWS):
        drawn = {name: values[rng.integers(len(values))] for name, values in space.items()}
        settings = {**defaults, **drawn}
        if settings not in seen:
            seen.append(settings)
            yield settings
