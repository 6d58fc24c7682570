"""Bad input, the rows about labels, splits and leakage: see test_bad_input_tables.py."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from graphfm.benchmark.class_order import count_unknown, match_classes
from graphfm.cli.comparison import split_graph
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.split_file import with_split_file
from graphfm.graphs.splits import warn_small_classes, with_split
from tests.bad_input import Case, NoLog, Row, estimator, make_project, refused, rows_of
from tests.graphs import synthetic

EDGES = "source,target\na,b\nb,c\nc,a\n"
NODES = "id,size,label\na,1,x\nb,2,y\nc,4,x\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


def row_29_a_target_that_is_not_there(case: Case) -> None:
    case.refused("GFM104", "Did you mean 'label'?", "id, size, label", edges=EDGES, nodes=NODES,
                 target="lable")  # fmt: skip
    case.refused("GFM104", "--nodes", edges=EDGES, target="label")


def row_31_some_labels_are_missing(case: Case) -> None:
    nodes = "id,s,label\na,1,3\nb,2,\nc,4,-1\nd,5,NA\ne,7,4\n"
    graph = case.read(EDGES, nodes, target="label")
    assert graph.y.tolist() == [0, -1, -1, -1, 1] and graph.class_names == ("3", "4")
    case.said("3 of 5 nodes have no label in 'label' (2 empty or NA, 1 with -1)")


def row_34_labels_of_any_kind(case: Case) -> None:
    def names(*labels: str) -> tuple[str, ...]:
        rows = [f"{i},{label}" for i, label in zip("abc", labels, strict=True)]
        return case.read(EDGES, "\n".join(["id,label", *rows]), target="label").class_names

    assert names("12", "3", "12") == ("3", "12")
    assert names("1.0", "2.0", "1.0") == ("1", "2")
    assert names("True", "False", "True") == ("False", "True")
    assert names("b", "10", "b") == ("10", "b")
    fractions = "id,label\na,0.5\nb,1.25\nc,2\n"
    read = case.read(EDGES, fractions, target="label")
    assert read.task.kind == "regress" and read.y.tolist() == [0.5, 1.25, 2]
    case.said("'label' holds fractions such as 0.5, 1.25: a continuous target")
    case.refused("GFM118", "0.5", "line 2", edges=EDGES, target="label", nodes=fractions,
                 task="classify")  # fmt: skip


def row_33_a_class_of_one_member(case: Case) -> None:
    """It is put into train, and a class without members breaks nothing."""
    graph = synthetic("rare")
    y = graph.y.clamp(max=1)
    y[7] = 2
    split = with_split(graph.replace(y=y), seed=0)
    assert split.train_mask[7]
    assert estimator().fit(split).predict_proba().shape == (120, 3)
    masks = split.replace(train_mask=split.train_mask & (y != 2))
    assert estimator().fit(masks).predict_proba().shape == (120, 3)
    warn_small_classes(split)
    case.said("1 of 3 classes have one labelled node")
    assert "no training node" not in case.log.text
    warn_small_classes(masks)
    case.said("1 of 3 classes have no training node and are never predicted: '2'")


def row_35_a_class_the_model_does_not_know(case: Case) -> None:
    """The estimator counts it as wrong."""
    graph = synthetic("new")
    fitted = estimator().fit(graph)
    y = graph.y.clone()
    y[:60] = 3
    known = fitted.score(graph, mask=torch.arange(120) >= 60)
    other = graph.replace(y=y, class_names=(*graph.class_names, "new"))
    assert fitted.score(other, mask=other.labelled) == pytest.approx(known / 2)


def test_35_evaluate_counts_a_class_it_does_not_know_as_wrong(
    project: Path, tmp_path: Path
) -> None:
    """It is listed, and lies in no prediction set. Seen to fail with them left out."""
    case = Case(tmp_path, NoLog())  # type: ignore[arg-type]
    lines = (project / "data" / "nodes.csv").read_text().splitlines()
    asked = ("evaluate", "--model", project / "model", "--graph", project / "data" / "edges.csv")
    asked += ("--on", "all", "--json", "--nodes")
    before = json.loads(case.run(*asked, project / "data" / "nodes.csv").stdout)
    assert before["unseen_classes"] == {}
    changed = [lines[0], *(line.rsplit(",", 1)[0] + ",new" for line in lines[1:31]), *lines[31:]]
    done = case.run(*asked, case.write("nodes.csv", "\n".join(changed)))
    after = json.loads(done.stdout)
    assert after["unseen_classes"] == {"new": 30} and after["num_nodes"] == before["num_nodes"]
    assert "30 of 60 evaluated nodes have a class that" in done.stderr
    assert "'new' (30)" in done.stderr
    assert after["accuracy"] <= 0.5 and after["sets"]["coverage"] <= 0.5
    assert after["macro_f1"] < before["macro_f1"]


def test_35_labels_of_several_that_the_model_does_not_know() -> None:
    """By name, in another order. Seen to fail with the columns taken as they come."""
    y = torch.tensor([[1, 0, 1], [0, 1, -1]], dtype=torch.int8)
    graph = Graph.from_edges(np.array([[0], [1]]), num_nodes=2, y=y, class_names=("new", "b", "a"))
    found, unknown = match_classes(graph, ["a", "b"])
    assert found.tolist() == [[1, 0, 1], [-1, 1, 0]] and unknown == ("new",)
    assert count_unknown(found, torch.tensor([True, True]), ["a", "b"], unknown) == {"new": 1}
    refused("GFM118", "lacks c", call=lambda: match_classes(graph, ["a", "c"]))


def row_38_overlapping_splits(case: Case) -> None:
    nodes = "id,s,train_mask,val_mask\na,1,true,true\nb,2,true,false\nc,4,false,false\n"
    case.refused("GFM135", "1 nodes", "a", edges=EDGES, nodes=nodes)
    case.refused("GFM135", "'trian'", "line 2", edges=EDGES, nodes="id,split\na,trian\nb,val\nc,\n")


def row_38_a_file_of_splits(case: Case) -> None:
    """Seen to fail with nodes taken by their place in the file."""
    graph = case.read(EDGES, NODES + "d,1,y\n", target="label")
    path = case.write("split.csv", "id,split\nd,test\nb,val\na,Train\n")
    split = split_graph(graph, str(path), seed=0)
    masks = (split.train_mask, split.val_mask, split.test_mask)
    assert [m.nonzero().flatten().tolist() for m in masks] == [[0], [1], [3]]
    case.said("1 of 4 nodes are in no part")
    for text, words in (
        ("id,split\na,train\nzz,val\nyy,val\n", ("2 nodes", "lines 3, 4", "'zz', 'yy'")),
        ("id,split\na,train\nb,test\na,val\n", ("1 nodes are in two", "lines 2, 4", "'a'")),
        ("id,split\na,trian\n", ("'trian'", "line 2")),
    ):
        path = case.write("split.csv", text)
        refused("GFM135", *words, call=partial(with_split_file, graph, path))
    path = case.write("split.csv", "id,part\na,train\n")
    refused("GFM127", "'split'", "id, part", call=partial(with_split_file, graph, path))
    refused("GFM145", "or a file", call=lambda: split_graph(graph, "gone.csv", seed=0))
    assert split_graph(graph, "0.5/0.25/0.25", seed=0).test_mask is not None


def row_39_a_feature_that_tells_the_label(case: Case) -> None:
    """Seen to fail with the target left among the features, and with SURE at 1.1."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    rows = [f"{i},{y[i]},{rng.normal():.3f},{y[i] * 3 + rng.random():.3f}" for i in range(60)]
    nodes = "\n".join(["id,label,noise,total", *rows])
    graph = case.read("source,target\n0,1\n", nodes, target="label")
    assert graph.num_features == 2
    case.said("possible leakage: column 'total'")
    assert "'noise'" not in case.log.text


