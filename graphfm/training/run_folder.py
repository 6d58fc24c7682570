"""The folder of a run: its lock, its checkpoints, and the checkpoint that a run resumes from."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphfm.checkpoint.folder import SHARDED, Checkpoint, find_checkpoint
from graphfm.config.parts import validated
from graphfm.config.recipe import Recipe
from graphfm.errors import CheckpointError, OutputError, RecipeError
from graphfm.storage import file_lock

LOCK = ".graphfm.lock"
HOLDER = ".graphfm.json"  # names the process that holds the lock
STEP_FOLDER = re.compile(r"step_(\d{6,})")

# Keys that may change when a run resumes: its length, what is written when, how work is divided.
MAY_CHANGE = {
    "about",
    "data.jobs",
    *(f"train.{k}" for k in ("steps", "max_time", "log_every", "eval_every", "save_every", "keep")),
}

log = logging.getLogger(__name__)


@contextmanager
def lock_folder(out: Path) -> Iterator[None]:
    """Make a run folder if needed and lock it for this process; a killed process frees its lock.

    Raises:
        OutputError: GFM802 if another run writes to the folder, GFM403 if it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / LOCK).touch()
    except OSError as error:
        raise OutputError(
            "GFM403", f"cannot make the folder: {error.strerror or error}", where=str(out)
        ) from None
    with file_lock(out / LOCK, wait=False, what=str(out)):
        yield


@contextmanager
def write_errors(out: Path) -> Iterator[None]:
    """Turn every OSError into an OutputError GFM801: the run folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            "GFM801",
            f"the run folder cannot be written: {error.strerror or error}",
            where=str(error.filename or out),
            fix="free disk space, then run the same command again to resume; earlier checkpoints "
            "are intact",
        ) from None


def checkpoint_path(out: Path, step: int) -> Path:
    """Return the folder of the checkpoint of a step."""
    return out / "checkpoints" / f"step_{step:06d}"


def checkpoints(out: Path) -> dict[int, Path]:
    """Return the checkpoint folders of a run by step, ascending, without incomplete ones."""
    found = {}
    for path in (out / "checkpoints").glob("step_*"):
        match = STEP_FOLDER.fullmatch(path.name)
        if match and path.is_dir():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def newest_good(out: Path) -> Checkpoint | None:
    """Return the newest checkpoint that verifies, open; the log names those that do not.

    Raises:
        CheckpointError: GFM309 if there are checkpoints and none verifies, GFM303 for one of a
            newer format.
    """
    found = checkpoints(out)
    for path in reversed(found.values()):
        try:
            return Checkpoint.open(path)
        except CheckpointError as error:
            if error.code == "GFM303":
                raise  # the checkpoint is good, but this version cannot read it
            log.warning("%s skipped: %s", path, error.what)
    if found:
        raise CheckpointError(
            "GFM309",
            f"none of the {len(found)} checkpoints is intact",
            where=str(out / "checkpoints"),
            fix="restore a copy of one, or start a new run in another --out",
        )
    return None


def choose_start(
    out: Path, resume: str, *, trust_shards: bool = False, overwrite: bool = False
) -> Checkpoint | None:
    """Return the checkpoint that a run starts from, verified; None for a new run.

    Temporary files of a killed run are removed first.

    Args:
        out: Run folder, locked by this process.
        resume: See :func:`graphfm.training.pretrain.pretrain`.
        trust_shards: If true, ``resume`` may name a checkpoint with shards. Default: false.
        overwrite: If true, the checkpoints in ``out`` are not looked at. Default: false.

    Raises:
        CheckpointError: GFM308 if ``resume`` is ``never`` and the folder holds checkpoints, GFM305
            for a checkpoint with shards from elsewhere; see also :func:`newest_good`.
    """
    with write_errors(out):
        remove_temporary(out)
    if resume == "never":
        if checkpoints(out) and not overwrite:
            raise CheckpointError(
                "GFM308",
                f"{out} already holds a run",
                fix="choose another --out, or resume that run: --resume auto",
            )
        return None
    found = None if overwrite else newest_good(out)
    if resume == "auto":
        return found
    if found is None:
        given = Checkpoint.open(resume)
        if given.shards() is not None and not trust_shards:
            raise CheckpointError(
                "GFM305",
                "the checkpoint holds shards in torch's own format, whose index names classes",
                where=str(given.path / SHARDED),
                why="it is not in --out, so another person may have made it",
                fix="if you wrote this run yourself: --trust-shards",
            )
        return given
    log.warning(
        "resuming from %s, which is in --out already, not from %s",
        found.path,
        find_checkpoint(Path(resume)),
    )
    return found


def check_same_run(start: Checkpoint, recipe: Recipe, graphs: Sequence[str]) -> None:
    """Refuse to resume a run with another recipe or other graphs.

    Args:
        start: Checkpoint that the run starts from.
        recipe: Recipe of the run.
        graphs: Names of the graphs of its corpus.

    Raises:
        CheckpointError: GFM306 if a key outside :data:`MAY_CHANGE` or the graphs differ.
    """
    differing = recipe_differences(start.config.get("recipe", {}), recipe)
    if list(start.config.get("corpus", [])) != list(graphs):
        differing.append("the graphs of the corpus")
    if differing:
        raise CheckpointError(
            "GFM306",
            f"{start.path} belongs to another run; these differ: {', '.join(differing)}",
            fix="choose another --out, or use the recipe of that run: config.resolved.yaml",
        )


def recipe_differences(trained: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Return the keys outside :data:`MAY_CHANGE` that differ from the recipe of a checkpoint.

    Args:
        trained: Recipe of the checkpoint, as plain data. Keys that are newer than the checkpoint
            have their default.
        recipe: Recipe to compare with.
    """
    try:
        before = validated(Recipe, dict(trained)).model_dump(mode="json")
    except RecipeError:
        before = dict(trained)
    # The targets of a balanced step do not depend on its bins.
    is_balanced = recipe.sampling.strategy == "balanced"
    may_change = MAY_CHANGE | ({"sampling.bins_per_step"} if is_balanced else set())
    old, new = _flat(before), _flat(recipe.model_dump(mode="json"))
    keys = sorted(old.keys() | new.keys())
    return [k for k in keys if k not in may_change and old.get(k) != new.get(k)]


