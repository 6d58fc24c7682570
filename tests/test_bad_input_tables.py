"""Bad input, the rows about tables and files: each gives its error or its documented handling.

The numbers are those of the table in the notes on reliability. The other rows are in
test_bad_input_{labels,models,machine}.py; test_bad_input_rows.py knows where each is. Seen to fail:
see the comment of each row that has one.
"""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from scipy import sparse
from torch_geometric.data import Data, HeteroData

from graphfm.errors import DataError
from graphfm.graphs.convert import from_networkx, from_pyg
from graphfm.graphs.inputs import as_graph
from graphfm.graphs.readers.files import read_file
from graphfm.graphs.readers.options import ReadOptions
from tests.bad_input import Case, Row, refused, rows_of

EDGES = "source,target\na,b\nb,c\nc,a\n"
NODES = "id,size,label\na,1,x\nb,2,y\nc,4,x\n"


def row_01_ids_called_NA(case: Case) -> None:
    graph = case.read(
        "source,target\nNA,None\nNone,nan\nnull,NA\n", "id,s\nNA,1\nNone,2\nnan,3\nnull,5\n"
    )
    assert graph.ids() == ("NA", "None", "nan", "null") and graph.num_edges == 3


def row_02_leading_zeros(case: Case) -> None:
    """Seen to fail with ids read as numbers."""
    graph = case.read("source,target\n007,7\n7,8\n")
    assert set(graph.ids()) == {"007", "7", "8"}
    case.said("2 ids differ from others only by leading zeros: '7', '007'")
    pa.parquet.write_table(
        pa.table({"source": ["007", "7"], "target": ["7", "8"]}), case.folder / "e.parquet"
    )
    assert set(read_file(case.folder / "e.parquet").graph.ids()) == {"007", "7", "8"}


def row_03_large_ids_and_a_blank_one(case: Case) -> None:
    big = "9007199254740993"
    assert big in case.read(f"source,target\n{big},2\n").ids()
    case.refused("GFM111", "edges.csv, line 3", edges=f"source,target\n{big},2\n,5\n")
    case.refused("GFM111", "nodes.csv, line 4", edges=EDGES, nodes="id,s\na,1\nb,1\n ,2\nc,3\n")


def row_04_space_bom_crlf_case(case: Case) -> None:
    """Seen to fail without --strip-ids, which made six nodes of three."""
    plain = case.read("\ufeffsource,target\r\na,b\r\nb,c\r\n")
    assert plain.ids() == ("a", "b", "c")
    spaced = "source,target\n a,b\na,B\nb ,c\n"
    assert case.read(spaced).num_nodes == 6
    case.said("differ from others only by space", "' a'", "'B'", "--strip-ids")
    assert case.read(spaced, strip_ids=True).ids() == ("B", "a", "b", "c")


def row_05_ids_with_gaps(case: Case) -> None:
    graph = case.read("source,target\n12,3\n3,7\n")
    assert graph.ids() == ("3", "7", "12")
    assert graph.edge_index.tolist() == [[0, 2], [1, 0]]


def row_06_unknown_ends(case: Case) -> None:
    edges = "source,target\na,b\nzz,b\na,yy\n' c',a\nb,c\n"
    error = case.refused("GFM112", "3 nodes", "'zz'", "--unknown-nodes", edges=edges, nodes=NODES)
    assert "lines 3, 4, 5" in error.where
    spaced = case.refused("GFM112", "by a space only", "--strip-ids", edges="source,target\n c,a\n",
                          nodes=NODES)  # fmt: skip
    assert "' c'" in spaced.where
    assert case.read(edges, NODES, unknown_nodes="drop").num_edges == 2
    case.said("3 of 5 edges are dropped")
    graph = case.read(edges, NODES, unknown_nodes="add", target="label")
    assert graph.num_nodes == 6 and graph.y.tolist() == [0, 1, 0, -1, -1, -1]
    case.said("3 nodes are added")
    assert case.read(EDGES, "id,size,side\n", unknown_nodes="add").num_nodes == 3


def row_11_self_loops(case: Case) -> None:
    graph = case.read("source,target\na,a\na,b\n")
    assert graph.num_self_loops == 1 and graph.num_edges == 2
    assert (graph.neighbors[1] == torch.tensor([1, 0])).all()
    case.said("1 edges go from a node to itself and are kept")


def row_12_repeated_edges(case: Case) -> None:
    graph = case.read("source,target\na,b\na,b\nb,c\na,b\n")
    assert (graph.num_edges, graph.num_duplicates) == (2, 2)
    case.said("2 edges were listed more than once and are merged")


