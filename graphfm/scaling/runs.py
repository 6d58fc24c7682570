"""Table of runs that a scaling law is fitted to, from receipts, CSV and Parquet.

Shapes:
    n  runs
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from graphfm.errors import DataError
from graphfm.scaling.law import Array, Cost

log = logging.getLogger(__name__)

NUMBERS = ("params", "targets", "loss", "unique", "flops", "weight")  # all above zero
NAMES = ("seed", "dataset", "run")
REQUIRED = ("params", "targets", "loss")
MAX_NAMED = 5  # limit of the lines or files that a message names

# Keys of the columns in a receipt (run.json).
RECEIPT = {
    "params": "params.trunk",
    "targets": "targets_seen",
    "loss": "loss_end",
    "unique": "unique_targets",
    "flops": "flops",
    "seed": "environment.seed",
}


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Finished runs. Every array is (n,).

    Args:
        params: Trunk parameters.
        targets: Targets seen, repeats counted.
        loss: Loss in nats per target, above zero.
        unique: Different targets, or graphs if the number of graphs grows.
        flops: FLOPs of the whole run, as the model counts them.
        seed: Seed, as text.
        dataset: Name of the dataset that the loss was measured on.
        run: Name of the training run. Its rows (several ``targets`` of one warm-up-stable-decay
            run) are resampled together.
        weight: Weight of a row. Default: 1.
        rows: Source of each row, for messages.
    """

    params: Array
    targets: Array
    loss: Array
    unique: Array | None = None
    flops: Array | None = None
    seed: Array | None = None
    dataset: Array | None = None
    run: Array | None = None
    weight: Array | None = None
    rows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*NUMBERS, *NAMES):
            given = getattr(self, name)
            if given is None:
                continue
            array = np.asarray(given, float) if name in NUMBERS else np.asarray(given).astype(str)
            object.__setattr__(self, name, array)
            if array.shape != np.shape(self.params) or array.ndim != 1:
                raise DataError(
                    "GFM701", f"{name} must be ({np.size(self.params)},), got {array.shape}"
                )
            if name in NUMBERS:
                self._check(name, array)
        if not len(self.params):
            raise DataError("GFM701", "the table has no finished run")
        if self.unique is not None and np.any(self.unique > self.targets * (1 + 1e-9)):
            # The run did not reach all of its different targets. It saw only so many, and a law of
            # repeated data would have D < U.
            log.warning(
                "%d runs saw fewer targets than their data have: no target was repeated in them",
                int(np.sum(self.unique > self.targets)),
            )

    def _check(self, name: str, array: Array) -> None:
        bad = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
        if len(bad):
            where = ", ".join(self.place(i) for i in bad[:MAX_NAMED])
            values = ", ".join(f"{v:g}" for v in array[bad[:MAX_NAMED]])
            raise DataError(
                "GFM701", f"{name} must be above zero and finite in every run, got {values}",
                where=f"{where} ({len(bad)} in all)",
                fix="remove these runs from the table, or correct them",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.params)

    def place(self, i: int) -> str:
        """Return the source of row ``i``."""
        return self.rows[i] if self.rows else f"row {i + 1}"

    def take(self, which: Any) -> Runs:
        """Return some of the runs, by a mask (n,) or indices."""
        index = np.arange(len(self))[which]
        kept: dict[str, Any] = {"rows": tuple(self.rows[i] for i in index) if self.rows else ()}
        for name in (*NUMBERS, *NAMES):
            array = getattr(self, name)
            kept[name] = None if array is None else array[index]
        return Runs(**kept)

    @property
    def compute(self) -> Array:
        """FLOPs, (n,); without a count params times targets, which have the same order."""
        return self.params * self.targets if self.flops is None else self.flops

    def logs(self) -> dict[str, Array]:
        """Return the log coordinates by name; without ``unique`` nothing repeats."""
        unique = self.targets if self.unique is None else np.minimum(self.unique, self.targets)
        return {k: np.log(v) for k, v in zip(
            ("params", "targets", "unique"), (self.params, self.targets, unique), strict=True
        )}  # fmt: skip

    def cost(self) -> Cost:
        """Fit the cost of a run, a power law in ``params``, to FLOPs; 6 N D without them."""
        if self.flops is None:
            return Cost()
        per_target, size = np.log(self.flops / self.targets), np.log(self.params)
        if np.ptp(size) < 1e-9:
            return Cost(scale=float(np.exp(np.mean(per_target - size))))
        power, scale = np.polyfit(size, per_target, 1)
        return Cost(scale=float(np.exp(scale)), power=float(power))