def remove_temporary(out: Path) -> None:
    """Remove the temporary files that a killed run left; the caller must hold the lock."""
    for path in (*out.glob("*.tmp-*"), *(out / "checkpoints").glob("*.tmp-*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def prune_checkpoints(
    out: Path,
    *,
    keep: int,
    losses: Mapping[int, float],
    reached: int | None = None,
    lasting: Collection[int] = (),
) -> None:
    """Remove all checkpoints except the newest ones and the one with the lowest validation loss.

    Args:
        out: Run folder.
        keep: Number of newest checkpoints to keep; at least 1.
        losses: Validation loss by step.
        reached: Step that the run has reached. Later checkpoints are damaged ones that the run did
            not resume from: they do not count, and stay until the run reaches them. Default: the
            newest checkpoint.
        lasting: Steps whose checkpoint is always kept.
    """
    found = {s: path for s, path in checkpoints(out).items() if reached is None or s <= reached}
    evaluated = [step for step in found if step in losses]
    best = {min(evaluated, key=lambda step: losses[step])} if evaluated else set()
    for step in list(found)[:-keep]:
        if step not in best and step not in lasting:
            # Renamed first, so that an interrupted removal leaves no half checkpoint.
            doomed = found[step].with_name(f"{found[step].name}.tmp-{os.getpid()}")
            found[step].rename(doomed)
            shutil.rmtree(doomed)


def check_disk_space(out: Path, params: int) -> None:
    """Reserve and release the space of one checkpoint, so that a full disk is noticed at once.

    Args:
        out: Run folder.
        params: Number of parameters; each takes 4 bytes of weights and 8 bytes of optimizer state.

    Raises:
        OutputError: GFM801 if the checkpoint does not fit.
    """
    if not hasattr(os, "posix_fallocate"):  # Windows, macOS
        return
    sizes = {"weights": 4 * params, "trainer": 8 * params}
    paths = [out / f"{name}.tmp-{os.getpid()}" for name in sizes]
    try:
        with write_errors(out):
            for path, size in zip(paths, sizes.values(), strict=True):
                with path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested keys, joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        )
    return flat
