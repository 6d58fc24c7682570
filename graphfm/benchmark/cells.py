"""Plan of a benchmark: cells (split, graph, seed, model), each with one receipt.

A receipt is a file ``cells/SPLIT/GRAPH/seedN/MODEL@KEY.json``. The key is a hash of everything that
its numbers depend on (weights, settings, trials, steps, time). Results of two checkpoints therefore
never mix, and no measurement is overwritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphfm.baselines.peers import MIN_TRIALS, MODULES
from graphfm.baselines.task import INPUTS
from graphfm.benchmark.models import STATES, Competitor
from graphfm.benchmark.suite import Suite
from graphfm.errors import DataError
from graphfm.graphs.splits import Few, Sizes, parse_split

if TYPE_CHECKING:
    from graphfm.checkpoint.folder import Checkpoint

OFFICIAL = "official"
DONE, FAILED, LEFT_OUT = "done", "failed", "left out"
MIN_SEARCH_SECONDS = 10.0  # with search_cost: on 183 nodes a default GCN takes only 0.5 s
Receipt = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One fit, or one search, of one model on one split of one graph."""

    split: str
    graph: str
    seed: int
    model: str


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Cells that one process runs: some models on one split of one graph."""

    split: str
    graph: str
    seed: int
    models: tuple[Competitor, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Plan of a benchmark.

    Args:
        suite: The graphs.
        models: Models and peer methods to compare.
        splits: Splits such as ``50/25/25``, or ``official`` for the split of the graph.
        seeds: Number of seeds. A seed decides the split, the initial weights and the random search.
        out: Folder of receipts and tables.
        checkpoint: Folder of the pretrained model. None if there is none.
        trials: Maximum number of trials of each search; a search runs on seed 0.
        steps: Maximum number of gradient steps of graphfm's models.
        max_seconds: Time limit of each cell, in seconds. Default: none.
        search_cost: Time limit of each search after its first ten trials, as a multiple of one
            training of the default GCN on the same graph. Default: none.
    """

    suite: Suite
    models: tuple[Competitor, ...]
    splits: tuple[str, ...]
    seeds: int
    out: Path
    checkpoint: str | None
    trials: int
    steps: int
    max_seconds: float | None = None
    search_cost: float | None = None

    @cached_property
    def opened(self) -> Checkpoint:
        """The checkpoint of the pretrained model, verified once per process."""
        from graphfm.checkpoint.folder import Checkpoint

        assert self.checkpoint is not None
        return Checkpoint.open(self.checkpoint)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Key of each model: ten letters of a hash of all that its numbers depend on."""
        weights = shape = ""
        if self.checkpoint is not None and any(model.own for model in self.models):
            shape, weights = _digests(self.opened)
        keys = {}
        for model in self.models:
            depends: list[Any] = [model.name, self.max_seconds]
            if model.own:
                depends.append(shape if model.random else weights)
                if model.kind not in ("probe", STATES):
                    depends.append(self.steps if model.steps is None else model.steps)
            else:
                peer = import_module(f"graphfm.baselines.{MODULES[model.kind]}").PEERS[model.kind]
                depends += [peer.defaults, INPUTS[peer.inputs]]
                if model.tuned:
                    depends += [peer.space, self.trials, self.search_cost, MIN_TRIALS]
            keys[model.name] = hashlib.sha256(
                json.dumps(depends, default=str).encode()
            ).hexdigest()[:10]
        return keys

    def cells(self) -> Iterator[Cell]:
        """Yield all cells of the plan."""
        for unit in self.units():
            for model in unit.models:
                yield Cell(split=unit.split, graph=unit.graph, seed=unit.seed, model=model.name)

    def units(self, *, missing_only: bool = False) -> Iterator[Unit]:
        """Yield the cells, grouped by split of a graph, the smallest graphs first.

        Args:
            missing_only: If true, yield only cells without a receipt, and failed ones.
        """
        for graph in self.suite.groups:
            for split in self.splits:
                for seed in range(self.seeds):
                    models = tuple(
                        model
                        for model in self.models
                        if not missing_only
                        or self._is_missing(
                            Cell(split=split, graph=graph, seed=seed, model=model.name)
                        )
                    )
                    if models:
                        yield Unit(split=split, graph=graph, seed=seed, models=models)

    def path(self, cell: Cell) -> Path:
        """Path of the receipt of a cell."""
        name = f"{cell.model}@{self.keys[cell.model]}.json"
        split = cell.split.replace("/", "-")
        return self.out / "cells" / split / cell.graph / f"seed{cell.seed}" / name

    def receipt(self, cell: Cell) -> Receipt | None:
        """Read the receipt of a cell; None if there is none."""
        path = self.path(cell)
        try:
            found: Receipt = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # missing, or cut off by a full disk: run again
            return None
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data, for the table."""
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
            # Without its path, since tables are published; the keys hold a hash of the weights.
            "from": None if self.checkpoint is None else Path(self.checkpoint).name,
        }

    def _is_missing(self, cell: Cell) -> bool:
        found = self.receipt(cell)
        return found is None or found["status"] == FAILED


