"""Labels keep their type at every door: whole numbers, truth values and text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import Data

from graphfm.errors import DataError
from graphfm.graphs.classes import class_values, dtype_of_names
from graphfm.graphs.convert import features
from graphfm.graphs.inputs import is_rows, read_graph

EDGES = torch.tensor([[0, 1, 2], [1, 2, 0]])


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([3, -1, 12], [3, 12]),
        ([True, False, True], [False, True]),
        ([1.0, float("nan"), 2.0], [1, 2]),
    ],
)
def test_labels_of_a_tensor_keep_their_type(y: list[Any], expected: list[Any]) -> None:
    """Failed: the classes were text."""
    graph = read_graph(Data(edge_index=EDGES, y=torch.tensor(y), num_nodes=3)).graph
    assert graph.class_values.tolist() == expected
    assert [type(v) for v in graph.class_values.tolist()] == [type(v) for v in expected]


@pytest.mark.parametrize("values", [[3, None, 12], [True, False, True], ["3", "x", None]])
def test_labels_of_networkx_keep_their_type(values: list[Any]) -> None:
    graph = nx.path_graph(3)
    nx.set_node_attributes(graph, dict(enumerate(values)), "kind")
    found = read_graph(graph, target="kind").graph.class_values.tolist()
    known = sorted({v for v in values if v is not None}, key=str)
    assert sorted(found, key=str) == known and type(found[0]) is type(known[0])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "0", "1"], [0, 1]),
        (["True", "False", "True"], [False, True]),
        (["007", "8", "007"], ["007", "8"]),
        (["a", "b", ""], ["a", "b"]),
    ],
)
def test_labels_of_a_csv_file_have_the_type_of_all_cells(
    tmp_path: Path, cells: list[str], expected: list[Any]
) -> None:
    (tmp_path / "edges.csv").write_text("source,target\na,b\nb,c\n")
    rows = zip("abc", cells, strict=True)
    (tmp_path / "nodes.csv").write_text("id,kind\n" + "".join(f"{i},{v}\n" for i, v in rows))
    graph = read_graph(tmp_path, target="kind").graph
    assert sorted(graph.class_values.tolist()) == expected


def test_text_in_a_parquet_file_stays_text(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    (tmp_path / "edges.csv").write_text("source,target\na,b\nb,c\n")
    for values in (["0", "1", "0"], [0, 1, 0], [True, False, True]):
        table = pa.table({"id": ["a", "b", "c"], "kind": values})
        parquet.write_table(table, tmp_path / "nodes.parquet")
        found = read_graph(tmp_path, target="kind").graph.class_values.tolist()
        assert found == sorted(set(values)) and type(found[0]) is type(values[0])


def test_new_class_names_are_text() -> None:
    graph = read_graph(Data(edge_index=EDGES, y=torch.tensor([0, 1, 1]), num_nodes=3)).graph
    assert graph.class_dtype == "<i8" and graph.replace(x=None).class_dtype == "<i8"
    assert graph.replace(class_names=("red", "blue")).class_values.tolist() == ["red", "blue"]


def test_values_go_out_as_they_came() -> None:
    for values in ([-1, 0, 12], [False, True], ["007", "8"], ["a"], ["True", "x"]):
        names = tuple(map(str, values))
        found = class_values(names, dtype_of_names(names))
        assert found.tolist() == values
    assert class_values(("1", "2"), "<f4").dtype == np.float32


def test_a_series_of_ids_beside_a_table_of_edges_is_no_ambiguity() -> None:
    """Seen to fail (GFM105): a Series with as many labels as the table has rows may be rows."""
    edges = pd.DataFrame({"u": ["a", "b", "c", "d", "e"], "v": ["b", "c", "d", "e", "a"]})
    y = pd.Series([0, 1, 0, 1], index=["a", "b", "c", "d"])
    assert not is_rows(edges.rename(columns={"u": "source", "v": "target"}), y)


def test_an_array_of_objects_holds_numbers_or_is_refused() -> None:
    """Seen to fail: TypeError of torch."""
    x = np.array([[1, 2.5], [3, None]], dtype=object)
    found = features(x)
    assert found is not None and found.shape == (2, 2)
    with pytest.raises(DataError, match="GFM117.*Python objects"):
        features(np.array([["red"], ["blue"]], dtype=object))
