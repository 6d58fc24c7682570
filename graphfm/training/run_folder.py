"""The folder of a run: who writes to it, which checkpoints it holds, which of them is good."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphfm.checkpoint.folder import Checkpoint
from graphfm.config.parts import validated
from graphfm.config.recipe import Recipe
from graphfm.errors import CheckpointError, OutputError, RecipeError
from graphfm.storage import file_lock

log = logging.getLogger(__name__)

LOCK = ".graphfm.lock"  # beside it, who holds it: .graphfm.json
_STEP = re.compile(r"step_(\d{6,})")


@contextmanager
def hold(out: Path) -> Iterator[None]:
    """The folder, made if need be, for this process alone; a killed process holds nothing.

    Raises:
        OutputError: GFM802 where another run writes to it, GFM403 where it cannot be made.
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
def written(out: Path) -> Iterator[None]:
    """Say of whatever the system refuses that the run folder cannot be written: GFM801."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            "GFM801",
            f"the run folder cannot be written: {error.strerror or error}",
            where=str(error.filename or out),
            fix="make room, then the same command goes on; checkpoints so far are intact",
        ) from None


def checkpoint_path(out: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return out / "checkpoints" / f"step_{step:06d}"


def checkpoints(out: Path) -> dict[int, Path]:
    """Checkpoint folders of a run by step, ascending; not what is half written or half removed."""
    found = {}
    for path in (out / "checkpoints").glob("step_*"):
        match = _STEP.fullmatch(path.name)
        if match and path.is_dir():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def newest_good(out: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; those that do not are named in the log.

    Raises:
        CheckpointError: GFM309 where there are checkpoints and none verifies; GFM303.
    """
    found = checkpoints(out)
    for path in reversed(found.values()):
        try:
            return Checkpoint.open(path)
        except CheckpointError as error:
            if error.code == "GFM303":
                raise  # it is good, but not for this version
            log.warning("%s is left out: %s", path, error.what)
    if found:
        raise CheckpointError(
            "GFM309",
            f"none of the {len(found)} checkpoints is whole",
            where=str(out / "checkpoints"),
            fix="put back a copy of one, or begin anew: --overwrite",
        )
    return None


def tidy(out: Path) -> None:
    """Remove what a killed run left half written; only for who holds the folder."""
    for path in (*out.glob("*.tmp-*"), *(out / "checkpoints").glob("*.tmp-*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def prune(
    out: Path,
    *,
    keep: int,
    losses: Mapping[int, float],
    reached: int | None = None,
    lasting: Collection[int] = (),
) -> None:
    """Remove all checkpoints but the newest ``keep`` and the one of the least validation loss.

    Args:
        out: Run folder.
        keep: At least 1, so that the one just written, which is whole, stays.
        losses: Validation loss by step.
        reached: Where the run is. What lies beyond was damaged when it was gone on from: it does
            not count, and stays until the run comes there. None = at the newest.
        lasting: Steps whose checkpoint always stays.
    """
    found = {s: path for s, path in checkpoints(out).items() if reached is None or s <= reached}
    judged = [step for step in found if step in losses]
    best = {min(judged, key=lambda step: losses[step])} if judged else set()
    for step in list(found)[:-keep]:
        if step not in best and step not in lasting:
            # Renamed first: a removal that is cut short leaves no half checkpoint to be met.
            doomed = found[step].with_name(f"{found[step].name}.tmp-{os.getpid()}")
            found[step].rename(doomed)
            shutil.rmtree(doomed)


def make_sure_of_room(out: Path, params: int) -> None:
    """Reserve, and give back, what one checkpoint takes: better now than after hours of training.

    Args:
        out: Run folder.
        params: Parameters; float32, and two averages for each in the trainer state.

    Raises:
        OutputError: GFM801 where it does not fit.
    """
    if not hasattr(os, "posix_fallocate"):  # Windows, macOS
        return
    sizes = {"weights": 4 * params, "trainer": 8 * params}
    paths = [out / f"{name}.tmp-{os.getpid()}" for name in sizes]
    try:
        with written(out):
            for path, size in zip(paths, sizes.values(), strict=True):
                with path.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


log = logging.getLogger(__name__)


# What may change when a run goes on: how long, what is written when, and how the work is divided.
FREE = {
    "about",
    "data.jobs",
    *(f"train.{k}" for k in ("steps", "max_time", "log_every", "eval_every", "save_every", "keep")),
}


def start_from(out: Path, resume: str, recipe: Recipe, graphs: Sequence[str]) -> Checkpoint | None:
    """The checkpoint that a run begins with, None = none; what a killed run left is removed.

    Args:
        out: Its folder, held by this process.
        resume: See :func:`graphfm.training.pretrain.pretrain`.
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
        given = Checkpoint.open(resume)
        if found is None:
            found = given
        else:
            log.warning("goes on from %s, which --out holds already, not from %s",
                        found.path, given.path)  # fmt: skip
    if found is not None:
        config = found.config
        differs = differences(config.get("recipe", {}), recipe)
        if list(config.get("corpus", [])) != list(graphs):
            differs.append("the graphs of the corpus")
        if differs:
            raise CheckpointError(
                "GFM306",
                f"{found.path} is of another recipe: {', '.join(differs)} differ",
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
