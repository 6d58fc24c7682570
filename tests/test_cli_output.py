"""Output folders have one writer, and no name from a file controls the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphfm.cli.output import folder_for_one
from graphfm.cli.terminal import note, printable, show
from graphfm.errors import OutputError

HOLD = (
    "import sys; from pathlib import Path; from graphfm.cli.output import folder_for_one\n"
    "with folder_for_one(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize("path", ["out", "./out", "link/out"])
def test_two_processes_with_two_caches_do_not_write_to_one_folder(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed: the lock was in the cache, so each process had its own."""
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    env = {**os.environ, "GRAPHFM_HOME": str(tmp_path / "other")}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        monkeypatch.setenv("GRAPHFM_HOME", str(tmp_path / "mine"))
        with pytest.raises(OutputError, match="GFM802") as caught, folder_for_one(Path(path)):
            pass
        assert f"process {other.pid}" in caught.value.why
        other.stdin.close()
    with folder_for_one(Path(path)):
        pass


@given(st.text(st.characters(codec="utf-8")))
def test_no_control_character_is_printed(text: str) -> None:
    """Failed: an escape sequence in the name of a model reached the terminal."""
    shown = printable(text)
    assert all(char in "\n\t" or not char.isascii() or char.isprintable() for char in shown)
    assert not {*"\x1b\x9b\r\x08\u202e\u2066"} & {*shown}
    if text.isprintable():
        assert shown == text


def test_messages_and_data_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    show("a\x1b[2J\tb\nc")
    note("name \x1b]0;title\x07")
    out, err = capsys.readouterr()
    assert out == "a\\x1b[2J\tb\nc\n" and err == "name \\x1b]0;title\\x07\n"
