"""A plan is cells: (split, graph, seed, model). Each leaves one receipt.

A receipt lies in ``cells/SPLIT/GRAPH/seedN/MODEL@KEY.json``. The key is a hash of all that its
numbers depend on (weights, settings, trials, steps, time), so what another checkpoint reached is
never taken for this one's, and nothing that was measured is overwritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from graphfm.baselines.peers import MODULES
from graphfm.benchmark.models import STATES, Competitor
from graphfm.benchmark.suite import Suite
from graphfm.errors import DataError

OFFICIAL = "official"
DONE, FAILED, LEFT_OUT = "done", "failed", "left out"
MIN_SEARCH_SECONDS = 10.0  # with a cost of searches: on 183 nodes a default GCN takes 0.5 s
Receipt = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fit, or one search."""

    split: str
    graph: str
    seed: int
    model: str


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What one process does from end to end: some models on one split of one graph."""

    split: str
    graph: str
    seed: int
    models: tuple[Competitor, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A benchmark.

    Args:
        suite: The graphs.
        models: Who takes part.
        splits: Such as ``50/25/25`` or ``official``.
        seeds: Seeds 0 to one less; a seed decides split, weights and draws.
        out: Folder of receipts and tables.
        start: Folder of the pretrained model.
        trials: Of each search, which is done on seed 0.
        steps: Gradient steps of ours.
        max_seconds: Of each cell.
        search_cost: Most seconds of each search, in those of one default GCN on that graph.
    """

    suite: Suite
    models: tuple[Competitor, ...]
    splits: tuple[str, ...]
    seeds: int
    out: Path
    start: str | None
    trials: int
    steps: int
    max_seconds: float | None = None
    search_cost: float | None = None

    @cached_property
    def keys(self) -> dict[str, str]:
        """By model, what its numbers depend on beside the cell, in ten letters."""
        weights = shape = ""
        if self.start is not None and any(model.own for model in self.models):
            shape, weights = _digests(self.start)
        keys = {}
        for model in self.models:
            depends: list[Any] = [model.name, self.max_seconds]
            if model.own:
                depends.append(shape if model.random else weights)
                if model.kind not in ("probe", STATES):
                    depends.append(self.steps if model.steps is None else model.steps)
            else:
                peer = import_module(f"graphfm.baselines.{MODULES[model.kind]}").PEERS[model.kind]
                depends.append(peer.defaults)
                if model.tuned:
                    depends += [peer.space, self.trials, self.search_cost, "searched on seed 0"]
            keys[model.name] = hashlib.sha256(
                json.dumps(depends, default=str).encode()
            ).hexdigest()[:10]
        return keys

    def cells(self) -> Iterator[Cell]:
        """All of them."""
        for unit in self.units():
            for model in unit.models:
                yield Cell(split=unit.split, graph=unit.graph, seed=unit.seed, model=model.name)

    def units(self, *, missing_only: bool = False) -> Iterator[Unit]:
        """Cells that share a split of a graph, the smallest graphs first.

        Args:
            missing_only: Leave out cells that are done, or that there is a reason to leave out.
        """
        for graph in self.suite.groups:
            for split in self.splits:
                for seed in range(self.seeds):
                    models = tuple(
                        model
                        for model in self.models
                        if not missing_only
                        or self._wanted(Cell(split=split, graph=graph, seed=seed, model=model.name))
                    )
                    if models:
                        yield Unit(split=split, graph=graph, seed=seed, models=models)

    def path(self, cell: Cell) -> Path:
        """Where its receipt lies."""
        name = f"{cell.model}@{self.keys[cell.model]}.json"
        split = cell.split.replace("/", "-")
        return self.out / "cells" / split / cell.graph / f"seed{cell.seed}" / name

    def receipt(self, cell: Cell) -> Receipt | None:
        """What it left; None where it has not been done."""
        path = self.path(cell)
        try:
            found: Receipt = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or cut off by a full disk: done again
            return None
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the table."""
        return {
            "suite": self.suite.name,
            "graphs": list(self.suite.groups),
            "models": [model.name for model in self.models],
            "keys": self.keys,
            "splits": list(self.splits),
            "seeds": self.seeds,
            "trials": self.trials,
            "steps": self.steps,
            "max_seconds": self.max_seconds,
            "search_cost": self.search_cost,
            # Not its place on this machine: tables are passed on; keys hold a hash of the weights.
            "from": None if self.start is None else Path(self.start).name,
        }

    def _wanted(self, cell: Cell) -> bool:
        found = self.receipt(cell)
        return found is None or found["status"] == FAILED


def shares(split: str) -> tuple[float, float, float]:
    """Shares of train, val and test of ``50/25/25`` or ``0.5/0.25/0.25``.

    Raises:
        DataError: GFM145 for what is neither.

    >>> shares("10/10/80")
    (0.1, 0.1, 0.8)
    """
    try:
        train, val, test = (float(part) for part in split.split("/"))
    except ValueError:
        train = val = test = -1.0
    whole = 100.0 if max(train, val, test) > 1 else 1.0
    parts = (train / whole, val / whole, test / whole)
    if min(train, test) <= 0 or val < 0 or sum(parts) > 1 + 1e-9:
        raise DataError(
            "GFM145",
            f"expected three shares such as 50/25/25, or {OFFICIAL}, got --split {split}",
            fix="train and test above zero, at most 100 in all",
        )
    return parts


def refuse_seen(plan: Plan) -> None:
    """A model is not judged on what it learned from, nor on a graph of the same group.

    Raises:
        DataError: GFM147 with the graphs; GFM712 where there are no weights to judge.
    """
    pretrained = [model.name for model in plan.models if model.own and not model.random]
    if not pretrained:
        return
    if plan.start is None:
        raise DataError(
            "GFM712",
            f"{', '.join(pretrained)}: there are no pretrained weights to fit",
            fix="--from CKPT names some; the same with -random begins with fresh weights",
        )
    from graphfm.checkpoint.folder import Checkpoint, not_judged_on
    from graphfm.graphs.catalog.catalog import Catalog

    checkpoint = Checkpoint.open(plan.start)
    own = {spec.name for spec in checkpoint.specs()}
    known = {*not_judged_on(checkpoint.about), *own}
    entries = Catalog.read().entries
    groups = {entries[id].group for id in known if id in entries}
    seen = [id for id, group in plan.suite.groups.items() if id in known or group in groups]
    if seen:
        raise DataError(
            "GFM147",
            f"the model has learned from {', '.join(seen)}, or from graphs of the same group",
            where=plan.start,
            fix="leave them out with --graphs, or pretrain without them (data.exclude=[ID, ...])",
        )


def _digests(start: str) -> tuple[str, str]:
    """Of a model's shape, and of its shape and weights."""
    from graphfm.model.graphfm import GraphFM

    model = GraphFM.from_checkpoint(start)
    shape = json.dumps(model.config(), sort_keys=True)
    digest = hashlib.sha256(shape.encode())
    weights: Mapping[str, Any] = model.state_dict()
    for name, value in sorted(weights.items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return shape, digest.hexdigest()