def row_13_repeated_edges_of_other_weights(case: Case) -> None:
    """The model reads no weights; they are merged by a rule all the same, and said not to count.

    Seen to fail with the rule not passed on.
    """
    edges = "source,target,weight\na,b,1\nb,c,1\na,b,-1\nb,c,1\na,b,-3\n"
    for rule, negative in (("sum", 1), ("mean", 1), ("first", 0)):
        case.log.clear()
        assert case.read(edges, duplicate_weights=rule).num_edges == 2
        case.said("edge weights are read but not used", "1 edges were listed with several weights")
        assert ("1 are negative" in case.log.text) == bool(negative)
    case.refused("GFM128", "1 edges", "lines 4, 6", "'a' to 'b'", edges=edges,
                 duplicate_weights="error")  # fmt: skip
    same = "source,target,weight\na,b,1\na,b,1\n"
    assert case.read(same, duplicate_weights="error").num_duplicates == 1


def row_14_direction_is_detected_and_logged(case: Case) -> None:
    assert case.read(EDGES).directed
    case.said("read as directed, because 3 of 3 edges have no reverse")
    assert not case.read(EDGES, directed=False).directed
    assert case.read("source,target\na,b\nb,a\n", directed=True).directed


def row_15_both_directions_listed(case: Case) -> None:
    """Seen to fail with directed=True by default."""
    graph = case.read("source,target\na,b\nb,a\nb,c\nc,b\n")
    assert not graph.directed and graph.num_edges == 4
    assert case.read("source,target\na,b\nb,c\n", directed=False).fingerprint == graph.fingerprint


def row_16_no_edges(case: Case) -> None:
    graph = case.read("source,target\n", NODES, target="label")
    assert (graph.num_nodes, graph.num_edges) == (3, 0)
    case.said("there are no edges: only features")


def row_17_isolated_nodes(case: Case) -> None:
    graph = case.read("source,target\na,b\n", NODES + "d,1,x\n")
    assert graph.num_nodes == 4
    case.said("2 of 4 nodes have no neighbor")


