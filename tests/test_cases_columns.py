"""Columns of small node tables that were read wrongly, or refused without need."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from graphfm.baselines.logistic import logistic
from graphfm.errors import DataError
from graphfm.graphs.graph import Graph
from tests.test_cases_files import read

EDGES = "source,target\n0,1\n1,2\n2,3\n3,4\n4,5\n"
COMMA = '0,"1,5",a\n1,"2,5",b\n2,"1,5",a\n3,"2,5",b\n4,"1,5",a\n5,"2,5",b\n'


def table(folder: Path, nodes: str, **options: object) -> Graph:
    """Read a path of six nodes with this node table."""
    return read(folder, "edges.csv", EDGES, nodes=nodes, **{"target": "kind", **options})


def column(graph: Graph, place: int = 0) -> list[float]:
    """Return one feature column."""
    return np.asarray(graph.x)[:, place].tolist()


def test_a_question_mark_among_numbers_is_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = table(tmp_path, "id,v,kind\n0,1,a\n1,2,b\n2,?,a\n3,1,b\n4,2,a\n5,1,b\n")
    assert graph.num_features == 2  # the number, and the column that marks the gap
    assert column(graph) == pytest.approx([1, 2, 1.4, 1, 2, 1])
    assert "'?'" in caplog.text and "line 4" in caplog.text


def test_one_odd_cell_among_numbers_is_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = table(tmp_path, "id,v,kind\n0,1,a\n1,2,b\n2,3,a\n3,l4,b\n4,5,a\n5,6,b\n")
    assert graph.num_features == 2
    assert "'l4'" in caplog.text and "line 5" in caplog.text


def test_decimal_commas_are_numbers(tmp_path: Path) -> None:
    graph = table(tmp_path, "id,v,kind\n" + COMMA)
    assert column(graph) == [1.5, 2.5] * 3
    graph = table(tmp_path, "id,v,kind\n" + COMMA, target="v", features="none")
    assert graph.y is not None and graph.y.tolist() == [1.5, 2.5] * 3


def test_a_comma_that_may_separate_thousands_is_refused(tmp_path: Path) -> None:
    nodes = "id,v,kind\n" + COMMA.replace("1,5", "1,500").replace("2,5", "2,500")
    with pytest.raises(DataError, match="GFM109.*'1,500'(.|\n)*lines 2.*'v'(.|\n)*1500"):
        table(tmp_path, nodes)
    assert table(tmp_path, nodes, features="!v").num_features == 0


def test_nanoseconds_are_a_date(tmp_path: Path) -> None:
    rows = [f"{i},2020-01-01 00:00:00.00000000{i},{'ab'[i % 2]}\n" for i in range(6)]
    graph = table(tmp_path, "id,v,kind\n" + "".join(rows))
    assert column(graph) == pytest.approx([18262] * 6)


def test_the_index_of_a_table_is_no_feature(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"{i},{id},{'ab'[i // 3]}\n" for i, id in enumerate((0, 2, 4, 1, 3, 5)))
    graph = table(tmp_path, ",id,kind\n" + rows)
    assert graph.num_features == 0 and graph.node_ids == ("0", "2", "4", "1", "3", "5")
    assert "is the index of the rows" in caplog.text


def test_the_index_of_a_table_is_no_id_where_edges_refer_to_another_column(tmp_path: Path) -> None:
    rows = "".join(f"{i},p{i},{'ab'[i // 3]}\n" for i in range(6))
    edges = "source,target\np0,p1\np1,p2\n"
    graph = read(tmp_path, "edges.csv", edges, nodes=",name,kind\n" + rows, target="kind")
    assert graph.node_ids == tuple(f"p{i}" for i in range(6)) and graph.num_features == 0
    edges = "source,target\n0,1\n1,2\n"
    graph = read(tmp_path, "edges.csv", edges, nodes=",name,kind\n" + rows, target="kind")
    assert graph.node_ids is None and graph.num_features == 0


def test_free_text_and_names_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "".join(f"{i},Person {i},{i % 2},{'ab'[i % 2]}\n" for i in range(6))
    graph = table(tmp_path, "Id,Label,v,kind\n" + rows)
    assert graph.num_features == 1
    assert "'Label' (6 values)" in caplog.text
    with pytest.raises(DataError, match="GFM110.*'Label'"):
        table(tmp_path, "Id,Label,v,kind\n" + rows, features="Label,v")


def test_a_target_of_many_whole_numbers_suggests_regression(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"{i},{1900 + i}\n" for i in range(102))
    graph = read(tmp_path, "edges.csv", EDGES, nodes="id,year\n" + rows, target="year")
    assert len(graph.class_names) == 102
    assert "--task regress" in caplog.text


def test_a_numeric_target_with_a_question_mark(tmp_path: Path) -> None:
    rows = "".join(f"{i},{'?' if i == 3 else i + 0.5}\n" for i in range(6))
    graph = table(tmp_path, "id,v\n" + rows, target="v")
    assert graph.y is not None and graph.y.isnan().tolist() == [i == 3 for i in range(6)]


def test_many_classes_give_no_raw_warning_of_scikit_learn() -> None:
    n = 120
    graph = Graph.from_edges(
        np.stack([np.arange(n - 1), np.arange(1, n)]),
        num_nodes=n,
        name="years",
        x=torch.randn(n, 3),
        y=torch.arange(n) % 100,
        class_names=tuple(str(1900 + i) for i in range(100)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        logistic(graph, torch.ones(n, dtype=torch.bool), None)
