"""What the tests of bad input share: a folder, a small model, and what was said."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from graphfm.cli.main import app
from graphfm.errors import GraphFMError
from graphfm.graphs.files import ReadOptions, read_file
from graphfm.graphs.graph import Graph

Row = Callable[["Case"], None]


class Case:
    """One row of the table: a folder of its own."""

    def __init__(self, folder: Path, log: pytest.LogCaptureFixture):
        self.folder, self.log = folder, log
        log.set_level(logging.INFO)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def read(self, edges: str | bytes, nodes: str | bytes | None = None, **options: Any) -> Graph:
        """The graph of these two tables."""
        self.write("edges.csv", edges)
        path = None if nodes is None else self.write("nodes.csv", nodes)
        return read_file(self.folder / "edges.csv", ReadOptions(nodes=path, **options)).graph

    def refused(self, code: str, *words: str, edges: Any = None, **rest: Any) -> GraphFMError:
        """Reading these tables gives this error, which holds these words."""
        with pytest.raises(GraphFMError) as caught:
            self.read(edges, **rest)
        return self.is_error(caught.value, code, *words)

    def is_error(self, error: GraphFMError, code: str, *words: str) -> GraphFMError:
        assert error.code == code, error
        for word in words:
            assert word in str(error), error
        return error

    def said(self, *words: str) -> None:
        for word in words:
            assert word in self.log.text, self.log.text

    def run(self, *args: str | Path, exit_code: int = 0) -> Result:
        done = CliRunner().invoke(app, [str(a) for a in args], prog_name="graphfm")
        assert done.exit_code == exit_code, (done.exit_code, done.stderr)
        assert "Traceback" not in done.stderr
        return done


def rows_of(names: Mapping[str, Any]) -> list[Any]:
    """Parameters: every function ``row_NN_what`` of a module."""
    found = sorted(name for name in names if re.match(r"row_\d\d_", name))
    return [pytest.param(names[n], id=n[4:].replace("_", "-")) for n in found]
