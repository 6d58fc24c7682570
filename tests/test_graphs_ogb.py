"""OGB's raw files: the arrays that OGB reads from them, its split, and the facts of the catalog."""

from __future__ import annotations

import csv
import gzip
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from graphfm.errors import DataError, OfflineError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.graphs.catalog.sources import ogb
from graphfm.graphs.graph import MASKS, Graph
from tests.ogb_files import small_arxiv, small_proteins, write_lines, write_ogb

IDS = ["ogbn-arxiv", "ogbn-products", "ogbn-proteins"]


def source(id: str) -> ogb.Config:
    return ogb.Config.model_validate(Catalog.read().entry(id).source)


def read(id: str, data: Path) -> Graph:
    return source(id).build(name=id, data=data)


def masks(graph: Graph) -> list[list[int]]:
    return [getattr(graph, mask).nonzero().flatten().tolist() for mask in MASKS]


def test_arxiv_is_directed_and_keeps_the_numbers_of_its_classes(tmp_path: Path) -> None:
    """Against arrays on paper. Seen to fail with the columns of edge.csv.gz turned round."""
    small_arxiv(tmp_path)
    graph = read("ogbn-arxiv", tmp_path)
    assert graph.directed
    assert graph.edge_index.tolist() == [[0, 1, 3, 4, 5], [1, 0, 2, 0, 2]]
    assert graph.y.tolist() == [1, 0, 1, 2, 0, 2]
    assert graph.class_names == ("0", "4", "39")
    expected = [[float(f"{v:f}") for v in (i / 7 - 0.3, -i * 1.5)] for i in range(6)]
    assert torch.equal(graph.x, torch.tensor(expected))
    assert masks(graph) == [[0, 1, 3], [4], [5]]  # node 2 is in no part


def test_products_lists_each_edge_once(tmp_path: Path) -> None:
    """With a self-loop, an edge that is there twice and a last node without any.

    Seen to fail with directed=None: half of the edges.
    """
    write_ogb(
        tmp_path,
        name="ogbn-products",
        split="sales_ranking",
        edges=np.array([[0, 1], [2, 2], [1, 3], [1, 0]]),
        y=np.array([[0], [1], [0], [1], [1]]),
        x=np.arange(10.0).reshape(5, 2),
        parts=([0, 1], [2], [3, 4]),
    )
    graph = read("ogbn-products", tmp_path)
    assert not graph.directed
    assert graph.edge_index.tolist() == [[0, 1, 1, 2, 3], [1, 0, 3, 2, 1]]
    assert (graph.num_nodes, graph.num_self_loops) == (5, 1)


def test_proteins_has_many_labels_and_no_features(tmp_path: Path) -> None:
    """Seen to fail with labels as int64."""
    folder = small_proteins(tmp_path)
    graph = read("ogbn-proteins", tmp_path)
    assert graph.x is None and not graph.directed
    assert graph.y.dtype == torch.int8 and graph.y.shape == (60, 112)
    assert (graph.y[:, 0] == torch.arange(60) % 2).all()
    assert graph.task.kind == "multilabel" and graph.num_classes == 112
    assert [len(part) for part in masks(graph)] == [20, 20, 20]
    assert not (folder / "raw" / "node-feat.csv.gz").exists()


def test_a_last_line_may_lack_its_end(tmp_path: Path) -> None:
    for text, rows in ((b"1,2\n3,4", [[1, 2], [3, 4]]), (b"5", [[5]]), (b"5\r\n6\r\n", [[5], [6]])):
        path = tmp_path / "t.csv.gz"
        path.write_bytes(gzip.compress(text))
        assert ogb._table(path, np.int64).tolist() == rows


@pytest.mark.parametrize("id", ["ogbn-arxiv", "ogbn-proteins"])
def test_ogb_reads_the_same_from_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id: str
) -> None:
    """By its own reader of raw files, not by its loader. Seen to fail with x turned round."""
    monkeypatch.setitem(sys.modules, "outdated", None)  # it would ask for a newer version
    pytest.importorskip("ogb", reason="ogb is not installed")
    from ogb.io.read_graph_raw import read_csv_graph_raw

    folder = (small_arxiv if id == "ogbn-arxiv" else small_proteins)(tmp_path)
    ours = read(id, tmp_path)
    (theirs,) = read_csv_graph_raw(str(folder / "raw"), add_inverse_edge=source(id).undirected)
    assert ours.num_nodes == theirs["num_nodes"]
    assert ours.edge_index.tolist() == np.unique(theirs["edge_index"], axis=1).tolist()
    if theirs["node_feat"] is None:
        assert ours.x is None
    else:
        assert theirs["node_feat"].dtype == np.float32
        np.testing.assert_array_equal(ours.x.numpy(), theirs["node_feat"])


