"""The first, plain version of this repository, for the benches to be measured against."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FIRST = "f0ed73e"  # the last commit before issue 4, which is about speed


@contextlib.contextmanager
def checkout(commit: str = FIRST) -> Iterator[Path | None]:
    """A folder with that version's files, as long as the ``with``; None where it cannot be had.

    From ``git archive``, so that nothing of the repository is touched, not even its worktrees.
    """
    command = ["git", "-C", str(ROOT), "archive", commit]
    try:
        packed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{commit} is left out: {error}", file=sys.stderr)  # no git, or a shallow clone
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="first-version-") as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


class Worker:
    """A process that answers a line of JSON with a line of JSON.

    Args:
        command: After the Python interpreter.
        package: Folder whose ``graphfm`` it imports.
        home: Its cache; that of another version would be made again by either, in turns.
    """

    def __init__(self, command: Sequence[str], *, package: Path, home: str | None = None):
        environment = {**os.environ, "PYTHONPATH": str(package)}
        if home:
            environment["GRAPHFM_HOME"] = home
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, question: Any) -> Any:
        """Send, and wait for the answer.

        Raises:
            RuntimeError: Where the process ended instead; its errors are on stderr.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer will be none
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the worker ended with code {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
