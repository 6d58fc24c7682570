"""Folders of checkpoints: other people's files stay, and only listed files are read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphfm.checkpoint.folder import Checkpoint, save_checkpoint
from graphfm.checkpoint.manifest import is_inside
from graphfm.errors import CheckpointError, OutputError
from graphfm.model.graphfm import GraphFM
from graphfm.storage import file_sha256
from tests.graphs import small_model, three_graphs


@pytest.fixture(scope="module")
def model() -> GraphFM:
    return small_model(three_graphs())


def relist(folder: Path, *names: str) -> None:
    """Write the hashes of files into the manifest, as whoever changes a folder can."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in names:
        manifest[name] = {"sha256": file_sha256(folder / name)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def unlist(folder: Path, name: str) -> None:
    """Take a file out of the manifest, and leave it in the folder."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[name]
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("way", ["../model", "./model", "../{here}/model", "deep/../model"])
def test_a_sound_checkpoint_opens_by_any_path(
    way: str, tmp_path: Path, model: GraphFM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed with GFM302 and the advice to delete the checkpoint for paths with ``..``."""
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    save_checkpoint(tmp_path / "model", model, meta={})
    save_checkpoint(work / "model", model, meta={})
    monkeypatch.chdir(work)
    Checkpoint.open(way.format(here="work"))


@pytest.mark.parametrize("name", ["../secret", "/{there}", "a/../../secret", "..\\secret", "C:x"])
def test_a_manifest_names_nothing_outside_the_folder(
    name: str, tmp_path: Path, model: GraphFM
) -> None:
    """The file exists and the hash is right. Failed (opened) without the check of names."""
    folder, secret = tmp_path / "model", tmp_path / "secret"
    secret.write_text("x")
    save_checkpoint(folder, model, meta={})
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[name.format(there=secret)] = {"sha256": file_sha256(secret)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="GFM302.*not inside the folder") as caught:
        Checkpoint.open(folder)
    assert "delete" not in str(caught.value)


@given(st.lists(st.sampled_from(["..", "a", "b.json", ".", "x..y"]), min_size=1, max_size=4))
def test_a_name_is_inside_exactly_if_its_path_is(parts: list[str]) -> None:
    inside = ".." not in parts and any(part != "." for part in parts)
    assert is_inside("/".join(parts)) == inside


@pytest.mark.parametrize("others", [["thesis.tex"], ["a/b/data.csv"], ["config.json"], [".hidden"]])
@pytest.mark.parametrize("card", [False, True])
def test_a_folder_of_other_files_is_refused_and_stays(
    others: list[str], card: bool, tmp_path: Path, model: GraphFM
) -> None:
    """Failed: all files were gone, with exit 0."""
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="GFM402"):
        if card:
            model.save_pretrained(tmp_path)
        else:
            save_checkpoint(tmp_path, model, meta={})
    left = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()]
    assert left == others and (tmp_path / others[0]).read_text() == "mine"


def test_other_files_beside_a_model_stay_when_it_is_saved_again(
    tmp_path: Path, model: GraphFM
) -> None:
    """Files, links and folders. What the model no longer has is removed. Failed: all were gone."""
    folder = tmp_path / "model"
    save_checkpoint(folder, model, meta={}, extra={"old": {"x": torch.ones(2)}})
    (folder / "split.json").write_text("{}")  # of an earlier fit: it is ours
    (folder / "notes.txt").write_text("mine")
    (folder / "README.md").write_text("# my own text")
    (folder / "deep" / "empty").mkdir(parents=True)
    (folder / "deep" / "x.csv").write_text("1")
    (folder / "link").symlink_to("nowhere")
    model.save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "README.md").read_text() == "# my own text"
    assert (folder / "deep" / "x.csv").read_text() == "1" and (folder / "deep" / "empty").is_dir()
    assert os.readlink(folder / "link") == "nowhere"
    assert not (folder / "old.safetensors").exists() and not (folder / "split.json").exists()
    assert "notes.txt" not in Checkpoint.open(folder).files
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_that_the_new_model_would_replace_is_refused(tmp_path: Path, model: GraphFM) -> None:
    """A table named like a file of the model."""
    folder = tmp_path / "model"
    save_checkpoint(folder, model, meta={})
    (folder / "rows.safetensors").write_text("mine")
    with pytest.raises(OutputError, match="GFM402"):
        save_checkpoint(folder, model, meta={}, extra={"rows": {"x": torch.ones(2)}})
    assert (folder / "rows.safetensors").read_text() == "mine"
    Checkpoint.open(folder)


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path, model: GraphFM) -> None:
    """Failed: the link became a folder, and a broken link was left."""
    (tmp_path / "big").mkdir()
    (tmp_path / "link").symlink_to("big")
    save_checkpoint(tmp_path / "link", model, meta={})
    assert (tmp_path / "link").is_symlink() and (tmp_path / "big" / "manifest.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big", "link"]


def test_further_files_are_listed(tmp_path: Path, model: GraphFM) -> None:
    """A byte changed later is found. Failed: split.json was in no manifest."""
    folder = tmp_path / "model"
    save_checkpoint(folder, model, meta={}, files={"split.json": '{"nodes": {}}'})
    assert "split.json" in Checkpoint.open(folder).files
    (folder / "split.json").write_text('{"nodes": []}')
    with pytest.raises(CheckpointError, match=r"GFM302.*split\.json is damaged"):
        Checkpoint.open(folder)
