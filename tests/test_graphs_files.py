"""A person's files give the graph they hold, whatever their format."""

from __future__ import annotations

import gzip
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse

from graphfm.cli.inputs import read_input
from graphfm.errors import DataError, RecipeError
from graphfm.estimator import GraphFMClassifier
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.convert import to_pyg
from graphfm.graphs.graph import Graph
from graphfm.graphs.readers.export import target_of, write_tables
from graphfm.graphs.readers.files import read_file
from graphfm.graphs.readers.options import ReadOptions
from graphfm.graphs.splits import with_split
from graphfm.graphs.statistics import describe
from tests.graphs import synthetic

EVALUATION = [e.id for e in Catalog.read().entries.values() if e.role == "evaluation"]

WIDE = (
    "coauthor-physics",
    "flickr-attr",
    "facebook-pagepage",
)  # more than 100 MB as CSV: 10 s each


def same(read: Graph, graph: Graph) -> None:
    assert read.fingerprint == graph.fingerprint
    assert read.ids() == graph.ids()
    for mask in ("train_mask", "val_mask", "test_mask"):
        one, other = getattr(read, mask), getattr(graph, mask)
        assert (one is None and other is None) or torch.equal(one, other), mask


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_graph_comes_back_from_its_tables(tmp_path: Path, suffix: str) -> None:
    """Splits, ids and hash. Seen to fail with nodes in the order of the edge list."""
    graph = with_split(synthetic("mine"), seed=1)
    graph = graph.replace(node_ids=tuple(f"0{i}" for i in range(119)) + ("NA",))
    write_tables(graph, tmp_path, suffix=suffix)
    same(read_file(tmp_path, ReadOptions(target="label")).graph, graph)


def test_several_labels_come_back(tmp_path: Path) -> None:
    y = torch.from_numpy(np.random.default_rng(0).integers(-1, 2, (120, 3)).astype(np.int8))
    graph = synthetic("mine").replace(y=y, class_names=("0", "1", "2"))
    write_tables(graph, tmp_path)
    for target in ("label_*", "label_0,label_1,label_2"):
        same(read_file(tmp_path, ReadOptions(target=target)).graph, graph)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name",
    [pytest.param(i, marks=[pytest.mark.slow] * (i in WIDE)) for i in EVALUATION],
)
def test_evaluation_graphs_come_back(tmp_path: Path, name: str) -> None:
    """The same hash, so the same accuracy. Seen to fail with numbers read as float64."""
    graph = Catalog.read().load(name)
    write_tables(graph, tmp_path)
    same(read_file(tmp_path, ReadOptions(target=target_of(graph))).graph, graph)


