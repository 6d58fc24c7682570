"""Small files of other tools that were read wrongly, or refused without need, before this test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.inputs import read_graph
from graphfm.graphs.readers.options import ReadOptions

NODES = "id,kind\n0,a\n1,b\n2,a\n3,b\n4,a\n5,b\n"


def read(folder: Path, name: str, text: str, *, nodes: str | None = None, **options: Any) -> Graph:
    """Write a file, and a node table beside it, and read them."""
    (folder / name).write_text(text)
    if nodes is not None:
        (folder / "nodes.csv").write_text(nodes)
        options |= {"nodes": folder / "nodes.csv"}
    return read_graph(folder / name, options=ReadOptions(**options)).graph


def ends(graph: Graph) -> set[tuple[str, str]]:
    """Return the edges as pairs of ids, each pair sorted."""
    ids = graph.node_ids or tuple(map(str, range(graph.num_nodes)))
    pairs = [sorted((ids[i], ids[j])) for i, j in graph.edge_index.T.tolist()]
    return {(one, other) for one, other in pairs}


PATH = {("0", "1"), ("1", "2"), ("2", "3"), ("3", "4"), ("4", "5")}


@pytest.mark.parametrize("nodes", [NODES, None])
def test_an_edge_id_in_the_first_column_is_no_end(tmp_path: Path, nodes: str | None) -> None:
    text = "edge_id,person_1,person_2\n1,0,1\n2,1,2\n3,2,3\n4,3,4\n5,4,5\n"
    assert ends(read(tmp_path, "edges.csv", text, nodes=nodes, target="kind" if nodes else None)) \
        == PATH  # fmt: skip


def test_three_columns_without_a_clear_pair_are_refused(tmp_path: Path) -> None:
    text = "a,b,c\n1,4,7\n2,5,8\n3,6,9\n"
    with pytest.raises(DataError, match="GFM106.*not clear(.|\n)*--source") as error:
        read(tmp_path, "edges.csv", text)
    assert "--destination" in error.value.fix
    graph = read(tmp_path, "edges.csv", text, source="b", destination="c")
    assert ends(graph) == {("4", "7"), ("5", "8"), ("6", "9")}


def test_columns_of_node_ids_are_the_ends(tmp_path: Path) -> None:
    text = "since,one,other\n2001,a,b\n2002,b,c\n"
    graph = read(tmp_path, "edges.csv", text, nodes="id\na\nb\nc\n")
    assert ends(graph) == {("a", "b"), ("b", "c")}


def test_names_with_spaces_are_not_cut(tmp_path: Path) -> None:
    text = "first person,second person\nAnn Lee,Bob Ray\nBob Ray,Cid Fox\nCid Fox,Dan Ott\n"
    graph = read(tmp_path, "e.csv", text + "Eve Ulm,Fay Orr\n")
    assert (graph.num_nodes, len(ends(graph))) == (6, 4)


def test_an_adjacency_matrix_is_read_as_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = read(tmp_path, "m.csv", ",P0,P1,P2\nP0,0,1,0\nP1,1,0,1\nP2,0,1,0\n")
    assert ends(graph) == {("P0", "P1"), ("P1", "P2")}
    assert "adjacency matrix" in caplog.text


def test_json_lines(tmp_path: Path) -> None:
    text = '{"source": 0, "target": 1}\n{"source": 1, "target": 2}\n'
    assert ends(read(tmp_path, "e.jsonl", text)) == {("0", "1"), ("1", "2")}
    with pytest.raises(DataError, match="GFM108.*JSON(.|\n)*jsonl"):
        read(tmp_path, "e.csv", text)


@pytest.mark.parametrize(
    ("head", "rows", "expected"),
    [
        ("real symmetric", "2 1 0.5\n3 2 0.5\n", {("1", "2"), ("2", "3")}),
        ("real general", "2 1 0.5\n3 2 0.25\n", {("1", "2"), ("2", "3")}),
        ("pattern general", "2 1\n3 2\n", {("1", "2"), ("2", "3")}),
        ("integer symmetric", "2 1 5\n3 3 2\n", {("1", "2"), ("3", "3")}),
        ("pattern symmetric", "2 1\n3 2\n", {("1", "2"), ("2", "3")}),
    ],
)
def test_matrix_market(tmp_path: Path, head: str, rows: str, expected: set[Any]) -> None:
    text = f"%%MatrixMarket matrix coordinate {head}\n4 4 2\n{rows}"
    graph = read(tmp_path, "w.mtx", text)
    assert (graph.num_nodes, ends(graph)) == (4, expected)
    assert graph.directed == ("general" in head)
    with pytest.raises(DataError, match=r"GFM108.*Matrix Market(.|\n)*\.mtx"):
        read(tmp_path, "w.txt", text)


@pytest.mark.parametrize("text", ["1  2\n2  3\n", " 1   2\n 2 3 \n"])
def test_runs_of_spaces_are_one_delimiter(tmp_path: Path, text: str) -> None:
    assert ends(read(tmp_path, "e.txt", text)) == {("1", "2"), ("2", "3")}


def test_hashtags_are_ids(tmp_path: Path) -> None:
    graph = read(tmp_path, "e.csv", "#cats,#dogs\n#dogs,#fish\n#fish,#birds\n")
    assert set(graph.node_ids or ()) == {"#cats", "#dogs", "#fish", "#birds"}
    assert len(ends(graph)) == 3


def test_comments_at_the_head_of_a_file_are_skipped(tmp_path: Path) -> None:
    text = "# Directed graph: a.txt\n# FromNodeId\tToNodeId\n0\t1\n1\t2\n"
    assert ends(read(tmp_path, "e.txt", text)) == {("0", "1"), ("1", "2")}


@pytest.mark.parametrize("unknown", ["error", "add"])
def test_ids_that_became_floats_are_joined(
    tmp_path: Path, unknown: Any, caplog: pytest.LogCaptureFixture
) -> None:
    text = "source,target\n0.0,1.0\n1.0,2.0\n"
    graph = read(tmp_path, "e.csv", text, nodes=NODES, unknown_nodes=unknown)
    assert (graph.num_nodes, ends(graph)) == (6, {("0", "1"), ("1", "2")})
    assert "'.0'" in caplog.text


def test_a_header_that_looks_like_ids(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "worker1,worker2\nworker5,worker1\nworker2,worker5\nworker5,worker7\n"
    graph = read(tmp_path, "e.csv", text)
    assert (len(ends(graph)), graph.num_nodes) == (3, 4)
    assert "--no-header" in caplog.text
    assert len(ends(read(tmp_path, "e.csv", text, header=False))) == 4
    text = "anna,bert\nbert,carl\n"
    assert len(ends(read(tmp_path, "e.csv", text))) == 2
    assert "--header" in caplog.text
    assert len(ends(read(tmp_path, "e.csv", text, header=True))) == 1


@pytest.mark.parametrize("features", ["!b", "a,c", "*,!b", "!b*", "none,!a"])
def test_columns_are_left_out_by_name(tmp_path: Path, features: str) -> None:
    nodes = "id,a,b,c\n0,1,1,5\n1,2,2,4\n2,3,4,3\n"
    text = "source,target\n0,1\n1,2\n"
    graph = read(tmp_path, "e.csv", text, nodes=nodes, features=features)
    assert graph.num_features == (0 if "none" in features else 2)
    with pytest.raises(DataError, match="GFM104.*'d'"):
        read(tmp_path, "e.csv", text, nodes=nodes, features="!d")
