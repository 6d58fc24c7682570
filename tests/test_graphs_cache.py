"""The cache: made once, whole or absent, mapped and not copied."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from graphfm import storage
from graphfm.errors import OutputError
from graphfm.graphs.catalog.cache import read_graph, write_graph
from graphfm.storage import from_cache, read_folder, write_folder
from tests.graphs import synthetic


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAPHFM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def slowly_made(folder: Path, made: list[int]) -> torch.Tensor:
    def make() -> torch.Tensor:
        made.append(1)
        time.sleep(0.1)
        return torch.arange(3)

    return from_cache(
        folder,
        read=lambda f: read_folder(f, "thing")[0]["t"],
        make=make,
        write=lambda t, f: write_folder(f, "thing", {"t": t}, {}),
        name="thing",
    )


def test_of_many_who_want_the_same_one_makes_it(tmp_path: Path) -> None:
    """Four at once. Seen to fail (4 makings) without the lock."""
    made: list[int] = []
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: slowly_made(tmp_path / "folder", made), range(4)))
    assert len(made) == 1
    assert all(torch.equal(t, torch.arange(3)) for t in found)


def test_a_lock_left_by_the_dead_stops_nobody(home: Path, tmp_path: Path) -> None:
    """The lock is the system's, held by a process, and not the file's being there."""
    lock = home / "locks" / "folder.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert len(slowly_made(tmp_path / "folder", [])) == 3


def test_a_cache_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the folder and the way out, and nothing half there."""

    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full_disk)
    with pytest.raises(OutputError, match=r"GFM403.*No space left(.|\n)*GRAPHFM_HOME"):
        slowly_made(tmp_path / "part" / "folder", [])
    assert not list((tmp_path / "part").iterdir())


def test_what_fails_while_it_is_made_is_not_the_caches_fault(tmp_path: Path) -> None:
    def broken() -> torch.Tensor:
        raise OSError("the raw file is on fire")

    with pytest.raises(OSError, match="on fire"):
        from_cache(tmp_path / "f", read=torch.load, make=broken, write=torch.save, name="thing")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_arrays_are_mapped_not_copied(tmp_path: Path) -> None:
    """The file stands in this process's memory map while a tensor of it lives.

    Seen to fail with the tensors cloned on reading.
    """
    write_graph(synthetic("mapped", num_nodes=400), tmp_path / "graph")
    graph = read_graph(tmp_path / "graph")
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert str(tmp_path / "graph" / "graph.safetensors") in maps
    start, end = (
        int(end, 16)
        for line in maps.splitlines()
        if str(tmp_path) in line
        for end in line.split()[0].split("-")
    )
    assert start <= graph.col.data_ptr() < end


@pytest.mark.parametrize("name", ["thing.safetensors", "thing.json", "sha256.json"])
def test_a_flipped_bit_is_found_and_the_folder_is_made_again(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At any byte of any file. Failed: other values with exit 0, or a crash of the interpreter."""
    folder, made = tmp_path / "folder", [0]
    slowly_made(folder, made)
    content = (folder / name).read_bytes()
    places = {*range(0, len(content), max(1, len(content) // 6)), len(content) - 1}
    for number, place in enumerate(sorted(places)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (number % 8)
        (folder / name).write_bytes(flipped)
        made.clear()
        caplog.clear()
        assert torch.equal(slowly_made(folder, made), torch.arange(3))
        is_harmless = name == "sha256.json" and not made  # white space
        assert is_harmless or (len(made) == 1 and "damaged and is made again" in caplog.text)


def test_a_folder_without_hashes_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Folders of an earlier version have no hashes."""
    made: list[int] = []
    slowly_made(tmp_path / "folder", made)
    (tmp_path / "folder" / "sha256.json").unlink()
    slowly_made(tmp_path / "folder", made)
    slowly_made(tmp_path / "folder", made)
    assert len(made) == 2 and caplog.text.count("an older version wrote it") == 1  # not twice
