"""GraphML, GEXF, GML and JSON of other tools that were read wrongly, or refused without need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphfm.errors import DataError
from tests.test_cases_files import ends, read

HEAD = '<?xml version="1.0"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
CHAIN = "".join(f'<edge source="{i}" target="{i + 1}"/>' for i in range(3))
KIND = '<key id="k" for="node" attr.name="kind" attr.type="string"/>'


def graphml(keys: str, nodes: list[str], edges: str = CHAIN) -> str:
    """Return a GraphML file, with the content of each node."""
    listed = "".join(f'<node id="{i}">{node}</node>' for i, node in enumerate(nodes))
    return f'{HEAD}{keys}<graph edgedefault="undirected">{listed}{edges}</graph></graphml>'


def gexf(attributes: str, edges: str, node: str = "") -> str:
    """Return a GEXF file of three nodes with the kinds a, b, a."""
    nodes = "".join(
        f'<node id="{i}" label="n{i}" {node}><attvalues><attvalue for="k" value="{kind}"/>'
        "</attvalues></node>"
        for i, kind in enumerate("aba")
    )
    return (
        f'<?xml version="1.0"?><gexf xmlns="http://gexf.net/1.3" version="1.3"><graph {attributes}>'
        '<attributes class="node"><attribute id="k" title="kind" type="string"/></attributes>'
        f"<nodes>{nodes}</nodes><edges>{edges}</edges></graph></gexf>"
    )


def test_defaults_of_graphml(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = KIND.replace("/>", "><default>a</default></key>")
    nodes = ["", '<data key="k">b</data>', "", '<data key="k">b</data>']
    graph = read(tmp_path, "g.graphml", graphml(keys, nodes), target="kind")
    assert graph.y is not None and graph.y.tolist() == [0, 1, 0, 1]
    assert "2 nodes get the default of 'kind'" in caplog.text


def test_defaults_of_gexf(tmp_path: Path) -> None:
    text = gexf('defaultedgetype="undirected"', '<edge id="0" source="0" target="1"/>')
    text = text.replace('type="string"/>', 'type="string"><default>a</default></attribute>')
    text = text.replace('<attvalue for="k" value="a"/>', "")
    graph = read(tmp_path, "g.gexf", text, target="kind")
    assert graph.y is not None and graph.y.tolist() == [0, 1, 0]


def test_keys_that_are_not_declared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nodes = [f'<data key="labels">:{kind}</data>' for kind in "ABAB"]
    graph = read(tmp_path, "g.graphml", graphml("", nodes), target="labels")
    assert graph.class_names == (":A", ":B")
    assert "not declared" in caplog.text


def test_numbers_as_text(tmp_path: Path) -> None:
    keys = KIND + '<key id="s" for="node" attr.name="size" attr.type="string"/>'
    nodes = [
        f'<data key="s">{0.0 if i < 3 else 1.5}</data><data key="k">{"ab"[i % 2]}</data>'
        for i in range(6)
    ]
    graph = read(tmp_path, "g.graphml", graphml(keys, nodes), target="kind")
    assert np.asarray(graph.x).ravel().tolist() == [0, 0, 0, 1.5, 1.5, 1.5]


def test_one_empty_number(tmp_path: Path) -> None:
    keys = KIND + '<key id="s" for="node" attr.name="size" attr.type="double"/>'
    nodes = [
        f'<data key="s">{value}</data><data key="k">{"ab"[i % 2]}</data>'
        for i, value in enumerate((0, 0, "", 1, 2, 2, 3, 3))
    ]
    graph = read(tmp_path, "g.graphml", graphml(keys, nodes), target="kind")
    assert np.asarray(graph.x)[:, 1].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_parallel_edges_of_gml(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nodes = "".join(f' node [ id {i + 1} label "{c}" value {i} ]\n' for i, c in enumerate("xyz"))
    edges = "".join(f" edge [ source {a} target {b} ]\n" for a, b in ((1, 2), (1, 2), (2, 3)))
    graph = read(tmp_path, "g.gml", f"graph [\n directed 1\n{nodes}{edges}]\n")
    assert (graph.num_nodes, graph.num_edges, graph.num_duplicates) == (3, 2, 1)
    assert "listed more than once" in caplog.text


def test_times_of_gexf(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = gexf(
        'defaultedgetype="undirected" mode="dynamic" timeformat="dateTime"',
        '<edge id="0" source="0" target="1"/><edge id="1" source="1" target="2"/>',
        'start="2020-01-01T00:00:00"',
    )
    graph = read(tmp_path, "g.gexf", text, target="kind")
    assert ends(graph) == {("0", "1"), ("1", "2")} and graph.class_names == ("a", "b")
    assert "times" in caplog.text


@pytest.mark.parametrize("default", ["directed", "undirected"])
def test_mixed_directions(tmp_path: Path, default: str, caplog: pytest.LogCaptureFixture) -> None:
    text = gexf(
        f'defaultedgetype="{default}"',
        '<edge id="0" source="0" target="1" type="directed"/>'
        '<edge id="1" source="1" target="2" type="undirected"/>',
    )
    graph = read(tmp_path, "g.gexf", text, target="kind")
    assert ends(graph) == {("0", "1"), ("1", "2")} and not graph.directed
    assert "--directed" in caplog.text
    graph = read(tmp_path, "g.gexf", text, target="kind", directed=True)
    assert sorted(graph.edge_index.T.tolist()) == [[0, 1], [1, 2], [2, 1]]
    edges = '<edge source="0" target="1" directed="true"/><edge source="1" target="2"/>'
    graph = read(tmp_path, "g.graphml", graphml("", [""] * 3, edges))
    assert ends(graph) == {("0", "1"), ("1", "2")}


def test_an_attribute_as_ids(tmp_path: Path) -> None:
    keys = '<key id="n" for="node" attr.name="name" attr.type="string"/>'
    nodes = [f'<data key="n">{name}</data>' for name in ("ann", "bob", "cid", "dan")]
    graph = read(tmp_path, "g.graphml", graphml(keys, nodes), id="name")
    assert graph.node_ids == ("ann", "bob", "cid", "dan")
    with pytest.raises(DataError, match="GFM127"):
        read(tmp_path, "g.graphml", graphml(keys, nodes), id="surname")


def test_drawing_attributes_of_yed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = KIND + '<key id="d" for="node" yfiles.type="nodegraphics"/>'
    y = 'xmlns:y="http://www.yworks.com/xml/graphml"'
    nodes = [
        f'<data key="k">{"ab"[i % 2]}</data><data key="d"><y:ShapeNode {y}><y:Geometry x="{i}.5" '
        f'y="{i}"/><y:NodeLabel>n{i}</y:NodeLabel></y:ShapeNode></data>'
        for i in range(4)
    ]
    graph = read(tmp_path, "g.graphml", graphml(keys, nodes), target="kind")
    assert graph.x is None and graph.class_names == ("a", "b")
    assert "drawing attributes are left out" in caplog.text


def test_a_second_graph_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = graphml("", [""] * 4)
    text = text.replace(
        "</graphml>", '<graph edgedefault="directed"><node id="z"/></graph></graphml>'
    )
    assert read(tmp_path, "g.graphml", text).num_nodes == 4
    assert "2 graphs" in caplog.text


@pytest.mark.parametrize("links", ["links", "edges"])
def test_node_link_json(tmp_path: Path, links: str) -> None:
    text = (
        '{"directed": false, "nodes": [{"id": 0, "kind": "a", "v": 1}, {"id": 1, "kind": "b", '
        f'"v": 2}}, {{"id": 2, "kind": "a", "v": 3}}], "{links}": [{{"source": 0, "target": 1}}, '
        '{"source": 1, "target": 2}]}'
    )
    graph = read(tmp_path, "g.json", text, target="kind")
    assert ends(graph) == {("0", "1"), ("1", "2")} and graph.class_names == ("a", "b")
    assert np.asarray(graph.x).ravel().tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="GFM112.*(.|\n)*'7'"):
        read(tmp_path, "g.json", text.replace('"target": 2', '"target": 7'))