def sizes_of_parts(split: str) -> Sizes:
    """Read the sizes of training, validation and test nodes from text.

    Args:
        split: Shares such as ``50/25/25`` or ``0.5/0.25/0.25``, or labels a class such as
            ``few:3``.

    Raises:
        DataError: GFM145 for any other text.

    >>> sizes_of_parts("10/10/80")
    (0.1, 0.1, 0.8)
    """
    parts = parse_split(split)
    if not isinstance(parts, Few) and min(parts[0], parts[2]) <= 0:
        raise DataError(
            "GFM145",
            f"expected three shares such as 50/25/25, few:3, or {OFFICIAL}, got --split {split}",
            fix="training and test shares must be above zero, and the sum at most 100",
        )
    return parts


def refuse_searches(models: Sequence[Competitor], split: str) -> None:
    """Refuse searches on a split without validation nodes.

    Raises:
        DataError: GFM712 with the models that search.
    """
    searching = [model.name for model in models if model.tuned]
    if searching:
        raise DataError(
            "GFM712",
            f"{', '.join(searching)}: a search needs validation nodes, and {split} has none",
            fix="name the peers without -tuned: they have their default settings",
        )


def check_unseen(plan: Plan) -> None:
    """Check that no graph of the suite, nor one of its group, was used for pretraining.

    Raises:
        DataError: GFM147 with the graphs that were; GFM712 if a pretrained model is missing.
    """
    pretrained = [model.name for model in plan.models if model.own and not model.random]
    if not pretrained:
        return
    if plan.checkpoint is None:
        raise DataError(
            "GFM712",
            f"{', '.join(pretrained)}: no pretrained weights were found",
            fix="pass --from CKPT, or benchmark random weights: append -random to the name",
        )
    from graphfm.checkpoint.folder import not_judged_on
    from graphfm.graphs.catalog.catalog import Catalog

    own = {spec.name for spec in plan.opened.specs()}
    known = {*not_judged_on(plan.opened.about), *own}
    entries = Catalog.read().entries
    groups = {entries[id].group for id in known if id in entries}
    seen = [id for id, group in plan.suite.groups.items() if id in known or group in groups]
    if seen:
        raise DataError(
            "GFM147",
            f"the model was pretrained on {', '.join(seen)}, or on graphs of the same group",
            where=plan.checkpoint,
            fix="leave them out with --graphs, or pretrain without them (data.exclude=[ID, ...])",
        )


def _digests(checkpoint: Checkpoint) -> tuple[str, str]:
    """Return the shape of a model as text, and a hash of shape and weights."""
    from graphfm.model.graphfm import GraphFM

    model = GraphFM.from_checkpoint(checkpoint)
    shape = json.dumps(model.config(), sort_keys=True)
    digest = hashlib.sha256(shape.encode())
    weights: Mapping[str, Any] = model.state_dict()
    for name, value in sorted(weights.items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return shape, digest.hexdigest()