def row_39_an_id_that_tells_the_label(case: Case) -> None:
    """Ids are never read as features: other ids, the same ones."""
    plain = case.read("source,target\na,b\n", "id,s,label\na,1,x\nb,2,y\n", target="label")
    telling = case.read("source,target\nx1,y1\n", "id,s,label\nx1,1,x\ny1,2,y\n", target="label")
    assert torch.equal(plain.x, telling.x) and plain.fingerprint == telling.fingerprint


def row_40_twins_across_splits(case: Case) -> None:
    """Seen to fail with the keys of all rows equal, and with those of no rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 20)).round(3)
    x[4] = x[0]
    split = ["train", "train", "train", "val", "test", "test"]
    rows = [f"{i},{split[i]}," + ",".join(map(str, x[i])) for i in range(6)]
    nodes = "\n".join(["id,split," + ",".join(f"x{i}" for i in range(20)), *rows])
    case.read("source,target\n0,1\n", nodes)
    case.said("1 test nodes have exactly the features of a training node")
    assert "val nodes" not in case.log.text


def row_40_twins_across_a_drawn_split(case: Case) -> None:
    """Seen to fail with twins looked for only where a table brings its split."""
    rng = np.random.default_rng(0)
    x = np.tile(rng.normal(size=(20, 20)).round(3), (3, 1)).astype(np.float32)
    graph = synthetic("twins", num_nodes=60).replace(x=torch.from_numpy(x))
    split_graph(graph, None, seed=0)
    case.said("test nodes have exactly the features of a training node")


@pytest.mark.parametrize("row", rows_of(globals()))
def test_bad_input(row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row(Case(tmp_path, caplog))