def test_entries_say_what_ogb_says() -> None:
    """From its master.csv, read without importing it. Seen to fail with `split: year`."""
    found = find_spec("ogb")
    if found is None:
        pytest.skip("ogb is not installed")
    path = Path(found.submodule_search_locations[0], "nodeproppred", "master.csv")
    with path.open() as file:
        head, *rows = csv.reader(file)
    facts = {id: {row[0]: row[i] for row in rows} for i, id in enumerate(head)}
    catalog = Catalog.read()
    ids = [*IDS, "ogbn-mag"]
    assert [e.id for e in catalog.entries.values() if e.source["kind"] == "ogb"] == ids
    for id in ids:
        entry, own, fact = catalog.entry(id), source(id), facts[id]
        assert own.name == id and own.split == fact["split"]
        assert str(own.undirected) == fact["add_inverse_edge"]
        assert str(own.node_features) == str(entry.num_features > 0) == fact["has_node_attr"]
        assert (fact["is hetero"], fact["binary"]) == (str(bool(own.node_type)), "False")
        assert own.url == fact["url"].replace("http:", "https:")
        if fact["task type"] == "multiclass classification":
            assert entry.task == "classify" and fact["num tasks"] == "1"
            assert entry.num_classes == int(fact["num classes"])
        else:
            assert entry.task == "multilabel" and fact["num classes"] == "2"
            assert entry.num_classes == int(fact["num tasks"])


@pytest.mark.parametrize("id", IDS)
def test_missing_files_name_the_folder_to_set(tmp_path: Path, id: str) -> None:
    """All of them at once. Seen to fail with an error at the first."""
    with pytest.raises(OfflineError, match="GFM401(.|\n)*test.csv.gz(.|\n)*GRAPHFM_DATA") as caught:
        read(id, tmp_path)
    wanted = ["edge", "node-label", "num-node-list", "train", "valid", "test"]
    if id != "ogbn-proteins":
        wanted.append("node-feat")
    assert all(f"{name}.csv.gz" in caught.value.where for name in wanted)
    assert "ogb/ogbn_" in caught.value.fix


def test_the_cache_follows_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail with the split left out of raw_files."""
    monkeypatch.setenv("GRAPHFM_DATA", str(tmp_path))
    folder = small_arxiv(tmp_path)
    catalog = Catalog.read()
    assert catalog.is_here("ogbn-arxiv") and not catalog.is_here("ogbn-products")
    assert masks(catalog.load("ogbn-arxiv"))[2] == [5]
    write_lines(folder / "split" / "time" / "test.csv.gz", [[2]])
    assert masks(catalog.load("ogbn-arxiv"))[2] == [2]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-6])


@pytest.mark.parametrize(
    ("file", "damage", "code"),
    [
        ("raw/edge", truncated, "GFM103"),
        ("raw/edge", lambda path: path.write_bytes(b"no gzip"), "GFM103"),
        ("raw/edge", lambda path: write_lines(path, [[0, 1], [2]]), "GFM103"),
        ("raw/edge", lambda path: write_lines(path, []), "GFM103"),
        ("raw/edge", lambda path: write_lines(path, [[0, 1], [2], [3, 4, 5]]), "GFM103"),
        ("raw/edge", lambda path: write_lines(path, [[0, 1.5]]), "GFM103"),
        ("raw/edge", lambda path: write_lines(path, [[0, 6]]), "GFM113"),
        ("raw/edge", lambda path: write_lines(path, [[0, 1, 2]]), "GFM115"),
        ("raw/node-label", lambda path: write_lines(path, [["one"]] * 6), "GFM103"),
        ("raw/node-label", lambda path: write_lines(path, [[1]] * 5), "GFM116"),
        ("raw/node-feat", lambda path: write_lines(path, [["nan"]] * 6), "GFM117"),
        ("raw/node-feat", lambda path: write_lines(path, [["", "1"]] * 6), "GFM103"),
        ("raw/num-node-list", lambda path: write_lines(path, [[3], [3]]), "GFM103"),
        ("split/time/test", lambda path: write_lines(path, [[6]]), "GFM113"),
        ("split/time/test", lambda path: write_lines(path, [[4]]), "GFM135"),
    ],
)
def test_damaged_files_are_errors(tmp_path: Path, file: str, damage, code: str) -> None:
    """Seen to fail (an EOFError of gzip) without catching what a truncated file raises."""
    folder = small_arxiv(tmp_path)
    damage(folder / f"{file}.csv.gz")
    with pytest.raises(DataError, match=code):
        read("ogbn-arxiv", tmp_path)