def test_what_a_folder_may_hold(tmp_path: Path) -> None:
    (tmp_path / "edges.tsv.gz").write_bytes(gzip.compress(b"from\tto\n1\t2\n"))
    assert read_file(tmp_path).graph.ids() == ("1", "2")
    (tmp_path / "edges.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"GFM105(.|\n)*edges.csv, edges.tsv.gz"):
        read_file(tmp_path)


def test_a_first_line_that_is_an_edge_is_no_header(tmp_path: Path) -> None:
    """Seen to fail with any text taken for a header: ann and bob were not friends."""
    path = tmp_path / "friends.txt"
    path.write_text("ann bob\nbob cid\ncid ann\n")
    assert read_file(path).graph.num_edges == 3
    path.write_text("who whom\nann bob\nbob cid\n")
    assert read_file(path).graph.num_edges == 2


def test_columns_are_found_by_name_or_told(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("when,dst,src\n1,b,a\n2,c,b\n")
    assert read_file(path).graph.edge_index.tolist() == [[0, 1], [1, 2]]
    path.write_text("when,payer,payee\n1,a,b\n2,b,c\n")
    read = read_file(path, ReadOptions(source="payer", destination="payee")).graph
    assert read.ids() == ("a", "b", "c")
    with pytest.raises(DataError, match="GFM127.*Did you mean 'payer'"):
        read_file(path, ReadOptions(source="payr"))


def test_headers_of_neo4j(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Seen to fail without types of columns: the zip code became a number."""
    (tmp_path / "nodes.csv").write_text(
        "personId:ID(P),age:int,zip:string,tags:string[],junk:IGNORE,:LABEL\n"
        "1,30,00501,a;b,q,Actor\n2,40,00501,,q,Actor\n3,,10115,,q,Writer\n4,50,10115,,q,Writer\n"
    )
    (tmp_path / "relationships.csv").write_text(
        ":START_ID(P),since:int,:END_ID(P),:TYPE\n1,2000,2,KNOWS\n3,2001,1,KNOWS\n"
    )
    read = read_file(tmp_path, ReadOptions(target="LABEL"))
    assert read.graph.class_names == ("Actor", "Writer") and read.graph.num_edges == 2
    assert [(c.name, c.kind) for c in read.plan] == [
        ("age:int", "number"),
        ("zip:string", "category"),
    ]
    assert "1 columns hold lists and are not read: tags:string[]" in caplog.text


def test_arrays_and_adjacencies(tmp_path: Path) -> None:
    graph = with_split(synthetic("mine"), seed=0)
    path = tmp_path / "g.npz"
    x = sparse.csr_array(graph.x.numpy())
    np.savez(
        path, edge_index=graph.edge_index, y=graph.y, x_data=x.data, x_indices=x.indices,
        x_indptr=x.indptr, x_shape=x.shape, train_mask=graph.train_mask,
    )  # fmt: skip
    read = read_file(path).graph
    assert read.fingerprint == graph.fingerprint and torch.equal(read.train_mask, graph.train_mask)
    matrix = sparse.coo_array(([1.0, 2.0], ([0, 1], [1, 0])), shape=(3, 3))
    for kind in ("csr", "csc", "coo"):
        sparse.save_npz(path, matrix.asformat(kind))
        read = read_file(path).graph
        assert (read.num_nodes, read.num_edges, read.directed) == (3, 2, False)
    sparse.save_npz(path, sparse.coo_array((2, 3)))
    with pytest.raises(DataError, match="GFM115"):
        read_file(path)
    bad = sparse.csr_array(matrix)
    bad.indices[0] = 10**6
    sparse.save_npz(path, bad)
    with pytest.raises(DataError, match="GFM103"):
        read_file(path)


def test_data_of_pyg(tmp_path: Path) -> None:
    graph = with_split(synthetic("mine"), seed=0)
    data = to_pyg(graph)
    for thing in (data, data.to_dict()):
        torch.save(thing, tmp_path / "g.pt")
        same(read_file(tmp_path / "g.pt").graph, graph)
    torch.save([1, 2], tmp_path / "g.pt")
    with pytest.raises(DataError, match="GFM102"):
        read_file(tmp_path / "g.pt")
    content = (tmp_path / "g.pt").read_bytes()
    (tmp_path / "g.pt").write_bytes(content[:-20])
    with pytest.raises(DataError, match="GFM103"):
        read_file(tmp_path / "g.pt")


def test_files_of_networkx(tmp_path: Path) -> None:
    graph = nx.karate_club_graph()
    nx.write_graphml(graph, tmp_path / "k.graphml.gz")
    read = read_file(tmp_path / "k.graphml.gz", ReadOptions(target="club")).graph
    assert (read.num_nodes, read.num_edges, read.num_classes) == (34, 156, 2)
    assert read_file(tmp_path / "k.graphml.gz", ReadOptions(directed=True)).graph.directed
    with pytest.raises(DataError, match="GFM104.*Did you mean 'club'"):
        read_file(tmp_path / "k.graphml.gz", ReadOptions(target="clb"))
    with pytest.raises(DataError, match="GFM105"):
        read_file(tmp_path / "k.graphml.gz", ReadOptions(nodes=tmp_path / "nodes.csv"))


def test_without_anndata_the_error_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    (tmp_path / "c.h5ad").write_bytes(b"\x89HDF")
    with pytest.raises(DataError, match=r"GFM160(.|\n)*graphfm\[h5ad\]"):
        read_file(tmp_path / "c.h5ad")


def test_options_of_files_are_refused_for_the_catalog() -> None:
    for options in ({"nodes": Path("n.csv")}, {"directed": False}, {"target": "x"}):
        with pytest.raises(RecipeError, match="GFM210"):
            read_input("iris", **options)


def test_the_graph_is_fit_to_learn_from(tmp_path: Path) -> None:
    """What was read is described, fitted and predicted, with its own ids."""
    write_tables(synthetic("mine"), tmp_path)
    graph = read_file(tmp_path, ReadOptions(target="label")).graph
    assert describe(graph)["num_labelled"] == 120
    graph = with_split(graph, seed=0)
    fitted = GraphFMClassifier(tune="probe").fit(graph)
    assert fitted.score() > 0.8
