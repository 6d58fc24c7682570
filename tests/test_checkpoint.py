"""Checkpoints: written whole or not at all, and read only after every byte was verified."""

import json
import os
import shutil

import pytest
import torch

from graphfm.checkpoint.folder import Checkpoint, find_checkpoint, save_checkpoint
from graphfm.errors import CheckpointError, DivergedError, GraphFMError, OutputError
from graphfm.model.graphfm import GraphFM
from graphfm.storage import file_sha256
from graphfm.training.run_folder import (
    LOCK,
    checkpoint_path,
    checkpoints,
    lock_folder,
    newest_good,
    prune_checkpoints,
    remove_temporary,
)
from graphfm.training.state_cloud import StateCloud
from tests.graphs import small_model, three_graphs

STRIDE = 1024  # bytes between two damaged positions of a file
SMALL, SMALL_STRIDE = 2048, 11  # denser in small files, which are read before the hashes


@pytest.fixture(scope="module")
def model():
    return small_model(three_graphs())


def save(out, model, step: int) -> None:
    trainer = {"step": step, "optimizer": {"moment": torch.ones(300)}}
    cloud = StateCloud.of(torch.randn(30, 8), torch.randn(20, 8)).tensors()
    extra = {"novelty": cloud}
    folder = checkpoint_path(out, step)
    folder.parent.mkdir(exist_ok=True, parents=True)
    save_checkpoint(folder, model, meta={"name": "run"}, trainer=trainer, extra=extra)


@pytest.fixture
def run(tmp_path, model):
    for step in (1, 2, 3):
        save(tmp_path, model, step)
    (tmp_path / "LATEST").write_text("checkpoints/step_000003\n")
    return tmp_path


def damaged(content: bytes) -> list[bytes]:
    """Return truncated copies, and copies with one flipped bit: at every KB and at the ends."""
    stride = SMALL_STRIDE if len(content) < SMALL else STRIDE
    places = sorted({*range(0, len(content), stride), len(content) - 1})
    flipped = []
    for number, place in enumerate(places):
        changed = bytearray(content)
        changed[place] ^= 1 << ((7 - number) % 8)
        flipped.append(bytes(changed))
    return [*(content[:place] for place in places), *flipped]


def files_of(run) -> list:
    return [run / "LATEST", *sorted(checkpoint_path(run, 3).iterdir())]


def test_every_file_damaged_anywhere_is_found_or_harmless(run, model):
    """Damage at 1 KB steps gives an error of this package, or exactly the saved weights.

    A bit of the manifest outside names and hashes, such as a space, is harmless. Resume skips a
    damaged checkpoint and takes the one before. Seen to fail with the shape of the manifest not
    checked (KeyError), and with LATEST read as it is (UnicodeDecodeError).
    """
    wanted = model.state_dict()
    found = {"refused": 0, "harmless": 0}
    assert {p.name for p in files_of(run)} >= {"trainer.pt", "novelty.safetensors", "manifest.json"}
    for path in files_of(run):
        content = path.read_bytes()
        for bad in damaged(content):
            path.write_bytes(bad)
            good = newest_good(run).path
            assert good is not None
            if path.name != "LATEST" and good != checkpoint_path(run, 3):
                assert good == checkpoint_path(run, 2)
            try:
                loaded = GraphFM.from_checkpoint(run)
            except GraphFMError as error:
                assert error.exit_code == 5, error
                found["refused"] += 1
            else:
                assert all(torch.equal(v, wanted[k]) for k, v in loaded.state_dict().items())
                found["harmless"] += 1
        path.write_bytes(content)
    assert found["refused"] > 100 and found["harmless"] < found["refused"] / 2, found


