"""What enters the cache: whole, known files only; each is fetched once."""
# ruff: noqa: F811 (fixtures come by import)

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from graphfm.errors import DataError
from graphfm.graphs.catalog import fetch as room
from graphfm.graphs.catalog.fetch import fetch, locked_hashes, verify_hash
from tests.fetching import (  # noqa: F401
    BODY,
    certificates,
    content,
    folder,
    here,
    known,
    refused,
    server,
    site,
)
from tests.http_server import (
    Answer,
    Handler,
    Site,
    raw,
    whole,
)

ROOT = Path(__file__).resolve().parents[1]
FLIPPED = BODY[:70_000] + bytes([BODY[70_000] ^ 1]) + BODY[70_001:]


def test_a_file_is_fetched_once_and_its_hash_is_recorded(site: Site, folder: Path) -> None:
    """Seen to fail with both `_record` gone (no lock file), and with `_lies_there` always False."""
    site.answers["/b.bin"] = whole(BODY)
    fetch([here(site), here(site)], folder)
    fetch([here(site)], folder)
    assert content(folder) == {"old/a.txt": b"earlier", "new/b.bin": BODY}
    assert locked_hashes(folder) == {"new/b.bin": sha256(BODY).hexdigest()}
    assert len(site.requests) == 1
    left = [path.name for path in (folder.parent / "downloads").iterdir()]
    assert left == []


def test_a_recorded_hash_holds(site: Site, folder: Path) -> None:
    """The file is lost and comes again altered. Seen to fail with the lock file not read."""
    site.answers["/b.bin"] = [whole(BODY), whole(BODY[::-1])]
    fetch([here(site)], folder)
    (folder / "new" / "b.bin").unlink()
    (folder / "new").rmdir()
    error = refused("GFM140", [here(site)], folder)
    assert sha256(BODY).hexdigest() in error.what
    assert sha256(BODY[::-1]).hexdigest() in error.what
    assert "raw.sha256" in error.fix


def test_a_shipped_hash_is_not_recorded_and_wins(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with `locked` asked before `known`."""
    site.answers["/b.bin"] = whole(BODY)
    (folder.parent / "raw.sha256").write_text(f"{'0' * 64}  new/b.bin\n")
    known(monkeypatch, BODY)
    fetch([here(site)], folder)
    assert locked_hashes(folder) == {"new/b.bin": "0" * 64}


def test_a_damaged_file_is_replaced_once_the_right_one_is_there(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And kept if that fails. Seen to fail with any file that is there taken for right."""
    known(monkeypatch, BODY, "old/a.txt")
    file = here(site, "old/a.txt")
    refused("GFM401", [file], folder)
    assert "GFM140" in caplog.text
    site.answers["/b.bin"] = whole(BODY)
    fetch([file], folder)
    assert content(folder) == {"old/a.txt": BODY}


def test_a_file_placed_by_hand_is_taken_and_recorded(site: Site, folder: Path) -> None:
    """Seen to fail without the second `_record`: nothing held it from then on."""
    file = here(site, "old/a.txt")
    fetch([file], folder, offline=True)
    assert locked_hashes(folder) == {"old/a.txt": sha256(b"earlier").hexdigest()}
    (folder / "old" / "a.txt").write_bytes(b"altered")
    with pytest.raises(DataError, match="GFM140"):
        fetch([file], folder, offline=True)
    assert not site.requests


def test_offline_says_what_to_do_by_hand(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail (the file came) with the environment variable not looked at."""
    site.answers["/b.bin"] = whole(BODY)
    monkeypatch.setenv("GRAPHFM_OFFLINE", "1")
    error = refused("GFM401", [here(site), here(site, "new/c.bin")], folder)
    assert "1 more" in error.what
    assert f"{site.address}/b.bin" in error.fix and str(folder / "new/b.bin") in error.fix
    monkeypatch.setenv("GRAPHFM_OFFLINE", "0")
    fetch([here(site)], folder)
    assert content(folder)["new/b.bin"] == BODY


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [Terminal(), io.StringIO()])
def test_a_terminal_gets_a_bar_with_name_and_total(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO
) -> None:
    """And a log file gets nothing. Seen to fail with the bar always on, and never."""
    site.answers["/b.bin"] = whole(BODY)
    monkeypatch.setattr(sys, "stderr", stderr)
    fetch([here(site)], folder)
    said = stderr.getvalue()
    assert ("b.bin:" in said and "205k" in said) if stderr.isatty() else not said


@pytest.mark.parametrize("path", ["../b.bin", "/tmp/b.bin", "new/../../b.bin"])
def test_a_path_that_leaves_the_data_folder_is_refused(site: Site, folder: Path, path: str) -> None:
    """Seen to fail with the look at `..` gone."""
    site.answers["/b.bin"] = whole(BODY)
    refused("GFM142", [here(site, path)], folder)


@pytest.mark.parametrize(
    "answer",
    [whole(FLIPPED), raw(200, BODY[:100_000]), whole(BODY[:100_000])],
    ids=["flips a byte", "is silently short", "is short there"],
)
def test_a_file_that_is_not_the_known_one_is_refused(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    """Seen to fail with `_check` empty."""
    known(monkeypatch, BODY)
    site.answers["/b.bin"] = answer
    error = refused("GFM140", [here(site)], folder)
    assert sha256(BODY).hexdigest() in error.what
    assert not list((folder.parent / "downloads").iterdir())


TWICE = """
import sys
from pathlib import Path
from graphfm.graphs.catalog.fetch import fetch
from graphfm.graphs.catalog.source import RawFile
print("ready", flush=True)
sys.stdin.readline()
fetch([RawFile(path="new/b.bin", url=sys.argv[1], max_mb=1)], Path(sys.argv[2]))
"""


def test_two_processes_fetch_a_file_once(site: Site, folder: Path) -> None:
    """Seen to fail (two requests) with `_locked` doing nothing."""

    def slow(handler: Handler) -> None:
        time.sleep(0.2)
        whole(BODY)(handler)

    site.answers["/b.bin"] = slow
    command = [sys.executable, "-c", TWICE, f"{site.address}/b.bin", str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        process.communicate(timeout=1200)
    assert [process.returncode for process in both] == [0, 0]
    assert content(folder)["new/b.bin"] == BODY
    assert len(site.requests) == 1
    assert locked_hashes(folder) == {"new/b.bin": sha256(BODY).hexdigest()}


def test_the_hash_of_a_file_in_place_is_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is shipped and by what was recorded. Seen to fail with `verify_hash` empty."""
    path = folder / "old" / "a.txt"
    good = sha256(b"earlier").hexdigest()
    monkeypatch.setattr(room, "known_hashes", dict)
    verify_hash("old/a.txt", good, where=path)
    (folder.parent / "raw.sha256").write_text(f"{'0' * 64}  old/a.txt\n")
    with pytest.raises(DataError, match=f"GFM140.*{'0' * 64}.*{good}"):
        verify_hash("old/a.txt", good, where=path)
    known(monkeypatch, b"earlier", "old/a.txt")
    verify_hash("old/a.txt", good, where=path)
    with pytest.raises(DataError, match="GFM140(.|\n)*datasets/sha256.txt"):
        verify_hash("old/a.txt", "1" * 64, where=path)
