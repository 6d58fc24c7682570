"""Where a run goes on from, and whether it is the same run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphfm.checkpoint import find_checkpoint, verify_checkpoint
from graphfm.config import Recipe
from graphfm.errors import CheckpointError, RecipeError
from graphfm.parts import validated
from graphfm.training.run_folder import checkpoints, newest_good, tidy, written

log = logging.getLogger(__name__)

# What may change when a run goes on: how long, what is written when, and how the work is divided.
FREE = {
    "about",
    "data.jobs",
    *(f"train.{k}" for k in ("steps", "max_time", "log_every", "eval_every", "save_every", "keep")),
}


def start_from(out: Path, resume: str, recipe: Recipe, graphs: Sequence[str]) -> Path | None:
    """The checkpoint that a run begins with, None = none; what a killed run left is removed.

    Args:
        out: Its folder, held by this process.
        resume: See :func:`graphfm.pretrain.pretrain`.
        recipe: What it is to do.
        graphs: Of its corpus.

    Raises:
        CheckpointError: GFM306 for a checkpoint of another recipe, GFM308 for one where none may
            be; see also :func:`graphfm.training.run_folder.newest_good`.
    """
    with written(out):
        tidy(out)
    if resume == "never":
        if checkpoints(out):
            raise CheckpointError(
                "GFM308",
                f"{out} already holds a run",
                fix="choose another --out, or go on with it: --resume auto",
            )
        return None
    found = newest_good(out)
    if resume != "auto":
        given = find_checkpoint(Path(resume))
        if found is None:
            found = given
        else:
            log.warning("goes on from %s, which --out holds already, not from %s", found, given)
    if found is not None:
        config = verify_checkpoint(found)
        differs = differences(config.get("recipe", {}), recipe)
        if list(config.get("corpus", [])) != list(graphs):
            differs.append("the graphs of the corpus")
        if differs:
            raise CheckpointError(
                "GFM306",
                f"{found} is of another recipe: {', '.join(differs)} differ",
                fix="choose another --out",
            )
    return found


def differences(trained: Mapping[str, Any], asked: Recipe) -> list[str]:
    """Keys of a recipe that are not what a run was begun with; see :data:`FREE`."""
    try:
        before = validated(Recipe, dict(trained)).model_dump(mode="json")  # new keys: their default
    except RecipeError:
        before = dict(trained)
    balanced = asked.sampling.strategy == "balanced"  # then a step's targets do not depend on bins
    free = FREE | ({"sampling.bins_per_step"} if balanced else set())
    flat_before, flat_asked = _flat(before), _flat(asked.model_dump(mode="json"))
    keys = sorted(flat_before.keys() | flat_asked.keys())
    return [k for k in keys if k not in free and flat_before.get(k) != flat_asked.get(k)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys with dots between them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        )
    return flat
