"""Files and folders that are written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graphfm.errors import OutputError
from graphfm.storage import replace_text, whole_file, whole_folder


def test_a_file_is_replaced_when_the_block_succeeds(tmp_path: Path) -> None:
    """The temporary file has the suffix, by which writers choose a format."""
    path = tmp_path / "picture.png"
    path.write_text("old")
    with whole_file(path) as temporary:
        assert temporary.suffix == ".png" and temporary.parent == tmp_path
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_stays_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(KeyError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_a_missing_folder_is_gfm403(tmp_path: Path) -> None:
    """Before the block runs. A helper leaves the OSError to its caller."""
    ran = []
    with (
        pytest.raises(OutputError, match="GFM403.*No such file"),
        whole_file(tmp_path / "no" / "f.csv") as temporary,
    ):
        ran.append(temporary)
    assert not ran
    with pytest.raises(OSError, match="No such file"):
        replace_text(tmp_path / "no" / "f.csv", "text")


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A killed process leaves ``NAME.tmp-...`` only, which a run removes."""
    path = tmp_path / "step_1"
    path.mkdir()
    (path / "old").touch()
    with whole_folder(path) as temporary:
        assert temporary.match("step_1.tmp-*")
        (temporary / "new").touch()
        assert (path / "old").exists()
    assert [p.name for p in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_stays_when_the_block_or_the_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail (folder gone) without moving the old one back."""
    import graphfm.storage

    path = tmp_path / "step_1"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(KeyError), whole_folder(path):
        raise KeyError
    replace = graphfm.storage.os.replace

    def broken(source: Path, target: Path) -> None:
        if target == path and "before" not in source.name:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(graphfm.storage.os, "replace", broken)
    monkeypatch.setattr(graphfm.storage, "exchange", lambda *_: False)  # as outside Linux
    with pytest.raises(OSError, match="Input/output"), whole_folder(path) as temporary:
        (temporary / "new").touch()
    assert [p.name for p in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyError, OSError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("exists", [True, False])
def test_a_half_written_file_never_appears(
    error: type[BaseException], exists: bool, tmp_path: Path
) -> None:
    """Whatever ends the block. Kills the mutant that renames in ``finally``."""
    path = tmp_path / "table.csv"
    if exists:
        path.write_text("old")
    for writer in (whole_file, _text_writer):
        with pytest.raises((error, OutputError)), writer(path) as temporary:
            temporary.write_text("half")
            raise error
        assert [p.name for p in tmp_path.iterdir()] == (["table.csv"] if exists else [])
        assert not exists or path.read_text() == "old"


@contextmanager
def _text_writer(path: Path) -> Iterator[Path]:
    """A whole folder, with the file inside."""
    with whole_folder(path.parent / "folder") as temporary:
        yield temporary / path.name
