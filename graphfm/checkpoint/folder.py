"""Checkpoint folders: written whole or not at all, and verified once when they are opened.

config.json         format, versions, shape of the model, facts about its pretraining
specs.json          the datasets that the model has adapters and heads for
model.safetensors   weights
trainer.pt          optimizer and step (pretraining only; read with weights_only=True)
sharded/            weights and optimizer in shards (pretraining of very large trunks only)
split.json          split and scores of a fit by command (not in a folder saved in Python)
manifest.json       sha256 and size of every other file, written last

No other file of the folder is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graphfm.checkpoint.checks import (
    FIX,
    check_config,
    check_finite,
    check_size,
    malformed,
    read_header,
)
from graphfm.checkpoint.manifest import MANIFEST, is_inside, read_json, replaced_model, verify_files
from graphfm.errors import CheckpointError, DivergedError, OutputError
from graphfm.graphs.spec import GraphSpec
from graphfm.storage import replace_text, write_json

FORMAT = 2  # 2: split.json is in the manifest
LATEST = "LATEST"
SHARDED = "sharded"
_LATEST_NAME = re.compile(r"checkpoints/step_\d+")  # LATEST may name nothing outside the run


class Savable(Protocol):
    """A model that :func:`save_checkpoint` can write."""

    specs: dict[str, GraphSpec]

    def config(self) -> dict[str, Any]:
        """Return the shape of the model as plain data."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint folder whose files were verified against its manifest.

    Args:
        path: Folder of the checkpoint itself.
        config: Content of ``config.json``.
        files: Names of the verified files.
    """

    path: Path
    config: dict[str, Any]
    files: frozenset[str]

    @classmethod
    def open(cls, folder: Path | str) -> Checkpoint:
        """Find the checkpoint of a run or checkpoint folder and verify all its files.

        Raises:
            CheckpointError: GFM301 without a checkpoint, GFM302 for a damaged file, GFM303 for a
                newer format.
        """
        path = find_checkpoint(Path(folder))
        files = verify_files(path)
        return cls(path, _read_config(path), files)

    @property
    def model_config(self) -> dict[str, Any]:
        """Shape of the model, as ``GraphFM.from_config`` takes it."""
        shape: dict[str, Any] = self.config["model"]
        return shape

    @property
    def about(self) -> dict[str, Any]:
        """Everything in ``config.json`` except the format and the shape of the model."""
        return {k: v for k, v in self.config.items() if k not in ("format", "model")}

    @property
    def is_fitted(self) -> bool:
        """True if an estimator was saved here, fitted to one graph."""
        return "estimator" in self.config

    def specs(self) -> list[GraphSpec]:
        """Return the datasets that the model has adapters and heads for.

        Raises:
            CheckpointError: GFM302 if they cannot be read.
        """
        path = self.path / "specs.json"
        with malformed(path, "the datasets"):
            return [GraphSpec(**spec) for spec in read_json(path)]

    def outline(self, build: Callable[..., Any]) -> Any:
        """Return the model without values, after its shape was compared with the weights.

        Args:
            build: Constructor that takes ``model_config`` and ``specs``. It runs on torch's device
                ``meta``, where weights take no memory.

        Raises:
            CheckpointError: GFM302 for a shape that cannot be, GFM304 for one that the weights do
                not have.
        """
        path, specs = self.path / "config.json", self.specs()
        header = read_header(self.path / self._needed("model.safetensors"))
        check_size(self.model_config, header, path)
        check_size([spec.model_dump() for spec in specs], header, self.path / "specs.json")
        with malformed(path, "model"), torch.device("meta"):
            model = build(self.model_config, specs=specs)
        _check_shapes(model.state_dict(), header, self.path)
        return model

    def weights(self) -> dict[str, Tensor]:
        """Return the weights.

        Raises:
            CheckpointError: GFM302 for values that are not finite.
        """
        return read_tensors(self.path / self._needed("model.safetensors"))

    def _needed(self, name: str) -> str:
        """Return the name of a file that every checkpoint has, after a check that it is listed."""
        if self.has(name):
            return name
        raise CheckpointError("GFM302", f"{name} is missing", where=str(self.path), fix=FIX)

    def tensors(self, stem: str) -> dict[str, Tensor] | None:
        """Return the further tensors saved as ``stem``; None if there are none.

        Raises:
            CheckpointError: GFM302 for a file that cannot be read, or is not in the manifest.
        """
        name = f"{stem}.safetensors"
        return read_tensors(self.path / name) if self.has(name) else None

    def has(self, name: str) -> bool:
        """Return true if a file of this name was verified.

        Raises:
            CheckpointError: GFM302 if the folder holds the file, but its manifest does not list it.
        """
        if name in self.files:
            return True
        path = self.path / name
        if path.exists():
            raise CheckpointError(
                "GFM302",
                f"{name} is in the folder, but not in its manifest.json",
                where=str(path),
                fix="copy the folder again; or move the file away if it does not belong there",
            )
        return False

    def shards(self) -> Path | None:
        """Return the folder of the shards; None if there is none.

        Raises:
            CheckpointError: GFM302 if it holds a file that is not in the manifest.
        """
        folder = self.path / SHARDED
        names = [path.relative_to(self.path).as_posix() for path in folder.rglob("*")]
        if not names and not folder.exists():
            return None
        for name in names:
            self.has(name)
        return folder

    def trainer(self) -> dict[str, Any]:
        """Return the state to resume from.

        Raises:
            CheckpointError: GFM310 if there is none, as in a folder of ``graphfm finetune``.
        """
        path = self.path / "trainer.pt"
        if not self.has("trainer.pt"):
            raise CheckpointError(
                "GFM310",
                "the checkpoint holds weights, but not the state of a run to resume",
                where=str(self.path),
                fix="give a folder that `graphfm pretrain` wrote",
            )
        with malformed(path, "the file"):
            try:
                state: Any = torch.load(path, weights_only=True, map_location="cpu")
            except Exception as error:  # of torch and of its readers, which differ by version
                raise ValueError(error) from None
            return dict(state)


def save_checkpoint(
    folder: Path,
    model: Savable,
    *,
    meta: dict[str, Any],
    trainer: dict[str, Any] | None = None,
    extra: dict[str, dict[str, Tensor]] | None = None,
    weights: dict[str, Tensor] | None = None,
    shards: Path | None = None,
    files: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a checkpoint folder, whole or not at all.

    Args:
        folder: Path of the checkpoint. A model that it holds is replaced; other files stay.
        model: Model to save.
        meta: Plain data for ``config.json``: name, step, corpus, ...
        trainer: State to resume from. Default: none.
        extra: Further tensors by file stem, such as a feature transform. Default: none.
        weights: Weights to save, if the model holds only a shard of them. Default: the model's.
        shards: Folder to move into the checkpoint as ``sharded``. Default: none.
        files: Further text files by name, such as ``split.json``. Default: none.
        overwrite: If true, the folder is replaced as a whole, whatever it holds. Default: false.

    Raises:
        OutputError: GFM801 if it cannot be written, GFM402 if the folder holds files that are not
            a model; an existing folder stays as it was.
        DivergedError: GFM602 if weights are not finite; nothing is written.
    """
    given = model.state_dict() if weights is None else weights
    weights = {k: v.detach().cpu().contiguous() for k, v in given.items()}
    bad = [k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise DivergedError(
            "GFM602",
            f"{len(bad)} weights are not finite, so they are not saved",
            where=", ".join(bad[:5]),
            fix="lower the learning rate; earlier checkpoints are intact",
        )
    try:
        with replaced_model(folder, keep_others=not overwrite) as temporary:
            save_file(weights, temporary / "model.safetensors")
            for stem, tensors in (extra or {}).items():
                contiguous = {k: v.contiguous() for k, v in tensors.items()}
                save_file(contiguous, temporary / f"{stem}.safetensors")
            config = {"format": FORMAT, "model": model.config(), **meta}
            write_json(temporary / "config.json", config)
            write_json(temporary / "specs.json", [s.model_dump() for s in model.specs.values()])
            for name, text in (files or {}).items():
                assert is_inside(name), name
                replace_text(temporary / name, text)
            if trainer is not None:
                torch.save(trainer, temporary / "trainer.pt")
            if shards is not None:
                shards.rename(temporary / SHARDED)
    except (OSError, SafetensorError, RuntimeError) as error:
        # A full disk is an OSError of Python, a SafetensorError, or a RuntimeError of torch.save.
        raise OutputError(
            "GFM801",
            f"the checkpoint could not be written: {error}",
            where=str(folder),
            fix="make room or choose another --out; earlier checkpoints are intact",
        ) from None


def point_latest(run: Path, checkpoint: Path) -> None:
    """Write the name of the newest complete checkpoint of a run to ``LATEST``."""
    replace_text(run / LATEST, checkpoint.relative_to(run).as_posix() + "\n")


def find_checkpoint(folder: Path) -> Path:
    """Return the checkpoint folder of a run folder, or the checkpoint folder itself.

    Raises:
        CheckpointError: GFM301 if there is none.
    """
    if (folder / MANIFEST).is_file():
        return folder
    if (folder / LATEST).is_file():
        name = (folder / LATEST).read_bytes().decode("utf-8", "replace").strip()
        named = folder / name
        if _LATEST_NAME.fullmatch(name) and (named / MANIFEST).is_file():
            return named
        raise CheckpointError(
            "GFM301",
            f"{LATEST} names {name[:80]!r}, but there is no such checkpoint",
            where=str(folder / LATEST),
            fix="give the path of a checkpoint in " + str(folder / "checkpoints"),
        )
    raise CheckpointError(
        "GFM301",
        f"no checkpoint in {folder}",
        why=f"expected a run folder with {LATEST}, or a checkpoint folder with manifest.json",
    )


def _read_config(folder: Path) -> dict[str, Any]:
    """Return ``config.json``; its file is verified already.

    Raises:
        CheckpointError: GFM302 for a file with other content, GFM303 for a newer format.
    """
    config = check_config(read_json(folder / "config.json"), folder / "config.json")
    if config.get("format", 0) > FORMAT:
        raise CheckpointError(
            "GFM303",
            f"checkpoint format {config['format']} is newer than {FORMAT}, the newest format "
            "that this version can read",
            where=str(folder),
            fix="pip install -U graphfm",
        )
    return config


def _check_shapes(expected: dict[str, Tensor], found: dict[str, Tensor], folder: Path) -> None:
    """Compare the shapes and types of the weights in the file with those in config.json.

    Raises:
        CheckpointError: GFM304 with the first differences, in at most five lines.
    """
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        one, other = (_shape(w.get(name)) for w in (expected, found))
        if one != other:
            lines.append(f"{name}: config.json expects {one}, the file holds {other}")
    if lines:
        shown = lines if len(lines) <= 5 else [*lines[:4], f"and {len(lines) - 4} more"]
        raise CheckpointError(
            "GFM304",
            f"{len(lines)} weights do not match the shape in config.json",
            where=str(folder),
            why="\n          ".join(shown),
            fix="copy the whole checkpoint again: both files must come from the same save",
        )


def _shape(weight: Tensor | None) -> str:
    """Return the shape of a weight as text; whole numbers are marked, precision is not."""
    if weight is None:
        return "none"
    return f"{tuple(weight.shape)}{'' if weight.is_floating_point() else ' whole numbers'}"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Raises:
        CheckpointError: GFM302 if it cannot be read, or holds values that are not finite.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            "GFM302", f"the file cannot be read: {error}", where=str(path)
        ) from None
    check_finite(tensors, path)
    return tensors


def not_judged_on(about: Mapping[str, Any]) -> list[str]:
    """Return the ids of graphs that a model must not be evaluated on.

    These are the graphs it was trained on and all graphs of the same groups. A checkpoint of an
    earlier version names only the graphs it was trained on.

    Args:
        about: :attr:`Checkpoint.about`, or ``GraphFM.about``.
    """
    return list(about.get("not_judged_on", about.get("corpus", [])))
