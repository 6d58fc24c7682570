"""What the tests of bad input share: a folder, a small model, and what was said."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from graphfm.cli.main import app
from graphfm.errors import GraphFMError
from graphfm.estimator import GraphFMClassifier
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.files import read_file
from graphfm.graphs.readers.options import ReadOptions
from tests.graphs import small_model, synthetic, three_graphs

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


def refused(code: str, *words: str, call: Callable[[], Any]) -> GraphFMError:
    """A call gives this error, which holds these words."""
    with pytest.raises(GraphFMError) as caught:
        call()
    assert caught.value.code == code, caught.value
    for word in words:
        assert word in str(caught.value), caught.value
    return caught.value


def estimator() -> GraphFMClassifier:
    """A small random model, fitted by the probe."""
    return GraphFMClassifier(small_model(three_graphs()), tune="probe")


class NoLog:
    """In place of pytest's, where a module has no test to ask for it."""

    def set_level(self, level: int) -> None:
        pass


def make_project(folder: Path) -> Path:
    """A folder with edges.csv and nodes.csv, and the model that the command fitted to it."""
    graph = synthetic("mine", num_nodes=60, seed=3)
    (folder / "data").mkdir()
    source, target = graph.edge_index.tolist()
    lines = [f"n{a},n{b}" for a, b in zip(source, target, strict=True)]
    (folder / "data" / "edges.csv").write_text("\n".join(["source,target", *lines]))
    side = np.random.default_rng(0).choice(["north", "south"], 60)
    rows = [
        f"n{i},{graph.x[i, 0]:.4f},{graph.x[i, 1]:.4f},{side[i]},{graph.class_names[graph.y[i]]}"
        for i in range(60)
    ]
    (folder / "data" / "nodes.csv").write_text("\n".join(["id,size,age,side,label", *rows]))
    case = Case(folder, NoLog())  # type: ignore[arg-type]
    case.run("finetune", "--graph", folder / "data", "--target", "label", "--tune", "probe",
             "--out", folder / "model")  # fmt: skip
    return folder


def rows_of(names: Mapping[str, Any]) -> list[Any]:
    """Parameters: every function ``row_NN_what`` of a module."""
    found = sorted(name for name in names if re.match(r"row_\d\d_", name))
    return [pytest.param(names[n], id=n[4:].replace("_", "-")) for n in found]