@pytest.mark.parametrize("edges", ["", "source,target\n", "\n\n", "# nothing\n"])
def test_18_empty_tables(edges: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Case(tmp_path, caplog).refused("GFM101", edges=edges)


def row_18_no_node(case: Case) -> None:
    case.refused("GFM101", edges="source,target\n", nodes="id,size\n")
    with pytest.raises(DataError, match="GFM101"):
        from_networkx(nx.Graph())


def row_20_components_are_counted(case: Case) -> None:
    case.read("source,target\na,b\nc,d\n", "id,s\na,1\nb,2\nc,3\nd,5\n")
    assert "2 (largest 50.0%)" in case.run("datasets", "stats", case.folder).stdout


def row_22_weights(case: Case) -> None:
    """Seen to fail with the check for finite weights left out."""
    for bad in ("nan", "inf", "", "-Infinity"):
        case.refused(
            "GFM109", "line 3", "'weight'", edges=f"source,target,weight\na,b,1\nb,c,{bad}\n"
        )
    case.refused("GFM109", "text", edges="source,target,weight\na,b,heavy\n")
    graph = case.read("source,target,weight\na,b,-1\nb,c,0\n")
    assert graph.num_edges == 2
    case.said("1 are negative", "1 are zero (the edge is kept)")


def row_23_missing_and_infinite_features(case: Case) -> None:
    graph = case.read(EDGES, "id,size\na,1\nb,\nc,4\n")
    assert graph.x.tolist() == [[1, 0], [2.5, 1], [4, 0]]
    case.said("1 columns have missing values", "size 33.3%")
    case.refused("GFM117", "line 3", "'size'", edges=EDGES, nodes="id,size\na,1\nb,inf\nc,4\n")
    case.refused("GFM117", "line 3", edges=EDGES, nodes="id,size\na,1\nb,1e39\nc,4\n")
    data = Data(x=torch.tensor([[1.0], [float("nan")]]), edge_index=torch.tensor([[0], [1]]))
    assert from_pyg(data).x.tolist() == [[1, 0], [1, 1]]
    case.said("50.0% of the feature values are missing")
    with pytest.raises(DataError, match="GFM117"):
        from_pyg(Data(x=torch.tensor([[1.0], [float("inf")]]), num_nodes=2))


def row_24_constant_and_empty_columns(case: Case) -> None:
    graph = case.read(EDGES, "id,size,same,none\na,1,5,\nb,2,5,\nc,3,5,\n")
    assert graph.num_features == 2  # the constant one stays, and the feature transform drops it
    case.said("1 columns hold the same value in every row: same")
    case.said("1 columns are empty and are left out: none")


def row_25_no_features(case: Case) -> None:
    assert case.read(EDGES).x is None
    case.said("there are no features: only the structure")


def row_26_columns_of_every_kind(case: Case) -> None:
    """Seen to fail with the share of levels at 1: remarks became one column a row."""
    rows = [f"n{i},{'north' if i % 2 else 'south'},2024-01-{i + 1:02},{i % 3 == 0},remark {i}"
            for i in range(8)]  # fmt: skip
    nodes = "\n".join(["id,side,born,member,remark", *rows])
    edges = "source,target\nn0,n1\n"
    error = case.refused(
        "GFM110", "'remark' (8 values)", edges=edges, nodes=nodes, features="side,born,remark"
    )
    assert "--features side,born" in error.fix
    graph = case.read(edges, nodes)
    case.said("1 columns hold free text and do not become features: 'remark' (8 values)")
    assert graph.x[:2].tolist() == [[0, 1, 19723, 1], [1, 0, 19724, 0]]
    case.said("3 columns (1 truth values, 1 dates, 1 categories) become 4 features")


def row_36_lengths_that_differ(case: Case) -> None:
    with pytest.raises(DataError) as caught:
        from_pyg(
            Data(x=torch.rand(3, 2), y=torch.tensor([0, 1]), edge_index=torch.tensor([[0], [1]]))
        )
    case.is_error(caught.value, "GFM116", "num_nodes=3", "2")


def row_43_multigraph_and_heterogeneous(case: Case) -> None:
    multi = from_networkx(nx.MultiDiGraph([(0, 1), (0, 1), (1, 2)]))
    assert (multi.num_edges, multi.num_duplicates) == (2, 1)
    data = HeteroData()
    data["a", "to", "b"].edge_index = torch.tensor([[0], [1]])
    with pytest.raises(DataError, match=r"GFM102(.|\n)*to_homogeneous"):
        as_graph(data)
    case.refused("GFM102", "one kind of node", edges=":START_ID(A),:END_ID(B),:TYPE\n1,2,LIKES\n")


def row_44_networkx_ids_and_gaps(case: Case) -> None:
    graph = nx.Graph([((0, 1), "b")])
    graph.nodes["b"]["size"] = 2.0
    read = as_graph(graph)
    assert read.ids() == ("(0, 1)", "b") and read.x.tolist() == [[2, 1], [2, 0]]
    case.said("size 50.0%")


def row_44_attributes_of_a_file(case: Case) -> None:
    """They keep their names, and a further file is read by the plan of the first.

    Seen to fail with a plan made anew.
    """
    graph = nx.path_graph(["a", "b", "c", "d"])
    for i, (_, record) in enumerate(graph.nodes(data=True)):
        record |= {"size": float(i), "side": "ns"[i % 2], "title": f"t{i}", "split": "train"}
    del graph.nodes["d"]["size"]
    nx.write_graphml(graph, case.folder / "g.graphml")
    read = read_file(case.folder / "g.graphml")
    assert [(c.name, c.kind) for c in read.plan] == [("size", "number"), ("side", "category")]
    assert read.graph.x.tolist()[3] == [1, 1, 0, 1] and read.graph.train_mask.all()
    case.said("1 columns hold free text and do not become features: 'title'", "size 25.0%")
    other = nx.path_graph(["q", "r"])
    other.nodes["q"]["side"], other.nodes["r"]["size"] = "s", 7.0
    nx.write_gml(other, case.folder / "h.gml")
    again = read_file(case.folder / "h.gml", plan=read.plan).graph
    assert again.x.tolist() == [[1, 1, 0, 1], [7, 0, 0, 0]]
    del other.nodes["q"]["side"]
    nx.write_gml(other, case.folder / "h.gml")
    refused("GFM130", "side", call=lambda: read_file(case.folder / "h.gml", plan=read.plan))


def row_45_adjacency_matrices(case: Case) -> None:
    dense = np.array([[0, 1], [0, 0]])
    assert as_graph(dense).edge_index.tolist() == [[0], [1]]
    assert as_graph(sparse.csr_array(dense)).directed
    with pytest.raises(DataError, match=r"GFM115(.|\n)*\(2, 3\)"):
        as_graph(np.zeros((2, 3)))
    np.save(case.folder / "a.npy", dense)
    assert read_file(case.folder / "a.npy").graph.num_edges == 1


def row_46_h5ad(case: Case) -> None:
    anndata = pytest.importorskip("anndata")
    import pandas as pd

    anndata.settings.allow_write_nullable_strings = True
    cells = anndata.AnnData(np.eye(3, 2, dtype=np.float32))
    for table in (cells.obs, cells.var):  # anndata below 0.13 cannot write pandas 3's own text
        table.index = table.index.astype(object)
    kinds = pd.array(["x", pd.NA, "y"], dtype=pd.StringDtype("python"))
    cells.obs["kind"] = pd.Categorical(kinds, categories=pd.Index(["x", "y"], dtype=object))
    for key in ("connectivities", "distances"):
        cells.obsp[key] = sparse.csr_matrix(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0.0]]))
    path = case.folder / "cells.h5ad"
    cells.write_h5ad(path)
    with pytest.raises(DataError, match=r"GFM137(.|\n)*connectivities, distances(.|\n)*--obsp"):
        read_file(path)
    read = read_file(path, ReadOptions(obsp="connectivities", target="kind")).graph
    assert read.y.tolist() == [0, -1, 1] and read.num_edges == 4 and read.num_features == 2