def read_runs(paths: Iterable[Path | str], columns: Mapping[str, str] | None = None) -> Runs:
    """Read receipts (``run.json``) and tables (CSV, Parquet) into one table of runs.

    Runs that did not finish and rows without a loss are left out; a warning tells how many.

    Args:
        paths: Files.
        columns: Other names of columns, by their name in :class:`Runs`: a column of a table, or a
            dotted key of a receipt (``{"unique": "datasets"}`` counts graphs).

    Raises:
        DataError: GFM103 for a file that cannot be read, GFM104 for a missing column, GFM701 for a
            value that cannot be used.
    """
    columns = dict(columns or {})
    unknown = sorted(set(columns) - {*NUMBERS, *NAMES})
    if unknown:
        raise DataError(
            "GFM701", f"a table of runs has no {', '.join(unknown)}",
            fix=f"it has {', '.join((*NUMBERS, *NAMES))}",
        )  # fmt: skip
    files = [Path(path) for path in paths]
    parts: list[dict[str, Any]] = []
    left_out: list[str] = []
    for path in files:
        if path.suffix == ".json":
            row = _receipt(path, {**RECEIPT, **columns})
            (left_out.append(str(path)) if row is None else parts.append(row))
        else:
            parts.append(_table(path, columns, left_out))
    if left_out:
        listed = ", ".join(left_out[:MAX_NAMED]) + (", ..." if len(left_out) > MAX_NAMED else "")
        count = f"{len(left_out)} run{'' if len(left_out) == 1 else 's'}"
        log.warning("%s left out: not finished, or without a loss (%s)", count, listed)
    rows = [place for part in parts for place in part["rows"]]
    if not rows:
        raise DataError(
            "GFM701", "no finished run in these files",
            where=", ".join(map(str, files[:MAX_NAMED])),
            why=f"{len(left_out)} left out: not finished, or without a loss",
        )  # fmt: skip
    joined: dict[str, Any] = {}
    for name in (field.name for field in fields(Runs) if field.name != "rows"):
        found = [part.get(name) for part in parts]
        given = [values for values in found if values is not None]
        if len(given) == len(found):
            joined[name] = np.concatenate([values for values in given if len(values)])
        elif given:
            log.warning("%s is not used, because not every file has it", name)
    return Runs(**joined, rows=tuple(rows))


def _receipt(path: Path, keys: Mapping[str, str]) -> dict[str, Any] | None:
    """Read one row from a receipt; None if the run did not finish."""
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("GFM103", f"not a receipt: {error}", where=str(path)) from None
    if not isinstance(receipt, dict) or not isinstance(receipt.get("finished"), bool):
        raise DataError(
            "GFM103", "not the receipt of a run: it has no key 'finished'",
            where=str(path), fix="give run.json files, or a CSV of runs",
        )  # fmt: skip
    if not receipt["finished"]:
        return None
    row: dict[str, Any] = {"rows": [str(path)]}
    for name, key in keys.items():
        value: Any = receipt
        for step in key.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        if value is None and (name in REQUIRED or RECEIPT.get(name) != key):
            raise DataError("GFM104", f"no {key} in the receipt, for {name}", where=str(path))
        if value is not None:
            try:
                row[name] = np.array([float(value)]) if name in NUMBERS else np.array([str(value)])
            except (TypeError, ValueError):
                raise DataError(
                    "GFM701", f"{name} must be a number, got {value!r}", where=f"{path}, {key}"
                ) from None
    return row


def _table(path: Path, columns: Mapping[str, str], left_out: list[str]) -> dict[str, Any]:
    """Read the rows of a table that have a loss."""
    from graphfm.graphs.readers.open_table import open_table
    from graphfm.graphs.readers.tables import MISSING

    table = open_table(path)
    named = {name: columns.get(name, name) for name in (*NUMBERS, *NAMES)}
    missing = [
        (name, column) for name, column in named.items()
        if column not in table.names and (name in REQUIRED or name in columns)
    ]  # fmt: skip
    if missing:
        name, column = missing[0]
        raise DataError(
            "GFM104", f"no column {column!r}, for {name}", where=str(path),
            why=f"it has {', '.join(table.names[:20])}",
            fix=f"name the column: columns={{'{name}': ...}}, or --column {name}=...",
        )  # fmt: skip
    found = {name: column for name, column in named.items() if column in table.names}
    text = table.text(list(found.values()))
    cells = {name: text.column(i).to_pylist() for i, name in enumerate(found)}
    empty = {*MISSING, None}
    kept = [i for i, loss in enumerate(cells["loss"]) if loss not in empty]
    gone = sorted(set(range(len(cells["loss"]))) - set(kept))
    left_out += [f"{path}, line {line}" for line in table.lines(gone)]
    left_out += [str(path)] * max(0, len(gone) - MAX_NAMED)
    row: dict[str, Any] = {"rows": [f"{path}, run {i + 1}" for i in kept]}
    for name, values in cells.items():
        if name in NAMES:
            row[name] = np.array([str(values[i]) for i in kept])
            continue
        bad = [i for i in kept if not _number(values[i])]
        if bad:
            raise DataError(
                "GFM701", f"{named[name]} must be a number, got {values[bad[0]]!r}",
                where=table.where(bad),
            )  # fmt: skip
        row[name] = np.array([float(values[i]) for i in kept])
    return row


def _number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True