def test_the_newest_intact_one_is_taken_and_the_others_are_named(run, caplog):
    (checkpoint_path(run, 3) / "trainer.pt").unlink()
    (checkpoint_path(run, 2) / "model.safetensors").write_bytes(b"")
    assert newest_good(run).path == checkpoint_path(run, 1)
    assert [r.getMessage().split()[0] for r in caplog.records] == [
        str(checkpoint_path(run, 3)),
        str(checkpoint_path(run, 2)),
    ]
    shutil.rmtree(checkpoint_path(run, 1))
    with pytest.raises(CheckpointError, match="GFM309"):
        newest_good(run)


def test_a_checkpoint_of_a_newer_version_is_not_skipped(run):
    """Resuming from an older one would lose steps without a message."""
    folder = checkpoint_path(run, 3)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["config.json"]["sha256"] = file_sha256(folder / "config.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="GFM303"):
        newest_good(run)


def test_latest_names_nothing_outside_the_run(run, tmp_path_factory, model):
    other = tmp_path_factory.mktemp("other")
    save(other, model, 1)
    for name in (str(checkpoint_path(other, 1)), "../x", "checkpoints/step_000009", ""):
        (run / "LATEST").write_text(name)
        with pytest.raises(CheckpointError, match="GFM301"):
            find_checkpoint(run)


def test_weights_that_are_not_finite_are_not_saved(run, model):
    spoiled = small_model(three_graphs())
    with torch.no_grad():
        spoiled.encoder.latents[0, 0] = torch.nan
    with pytest.raises(DivergedError, match=r"GFM602.*(\n.*)*encoder\.latents"):
        save(run, spoiled, 4)
    assert list(checkpoints(run)) == [1, 2, 3]


@pytest.mark.parametrize("limit", [1_000, 40_000, 90_000])
def test_a_full_disk_leaves_what_was_there(run, model, limit):
    """The system refuses to write more than ``limit`` bytes into a file.

    In JSON (Python's error), in the weights (safetensors' own) and in the trainer state (torch's):
    all of them are GFM801. Seen to fail with OSError alone caught.
    """
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    sizes = {p.name: p.stat().st_size for p in checkpoint_path(run, 3).iterdir()}
    assert any(size > limit for size in sizes.values()), sizes
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OutputError, match="GFM801") as caught:
            save(run, model, 4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 8
    assert list(checkpoints(run)) == [1, 2, 3]
    assert not list(run.glob("checkpoints/*.tmp-*"))
    for path in checkpoints(run).values():
        Checkpoint.open(path)


def test_the_newest_and_the_best_are_kept(tmp_path):
    for step in range(1, 8):
        checkpoint_path(tmp_path, step).mkdir(parents=True)
    prune_checkpoints(tmp_path, keep=2, losses={1: 0.9, 2: 0.5, 4: 0.6, 100: 0.1})
    assert list(checkpoints(tmp_path)) == [2, 6, 7]
    prune_checkpoints(tmp_path, keep=1, losses={})
    assert list(checkpoints(tmp_path)) == [7]


def test_temporary_files_of_a_killed_run_are_removed(run):
    for name in ("step_000004.tmp-17", "step_000001.tmp-17-before"):
        (run / "checkpoints" / name).mkdir()
    (run / "LATEST.tmp-17").write_text("check")
    remove_temporary(run)
    assert list(checkpoints(run)) == [1, 2, 3]
    assert sorted(p.name for p in run.iterdir()) == ["LATEST", "checkpoints"]


def test_a_folder_has_one_writer(tmp_path):
    """The error of the second writer names the first; the lock of an ended process is ignored."""
    out = tmp_path / "run"
    with lock_folder(out), pytest.raises(OutputError, match="GFM802") as caught, lock_folder(out):
        pass
    assert f"process {os.getpid()} on " in caught.value.why
    assert caught.value.exit_code == 8
    assert (out / LOCK).exists()
    with lock_folder(out):
        pass


def test_a_fitted_model_cannot_be_resumed(tmp_path, model):
    save_checkpoint(tmp_path / "fit", model, meta={"name": "fit"})
    with pytest.raises(CheckpointError, match="GFM310"):
        Checkpoint.open(tmp_path / "fit").trainer()
