"""Exports of other tools, tried one by one: read as they mean it, or refused by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from graphfm.errors import DataError
from graphfm.graphs.readers.files import read_file
from graphfm.graphs.readers.options import ReadOptions

NODES = "Id,Label,team\nn1,Ann,red\nn2,Bob,red\nn3,Cem,blue\n"


@pytest.mark.parametrize("kind", ("Undirected", "Directed"))
def test_the_type_column_of_gephi_is_the_direction(tmp_path: Path, kind: str) -> None:
    """Seen to fail: the column was not read, and edges without a reverse are directed."""
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "edges.csv").write_text(
        f"Source,Target,Type,Id,Weight\nn1,n2,{kind},0,1.0\nn2,n3,{kind},1,1.0\n"
    )
    options = ReadOptions(target="team")
    graph = read_file(tmp_path, options).graph
    assert graph.directed == (kind == "Directed")
    asked = ReadOptions(target="team", directed=kind != "Directed")
    assert read_file(tmp_path, asked).graph.directed != graph.directed  # an option goes first


def test_types_of_two_kinds_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "edges.csv").write_text("source,target,type\na,b,Directed\nb,c,Undirected\n")
    assert read_file(tmp_path / "edges.csv", ReadOptions()).graph.directed
    assert "1 columns of the edge list are not read: 'type'" in caplog.text


def test_an_attribute_called_label_goes_before_the_name_of_a_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen to fail: NetworkX puts the name of the node in its place, and each node has a class."""
    node = (
        '<node id="{0}" label="{0}"><attvalues><attvalue for="0" value="{1}"/></attvalues></node>'
    )
    (tmp_path / "g.gexf").write_text(
        '<gexf xmlns="http://gexf.net/1.3" version="1.3"><graph defaultedgetype="undirected">'
        '<attributes class="node"><attribute id="0" title="label" type="string"/></attributes>'
        f"<nodes>{node.format('a', 'x')}{node.format('b', 'y')}{node.format('c', 'x')}</nodes>"
        '<edges><edge id="0" source="a" target="b"/></edges></graph></gexf>'
    )
    graph = read_file(tmp_path / "g.gexf", ReadOptions(target="label")).graph
    assert graph.class_names == ("x", "y") and graph.node_ids == ("a", "b", "c")
    assert "an attribute is called 'label' too" in caplog.text


def test_the_suffix_of_cytoscape_is_json(tmp_path: Path) -> None:
    nodes = [{"data": {"id": str(i), "name": f"n{i}", "team": "rb"[i % 2]}} for i in range(4)]
    edges = [{"data": {"source": "0", "target": str(i)}} for i in (1, 2, 3)]
    (tmp_path / "net.cyjs").write_text(json.dumps({"elements": {"nodes": nodes, "edges": edges}}))
    graph = read_file(tmp_path / "net.cyjs", ReadOptions(target="team")).graph
    assert (graph.num_nodes, graph.class_names) == (4, ("b", "r"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("g.dot", "graph {\n  0;\n 0 -- 1;\n}\n", "Graphviz"),
        ("ig.dot", "/* Created by igraph\n 1.0 */\ngraph {\n  0;\n}\n", "Graphviz"),
        ("g.gv", "strict digraph G {\n a -> b }", "Graphviz"),
        ("g.s6", ">>sparse6<<:Fa@x^\n", "sparse6"),
        ("g.g6", ">>graph6<<A_\n", "graph6"),
        ("g.ttl", "@prefix : <http://x/> .\n:a :knows :b .\n", "Turtle"),
        ("g.nt", "<http://x/a> <http://x/k> <http://x/b> .\n", "N-Triples"),
        ("g.db", b"SQLite format 3\0" + bytes(80), "SQLite"),
        ("e.feather", b"ARROW1\0\0" + bytes(80), "Arrow"),
        ("apoc.csv", "_id,_labels,name,_start,_end,_type\n0,:P,a,,,\n,,,0,0,K\n", "one table"),
        ("packed.csv.gz", gzip.compress(b">>sparse6<<:Fa@x^\n"), "sparse6"),
    ],
)
def test_other_formats_are_refused_by_name(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    """Seen to fail: a row of cells of another length, XML, or a graph of one edge."""
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=words):
        read_file(tmp_path / name, ReadOptions())


def test_a_folder_of_parts_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "edges.csv").mkdir()
    with pytest.raises(DataError, match="coalesce"):
        read_file(tmp_path / "edges.csv" / "..", ReadOptions(nodes=tmp_path / "edges.csv"))
