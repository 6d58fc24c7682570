"""Pretrain one model on many graphs: ``pretrain(recipe, out=...)``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphfm.checkpoint.folder import Checkpoint
from graphfm.config.recipe import Recipe
from graphfm.errors import DataError
from graphfm.graphs.audit.audit import audit_ids, not_judged_on
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.prepare_many import prepare_many
from graphfm.machine import pick_device
from graphfm.places import empty_folder
from graphfm.training.corpus import Corpus, fresh_model
from graphfm.training.estimate import estimate
from graphfm.training.run import Run
from graphfm.training.run_folder import HOLDER, LOCK, choose_start, lock_folder, newest_good
from graphfm.training.stops import StopRequests
from graphfm.training.world import World, join_world

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
    trust_shards: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Pretrain a model by a recipe, alone or as one of the processes that ``torchrun`` started.

    The corpus is audited first: it must not overlap with the catalog's evaluation graphs. The run
    folder then holds ``config.resolved.yaml``, ``env.json``, ``metrics.jsonl``, ``run.json``,
    TensorBoard events in ``tb/``, ``LATEST``, and checkpoints such as
    ``checkpoints/step_000500/``.

    SIGTERM, SIGUSR1 and SIGINT end the run after the current step, with a checkpoint. A second
    SIGINT ends it at once. The same call resumes a run that was stopped or killed; the result
    equals that of an uninterrupted run, bit for bit.

    Args:
        recipe: Recipe, as :func:`graphfm.load_recipe` returns it.
        out: Run folder. Required unless ``dry_run`` is true.
        resume: ``auto`` resumes from the newest intact checkpoint in ``out``, if there is one.
            ``never`` refuses a folder that holds checkpoints. A path starts from that checkpoint;
            once ``out`` holds checkpoints itself, the run resumes from those, so that the same call
            can be repeated. Default: ``auto``.
        device: ``auto``, ``cpu``, ``cuda``, or ``cuda:1``. ``auto`` is CUDA if available. Default:
            ``auto``.
        dry_run: If true, take a few steps, write nothing, and return an estimate of the cost, see
            :func:`graphfm.training.estimate.estimate`. Default: false.
        max_time: Time limit for this call, in seconds; the run is saved, and the same call resumes
            it. The recipe's ``train.max_time`` limits the run as a whole. Default: none.
        skip_broken: If true, leave out graphs that cannot be read; the receipt names them. Default:
            false, such a graph is an error.
        trust_shards: If true, ``resume`` may name a checkpoint with shards (of a very large trunk).
            Their index is checked, but it is no plain data. Default: false.
        overwrite: If true, everything in ``out`` is removed when the new run begins to train; an
            error before that leaves it as it was. Default: false.

    Returns:
        The receipt of the run, which is also written to ``run.json``: parameters, targets seen,
        FLOPs, seconds, loss and accuracy on validation nodes, versions. Its ``stopped`` is None at
        the end of the run, else the name of the signal or ``max-time``.

    Raises:
        RecipeError: For a recipe that cannot be run.
        DataError: For a graph that cannot be read, or a corpus that overlaps with evaluation graphs
            (GFM147).
        CheckpointError: For a checkpoint that the run cannot resume from.
        OutputError: GFM802 if another run writes to ``out``, GFM801 if it cannot be written.
        DivergedError: GFM601 if the loss stays non-finite; earlier checkpoints are intact.
        Interrupted: For a signal before the first step.

    Example:
        >>> from graphfm import load_recipe, pretrain
        >>> receipt = pretrain(load_recipe("demo"), out="runs/demo")  # doctest: +SKIP
    """
    if out is None and not dry_run:
        raise DataError("GFM402", "a run needs a folder to write to", fix="pass out=...")
    with contextlib.ExitStack() as stack:
        stops = stack.enter_context(StopRequests(max_time))
        world = join_world(pick_device(device))
        stack.callback(world.close)
        catalog = Catalog.read()
        with world.first_on_its_machine():
            facts = audit_corpus(choose_graphs(recipe, catalog), catalog)
        start = None
        if out is not None and not dry_run:
            if world.is_main:
                stack.enter_context(lock_folder(Path(out)))
            start = _agree_on_start(
                Path(out), resume, world, trust_shards=trust_shards, overwrite=overwrite
            )
        elif out is not None and skip_broken:
            start = newest_good(Path(out))
        # A run that began without some graphs stays without them.
        broken = dict(start.config.get("left_out", {})) if start and skip_broken else {}
        with world.first_on_its_machine():
            corpus = load_corpus(
                recipe, world.device, catalog, broken=broken if skip_broken else None
            )
        if dry_run:
            return estimate(recipe, corpus, fresh_model(recipe, corpus, world.device))
        assert out is not None
        facts["left_out"] = broken
        if overwrite and world.is_main:
            empty_folder(Path(out), keep=(LOCK, HOLDER))
        run = Run(recipe, corpus, Path(out), world.device, start, facts, world=world)
        return run.train(stops)


