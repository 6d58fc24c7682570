"""Checkpoints: a folder that says what it is, and is verified before it is believed.

config.json         format, versions, shape of the model, what it learned from
specs.json          the datasets it has adapters and heads for
model.safetensors   weights
trainer.pt          optimizer and cursor (pretraining only; read with weights_only=True)
manifest.json       sha256 and size of every other file, written last
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graphfm.errors import CheckpointError, OutputError
from graphfm.graphs.rawfiles import file_sha256
from graphfm.graphs.spec import GraphSpec
from graphfm.model import GraphFM

FORMAT = 1
LATEST = "LATEST"


def save_checkpoint(
    folder: Path,
    model: GraphFM,
    *,
    meta: dict[str, Any],
    trainer: dict[str, Any] | None = None,
    extra: dict[str, dict[str, Tensor]] | None = None,
) -> None:
    """Write a checkpoint: to a temporary folder first, which is renamed when all of it is on disk.

    Args:
        folder: Where it shall be; replaced if it is there.
        model: What to save.
        meta: Plain data for ``config.json``: name, step, corpus, ...
        trainer: State to resume from.
        extra: Further tensors by file stem, such as a feature transform.

    Raises:
        OutputError: GFM801 if it cannot be written; what was there before is intact.
    """
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        save_file(weights, temporary / "model.safetensors")
        for stem, tensors in (extra or {}).items():
            save_file(
                {k: v.contiguous() for k, v in tensors.items()}, temporary / f"{stem}.safetensors"
            )
        config = {"format": FORMAT, "model": model.config(), **meta}
        write_json(temporary / "config.json", config)
        write_json(temporary / "specs.json", [s.model_dump() for s in model.specs.values()])
        if trainer is not None:
            torch.save(trainer, temporary / "trainer.pt")
        files = sorted(p for p in temporary.iterdir())
        manifest = {p.name: {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in files}
        write_json(temporary / "manifest.json", manifest)
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
        _flush(folder.parent)
    except OSError as error:
        raise OutputError(
            "GFM801",
            f"the checkpoint could not be written: {error}",
            where=str(folder),
            fix="make room or choose another --out; earlier checkpoints are intact",
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already, if all went well


def point_latest(run: Path, checkpoint: Path) -> None:
    """Name the newest complete checkpoint of a run."""
    text = str(checkpoint.relative_to(run))
    temporary = run / f"{LATEST}.tmp-{os.getpid()}"
    temporary.write_text(text + "\n", encoding="utf-8")
    _flush(temporary)
    os.replace(temporary, run / LATEST)
    _flush(run)


def find_checkpoint(folder: Path) -> Path:
    """The checkpoint folder that a run or checkpoint folder means.

    Raises:
        CheckpointError: GFM301 if there is none.
    """
    if (folder / "manifest.json").is_file():
        return folder
    if (folder / LATEST).is_file():
        return folder / (folder / LATEST).read_text(encoding="utf-8").strip()
    raise CheckpointError(
        "GFM301",
        f"no checkpoint in {folder}",
        why=f"expected a run folder with {LATEST}, or a checkpoint folder with manifest.json",
    )


def verify_checkpoint(folder: Path) -> dict[str, Any]:
    """Check every file against the manifest and return ``config.json``.

    Raises:
        CheckpointError: GFM302 for a file that is missing, cut short or altered; GFM303 for a
            format from the future.
    """
    manifest = _read_json(folder / "manifest.json")
    for name, wanted in manifest.items():
        path = folder / name
        came = file_sha256(path) if path.is_file() else "no file"
        if came != wanted["sha256"]:
            raise CheckpointError(
                "GFM302",
                f"{name} is damaged: expected sha256 {wanted['sha256'][:16]}…, got {came[:16]}…",
                where=str(path),
                fix="delete this checkpoint and use an earlier one",
            )
    config = _read_json(folder / "config.json")
    if config.get("format", 0) > FORMAT:
        raise CheckpointError(
            "GFM303",
            f"checkpoint format {config['format']} is newer than {FORMAT}, which is read here",
            where=str(folder),
            fix="pip install -U graphfm",
        )
    return config


def load_model(folder: Path | str) -> GraphFM:
    """The model of a run or checkpoint folder, verified.

    Raises:
        CheckpointError: GFM301 to GFM304.
    """
    path = find_checkpoint(Path(folder))
    config = verify_checkpoint(path)
    model = _fresh_model(path, config)
    weights = read_tensors(path / "model.safetensors")
    missing = set(model.state_dict()) ^ set(weights)
    if missing:
        raise CheckpointError(
            "GFM304",
            f"{len(missing)} weights do not match the shape in config.json",
            where=str(path),
            why=", ".join(sorted(missing)[:5]),
        )
    model.load_state_dict(weights)
    return model.eval()


def not_judged_on(folder: Path | str) -> list[str]:
    """Ids of graphs that the weights of a run or checkpoint folder must not be judged on.

    Those they were trained on and all of the same groups; for an older checkpoint, which does not
    say, only those it was trained on.
    """
    config = _read_json(find_checkpoint(Path(folder)) / "config.json")
    return list(config.get("not_judged_on", config.get("corpus", [])))


def load_trainer(folder: Path) -> dict[str, Any]:
    """State to resume from; the folder has been verified."""
    state: dict[str, Any] = torch.load(folder / "trainer.pt", weights_only=True)
    return state


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        CheckpointError: GFM302 if it cannot be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError("GFM302", f"not readable: {error}", where=str(path)) from None


def inspect_checkpoint(folder: Path | str) -> dict[str, Any]:
    """What a run or checkpoint folder holds, as plain data; verified, no weights loaded."""
    path = find_checkpoint(Path(folder))
    config = verify_checkpoint(path)
    model = _fresh_model(path, config)
    return {
        "folder": str(path),
        "verified": True,
        "params": model.num_params(),
        "datasets": len(model.specs),
        **config,
    }


def _fresh_model(path: Path, config: dict[str, Any]) -> GraphFM:
    """A model of the shape that a checkpoint describes."""
    specs = [GraphSpec(**spec) for spec in _read_json(path / "specs.json")]
    return GraphFM.from_config(config["model"], specs=specs)


def write_json(path: Path, content: Any) -> None:
    """Readable JSON, one line at the end."""
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError("GFM302", f"not readable: {error}", where=str(path)) from None


def _flush(path: Path) -> None:
    """Force a file or folder onto the disk: a rename is only safe after that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
