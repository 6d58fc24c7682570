"""Pretrain one trunk on many graphs: ``pretrain(recipe, out=...)``.

A run folder holds ``config.resolved.yaml``, ``env.json``, ``metrics.jsonl``, ``run.json``, ``tb/``,
``LATEST`` and ``checkpoints/step_000500/``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphfm.config.recipe import Recipe
from graphfm.errors import DataError
from graphfm.graphs.audit.audit import audit_ids, not_judged_on
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.prepare_many import prepare_many
from graphfm.machine import pick_device
from graphfm.training.corpus import Corpus, fresh_model
from graphfm.training.estimate import estimate
from graphfm.training.run import Run
from graphfm.training.run_folder import hold, newest_good
from graphfm.training.stops import Stops
from graphfm.training.world import join_world

log = logging.getLogger(__name__)


def pretrain(
    recipe: Recipe,
    *,
    out: Path | str | None = None,
    resume: str = "auto",
    device: str = "auto",
    dry_run: bool = False,
    max_time: float | None = None,
    skip_broken: bool = False,
) -> dict[str, Any]:
    """Run a recipe, as one of the processes that ``torchrun`` started, or alone.

    SIGTERM, SIGUSR1 and SIGINT end the run after the step in hand, saved; a second SIGINT at once.

    Args:
        recipe: From :func:`graphfm.load_recipe`.
        out: The run folder; only a dry run does without.
        resume: ``auto`` goes on from the newest whole checkpoint of ``out`` if there is one,
            ``never`` refuses a folder that has one. A path begins from that checkpoint, and goes on
            from those of ``out`` once there are some: so the same call can be made again.
        device: ``auto``, ``cpu``, ``cuda``.
        dry_run: Build everything, take a few steps that are thrown away, write nothing, and return
            what the run will cost.
        max_time: Seconds from now after which this call saves and returns; the same call later goes
            on. ``train.max_time`` is the time of the run as a whole.
        skip_broken: Leave out graphs that cannot be read; the receipt names them.

    Returns:
        The receipt, which is also ``run.json``; ``stopped`` is None, a signal's name, or
        ``max-time``.

    Raises:
        GraphFMError: For a recipe, graph, checkpoint or folder that cannot be used.
        Interrupted: For a signal before the first step.
    """
    if out is None and not dry_run:
        raise DataError("GFM402", "a run needs a folder to write to", fix="pass out=...")
    with contextlib.ExitStack() as stack:
        stops = stack.enter_context(Stops(max_time))
        world = join_world(pick_device(device))
        stack.callback(world.close)
        catalog = Catalog.read()
        with world.first_on_its_machine():
            audited = audit_corpus(chosen(recipe, catalog), catalog)
        if out is not None and not dry_run and world.is_main:
            stack.enter_context(hold(Path(out)))
        with world.first_on_its_machine():
            broken = left_out_before(Path(out)) if out is not None and skip_broken else {}
            corpus = load_corpus(
                recipe, world.device, catalog, broken=broken if skip_broken else None
            )
        if dry_run:
            return estimate(recipe, corpus, fresh_model(recipe, corpus, world.device))
        assert out is not None
        audited["left_out"] = broken
        run = Run(recipe, corpus, Path(out), world.device, resume, audited, world=world)
        return run.go(stops)


def left_out_before(out: Path) -> dict[str, str]:
    """Graphs that a run was begun without, and why: it goes on without them."""
    found = newest_good(out)
    return dict(found.config.get("left_out", {})) if found else {}


def chosen(recipe: Recipe, catalog: Catalog) -> dict[str, float]:
    """The graphs of a recipe's mixture that teach, and their weights.

    Raises:
        DataError: GFM123 where nothing is left of the mixture.
    """
    weights = catalog.mixture(recipe.data.mixture)
    unknown = set(recipe.data.exclude) - set(weights)
    if unknown or not weights.keys() - set(recipe.data.exclude):
        raise DataError(
            "GFM123", f"data.exclude must name graphs of {recipe.data.mixture}: {sorted(unknown)}"
        )
    left = [id for id in weights if id not in recipe.data.exclude]
    order = np.random.default_rng(recipe.seed).permutation(len(left))
    kept = {left[i] for i in order[: max(1, round(recipe.data.graph_share * len(left)))]}
    return {id: weight for id, weight in weights.items() if id in kept}


def audit_corpus(corpus: Collection[str], catalog: Catalog) -> dict[str, Any]:
    """Refuse a corpus that overlaps with what models are judged on; what the run keeps of that.

    Raises:
        DataError: GFM147 for an overlap.
    """
    judged = [entry.id for entry in catalog.entries.values() if entry.role == "evaluation"]
    report = audit_ids(corpus, judged, catalog)
    report.refuse()
    return {
        "not_judged_on": not_judged_on(corpus, catalog),
        "audit": {
            "clean": report.clean,
            "judged": judged,
            "declared_only": list(report.declared_only),
            "pairs_compared": report.compared,
            "seconds": round(report.seconds, 2),
        },
    }


def load_corpus(
    recipe: Recipe,
    device: torch.device,
    catalog: Catalog | None = None,
    *,
    broken: dict[str, str] | None = None,
) -> Corpus:
    """Prepare the graphs of a recipe's mixture; see :func:`chosen`.

    Args:
        recipe: Which mixture.
        device: Where the graphs shall lie.
        catalog: Where they are looked up.
        broken: Graphs to leave out, by id, and why; those that cannot be read are added. None =
            they are an error.

    Raises:
        DataError: GFM191 for a graph that cannot be read, or where none is left.
    """
    catalog = catalog or Catalog.read()
    weights = chosen(recipe, catalog)
    before = set(broken or {})
    wanted = [id for id in weights if id not in before]
    graphs = prepare_many(wanted, catalog, jobs=recipe.data.jobs, broken=broken)
    for id, why in (broken or {}).items():
        log.warning("%s is left out%s: %s", id, ", as before" if id in before else "", why)
    if not graphs:
        raise DataError("GFM191", f"none of the {len(weights)} graphs can be read")
    return Corpus(graphs, [weights[g.name] for g in graphs], recipe, device=device)