def choose_graphs(recipe: Recipe, catalog: Catalog) -> dict[str, float]:
    """Return the ids of the graphs that a recipe trains on, and their weights.

    Args:
        recipe: Mixture, ``data.exclude``, ``data.graph_share`` and seed.
        catalog: Catalog that holds the mixture.

    Raises:
        DataError: GFM123 if ``data.exclude`` names other graphs, or all of them.
    """
    weights = catalog.mixture(recipe.data.mixture)
    excluded = set(recipe.data.exclude)
    if unknown := sorted(excluded - set(weights)):
        raise DataError(
            "GFM123",
            f"data.exclude names graphs that are not in the mixture {recipe.data.mixture}: "
            f"{', '.join(unknown)}",
            fix=f"list its graphs: graphfm datasets list --mixture {recipe.data.mixture}",
        )
    if not weights.keys() - excluded:
        raise DataError("GFM123", f"data.exclude leaves no graph of {recipe.data.mixture}")
    left = [id for id in weights if id not in excluded]
    order = np.random.default_rng(recipe.seed).permutation(len(left))
    kept = {left[i] for i in order[: max(1, round(recipe.data.graph_share * len(left)))]}
    return {id: weight for id, weight in weights.items() if id in kept}


def audit_corpus(corpus: Collection[str], catalog: Catalog) -> dict[str, Any]:
    """Check that a corpus does not overlap with the catalog's evaluation graphs.

    Args:
        corpus: Ids of the graphs to train on.
        catalog: Catalog that holds them.

    Returns:
        The result of the audit, for checkpoints and the receipt.

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
    """Prepare the graphs of a recipe, see :func:`choose_graphs`.

    Args:
        recipe: Recipe of the run.
        device: Device of the graphs.
        catalog: Catalog that holds them. Default: the shipped one.
        broken: Graphs to leave out, by id, with the reason. Graphs that cannot be read are added.
            Default: a graph that cannot be read is an error.

    Raises:
        DataError: GFM191 for a graph that cannot be read, or if no graph remains.
    """
    catalog = catalog or Catalog.read()
    weights = choose_graphs(recipe, catalog)
    before = set(broken or {})
    wanted = [id for id in weights if id not in before]
    graphs = prepare_many(wanted, catalog, jobs=recipe.data.jobs, broken=broken)
    for id, why in (broken or {}).items():
        log.warning("%s is left out%s: %s", id, ", as before" if id in before else "", why)
    if not graphs:
        raise DataError("GFM191", f"none of the {len(weights)} graphs can be read")
    return Corpus(graphs, [weights[g.name] for g in graphs], recipe, device=device)


def _agree_on_start(
    out: Path, resume: str, world: World, *, trust_shards: bool, overwrite: bool
) -> Checkpoint | None:
    """Let the first process choose and verify the checkpoint; return it on all processes."""
    found = None
    if world.is_main:
        found = choose_start(out, resume, trust_shards=trust_shards, overwrite=overwrite)
    shared = world.broadcast(
        None if found is None else [str(found.path), found.config, sorted(found.files)]
    )
    if shared is None:
        return None
    path, config, files = shared
    return Checkpoint(Path(path), config, frozenset(files))
