"""One door for graphs: command line, estimators and library read the same thing alike."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from graphfm.checkpoint.folder import save_checkpoint
from graphfm.cli.main import app
from graphfm.estimator import GraphFMClassifier, load_fitted
from graphfm.graphs.graph import Graph
from graphfm.graphs.inputs import as_graph
from graphfm.graphs.readers.files import read_file
from graphfm.graphs.readers.options import ReadOptions
from tests.graphs import save_split, small_model, synthetic, three_graphs


def run(*args: str | Path) -> Result:
    done = CliRunner().invoke(app, [str(a) for a in args], prog_name="graphfm")
    assert done.exit_code == 0, done.stderr
    return done


def write_nodes(path: Path, graph: Graph, levels: tuple[str, str], *, label: bool = True) -> None:
    """A node table with a number, a category that follows the class, and the class."""
    assert graph.y is not None and graph.x is not None
    lines = ["id,size,side" + ",label" * label]
    for i, c in enumerate(graph.y.tolist()):
        name = f",{graph.class_names[c]}" * label
        lines.append(f"n{i},{graph.x[i, 0]:.4f},{levels[c % 2]}{name}")
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """edges.csv, nodes.csv, and new.csv: no label, and ``middle`` in place of ``east``."""
    folder = tmp_path_factory.mktemp("tables")
    graph = synthetic("mine", num_nodes=60, num_classes=2, seed=3)
    source, target = graph.edge_index.tolist()
    lines = [f"n{a},n{b}" for a, b in zip(source, target, strict=True)]
    (folder / "edges.csv").write_text("\n".join(["source,target", *lines]))
    write_nodes(folder / "nodes.csv", graph, ("east", "west"))
    write_nodes(folder / "new.csv", graph, ("west", "middle"), label=False)
    save_checkpoint(folder / "trunk", small_model(three_graphs()), meta={"name": "trunk"})
    return folder


@pytest.fixture(scope="module")
def by_command(tables: Path) -> Path:
    """A folder fitted by the command line."""
    out = tables / "by-command"
    run("finetune", "--graph", tables / "edges.csv", "--nodes", tables / "nodes.csv",
        "--target", "label", "--tune", "probe",
        "--from", tables / "trunk", "--out", out)  # fmt: skip
    return out


def predicted(model: Path, tables: Path, nodes: str) -> np.ndarray:
    """Probabilities that the command line writes, (N, C)."""
    out = model.parent / f"{model.name}-{nodes}"
    run("predict", "--model", model, "--graph", tables / "edges.csv", "--nodes", tables / nodes,
        "--proba", "--out", out, "--overwrite")  # fmt: skip
    with out.open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith("p_")]
    return np.array([[float(row[name]) for name in names] for row in rows])


def test_a_folder_fitted_in_python_is_read_by_the_command_line(tables: Path) -> None:
    """Failed with GFM144: the label became a feature, since only split.json held the target."""
    model = GraphFMClassifier(tables / "trunk", tune="probe")
    model.fit(tables / "edges.csv", nodes=tables / "nodes.csv", target="label")
    model.save(tables / "in-python")
    found = predicted(tables / "in-python", tables, "nodes.csv")
    np.testing.assert_allclose(found, model.predict_proba(), atol=1e-5)


def test_a_folder_fitted_by_the_command_line_is_read_in_python(
    tables: Path, by_command: Path
) -> None:
    """Failed without an error: ``middle`` took the column of ``east``."""
    loaded = load_fitted(by_command)
    for nodes in ("nodes.csv", "new.csv"):
        found = loaded.predict_proba(tables / "edges.csv", nodes=tables / nodes)
        np.testing.assert_allclose(found, predicted(by_command, tables, nodes), atol=1e-5)
    graph = loaded._graph(tables / "edges.csv", tables / "new.csv")
    columns = np.asarray(graph.x)
    lines = (tables / "new.csv").read_text().splitlines()[1:]
    west = np.array([line.endswith("west") for line in lines])
    assert (columns[:, 1] == 0).all() and (columns[:, 2] == west).all()


def test_the_reading_is_saved_by_the_estimator_alone(by_command: Path) -> None:
    kept = json.loads((by_command / "config.json").read_text())["estimator"]["input"]
    assert kept["target"] == "label" and kept["task"] == "classify"
    assert [column["name"] for column in kept["columns"]] == ["size", "side"]
    assert "input" not in json.loads((by_command / "split.json").read_text())


def test_a_folder_of_the_version_before_is_read_as_it_was(tables: Path, by_command: Path) -> None:
    """Its estimator got a graph, and split.json held how the table was read."""
    options = ReadOptions(nodes=tables / "nodes.csv", target="label")
    read = read_file(tables / "edges.csv", options)
    assert read.plan is not None
    old = tables / "old"
    GraphFMClassifier(tables / "trunk", tune="probe").fit(read.graph).save(old)
    kept = {"source": None, "destination": None, "id": None, "directed": None,
            "duplicate_weights": "sum", "strip_ids": False, "features": None, "obsp": None,
            "task": "classify",
            "columns": [asdict(column) for column in read.plan]}  # fmt: skip
    save_split(old, read.graph, {"target": "label", "input": kept})
    loaded = load_fitted(old)
    for nodes in ("nodes.csv", "new.csv"):
        found = loaded.predict_proba(tables / "edges.csv", nodes=tables / nodes)
        np.testing.assert_allclose(found, predicted(old, tables, nodes), atol=1e-5)
    assert loaded.reading_ == load_fitted(by_command).reading_


def test_the_same_file_gives_the_same_graph_through_every_door(
    tables: Path, by_command: Path
) -> None:
    options = ReadOptions(nodes=tables / "nodes.csv", target="label")
    read = read_file(tables / "edges.csv", options).graph
    folder = tables / "folder"
    folder.mkdir()
    for name in ("edges.csv", "nodes.csv"):
        (folder / name).write_bytes((tables / name).read_bytes())
    fitted = GraphFMClassifier(tables / "trunk", tune="probe").fit(folder, target="label")
    assert fitted.graph_ is not None
    shown = run("datasets", "stats", tables / "edges.csv", "--nodes", tables / "nodes.csv",
                "--target", "label", "--json")  # fmt: skip
    assert {
        as_graph(folder, target="label").fingerprint,
        as_graph(str(folder), target="label").fingerprint,
        fitted.graph_.fingerprint,
        json.loads(shown.stdout)["fingerprint"],
    } == {read.fingerprint}
    assert as_graph(read) is read
