"""The hashes that are shipped are those of the files that the catalog reads."""

from __future__ import annotations

import importlib
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

from graphfm.config.load import shipped
from graphfm.graphs.catalog.catalog import data_folder
from graphfm.graphs.catalog.fetch import known_hashes
from graphfm.storage import file_sha256

TOOLS = Path(__file__).parent.parent / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setenv("GRAPHFM_OFFLINE", "1")
    return importlib.import_module("raw_hashes")


def test_every_line_is_a_hash_and_a_path(tool: ModuleType) -> None:
    """No line is lost in reading, and none is of a file whose origin has other bytes.

    Seen to fail with a space taken out of a line, and with the list of rewritten files empty.
    """
    lines = (shipped("datasets") / "sha256.txt").read_text(encoding="utf-8").splitlines()
    known = known_hashes()
    assert len(known) == len(lines) > 200
    assert all(len(value) == 64 and int(value, 16) for value in known.values())
    assert list(known) == sorted(known)
    assert not [path for path in known for pattern in tool.REWRITTEN if fnmatch(path, pattern)]


@pytest.mark.realdata
def test_the_file_is_what_the_tool_prints(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """So every file of the bundle that an entry reads is in it, but for the rewritten ones.

    Seen to fail with one line of the file removed.
    """
    tool.main()
    printed = capsys.readouterr()
    assert printed.out == (shipped("datasets") / "sha256.txt").read_text(encoding="utf-8")
    assert f"{len(known_hashes())} files have a hash" in printed.err
    path, value = next(iter(known_hashes().items()))
    assert file_sha256(data_folder() / path) == value