def row_47_entities_in_graphml(case: Case) -> None:
    """Expat refuses the first itself; an entity that names a file is not opened."""
    bomb = '<!DOCTYPE b [<!ENTITY a "' + "x" * 1000 + '">'
    for i in range(8):
        bomb += f'<!ENTITY a{i} "' + f"&a{'' if i == 0 else i - 1};" * 10 + '">'
    bomb += ']><graphml><graph><node id="&a7;"/></graph></graphml>'
    secret = case.write("secret", "the secret")
    outside = (
        f'<!DOCTYPE b [<!ENTITY x SYSTEM "{secret.as_uri()}">]><graphml><graph><node id="&x;"/>'
    )
    for text in (bomb, outside + "</graph></graphml>"):
        with pytest.raises(DataError) as caught:
            read_file(case.write("g.graphml", text))
        case.is_error(caught.value, "GFM103")
        assert "the secret" not in str(caught.value)


def row_48_other_formats_and_encodings(case: Case) -> None:
    packed = gzip.compress(EDGES.encode())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("edges.csv", EDGES)
    for content, word in (
        (packed, "gzip"), (archive.getvalue(), "zip"), (os.urandom(100) + b"\0", "GFM108"),
        (EDGES.encode("utf-16"), "UTF-16"), (EDGES.replace("a", "é").encode("latin1"), "Latin-1"),
    ):  # fmt: skip
        case.refused("GFM108", word, edges=content)
    late = EDGES.encode() * 300_000 + b"caf\xe9,b\n"  # beyond the sample
    case.refused("GFM108", "line 1200001", edges=late)
    path = case.write("graph.csv.gz", packed)
    assert read_file(path).graph.num_edges == 3
    for content in (EDGES.encode(), packed[:-9]):
        with pytest.raises(DataError, match="GFM108|GFM103"):
            read_file(case.write("graph.csv.gz", content))


def row_49_delimiters_and_ragged_rows(case: Case) -> None:
    """Seen to fail with quoted line breaks left to blocks of lines."""
    for delimiter in ",;\t| ":
        assert case.read(EDGES.replace(",", delimiter)).num_edges == 3
    error = case.refused("GFM107", "line 3", "got 3", edges="source,target\na,b\nb,c,d\nc,a\n")
    assert "'b,c,d'" in error.why
    graph = case.read('source,target\n"a\nb",c\n"x, y",c\n')
    assert set(graph.ids()) == {"a\nb", "x, y", "c"}
    case.refused("GFM107", "line", edges='source,target\na,b\n"b,c\nc,a\n')


def row_50_columns_of_one_name(case: Case) -> None:
    case.refused("GFM106", "'size'", "line 1", edges=EDGES, nodes="id,size,size\na,1,2\n")
    case.refused("GFM106", "'id', 'ID'", edges=EDGES, nodes="id,ID\na,1\n")


def row_51_nodes_listed_twice(case: Case) -> None:
    graph = case.read(EDGES, NODES + "a,1,x\n", target="label")
    assert graph.num_nodes == 3
    case.said("1 rows repeat a node")
    for other in ("a,9,x\n", "a,1,y\n", "a,,x\n"):
        error = case.refused("GFM126", "'a'", edges=EDGES, nodes=NODES + other, target="label")
        assert "line 5" in error.where


def row_52_files_that_could_run_code(case: Case) -> None:
    """Each would write a file if it were opened. Seen to fail with weights_only=False."""
    marker = case.folder / "ran"
    for name in ("g.pkl", "g.pt", "g.npz", "g.npy"):
        path = case.folder / name
        thing = Data(edge_index=torch.tensor([[0], [1]]), extra=Trap(marker))
        if name.endswith((".npz", ".npy")):
            save = np.savez if name.endswith(".npz") else np.save
            save(path, np.array([Trap(marker)], dtype=object), allow_pickle=True)
        else:
            torch.save(thing, path)
        with pytest.raises(DataError) as caught:
            read_file(path)
        case.is_error(caught.value, "GFM305", name, "torch.save(data.to_dict(), 'graph.pt')")
        assert not marker.exists()


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("row", rows_of(globals()))
def test_bad_input(row: Row, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row(Case(tmp_path, caplog))
