"""Columns of tables and graphs in memory are read as those of the files of them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphfm.errors import DataError
from graphfm.graphs.inputs import read_graph

EDGE_TABLE = {"source": ["a", "b"], "target": ["b", "c"]}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pd.to_timedelta([1, 2, None], unit="D"), [1, 2, 1.5]),
        ([dt.time(0, 1), dt.time(0, 2), None], [60, 120, 90]),
        (["00:01:00", "00:02:00", None], [60, 120, 90]),
        (pd.to_datetime(["1970-01-02", "1970-01-03", None], utc=True), [1, 2, 1.5]),
        (pd.array([1, 2, None], dtype="Int8"), [1, 2, 1.5]),
        (pl.Series(["1.5", "2.5", None]).cast(pl.Decimal(10, 2)), [1.5, 2.5, 2]),
        (pl.Series(["u", "v", "u"], dtype=pl.Enum(["u", "v"])), [1, 0, 1]),
        (pd.Categorical(["u", "v", "u"]), [1, 0, 1]),
    ],
)
def test_columns_of_all_types(cells: Any, expected: list[float], tmp_path: Path) -> None:
    """Failed for times in CSV files (not readable) and an Enum of polars (unsupported cast)."""
    kind = pl.DataFrame if isinstance(cells, pl.Series) else pd.DataFrame
    nodes = kind({"id": list("abc"), "v": cells})
    graph = read_graph(EDGE_TABLE, nodes=nodes).graph
    np.testing.assert_allclose(np.asarray(graph.x)[:, 0], expected)
    if kind is pd.DataFrame and not isinstance(cells, pd.TimedeltaIndex):
        nodes.to_csv(tmp_path / "nodes.csv", index=False)
        file = read_graph(EDGE_TABLE, nodes=tmp_path / "nodes.csv").graph
        assert file.fingerprint == graph.fingerprint


class Exchange:
    """A table that has the interchange protocol alone."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.table, self.columns = pa.table(columns), list(columns)

    def __dataframe__(self, **options: Any) -> Any:
        return self.table.__dataframe__(**options)


def test_the_interchange_protocol_is_enough() -> None:
    found = read_graph(Exchange(EDGE_TABLE), nodes=Exchange({"id": list("abc"), "v": [1, 2, 3]}))
    expected = read_graph(EDGE_TABLE, nodes={"id": list("abc"), "v": [1, 2, 3]})
    assert found.plan == expected.plan
    assert found.graph.fingerprint == expected.graph.fingerprint


def test_dates_are_labels_as_in_a_file(tmp_path: Path) -> None:
    """Failed: 2020-01-01 00:00:00.000000."""
    for days in (["2020-01-01", None, "2021-01-01"], ["2020-01-01 12:00", None, "2021-01-01"]):
        nodes = pd.DataFrame({"id": list("abc"), "y": pd.to_datetime(days, format="mixed")})
        nodes.to_csv(tmp_path / "nodes.csv", index=False)
        found = read_graph(EDGE_TABLE, nodes=nodes, target="y").graph
        file = read_graph(EDGE_TABLE, nodes=tmp_path / "nodes.csv", target="y").graph
        assert found.class_names == file.class_names


def test_attributes_that_are_tensors_or_sets() -> None:
    """Failed: RuntimeError; a set became columns in an order of its own."""
    graph = nx.path_graph(4)
    for node in graph:
        graph.nodes[node].update(x=torch.ones(2) * node, tags={"b", "a"} if node % 2 else {"c"})
    read = read_graph(graph)
    assert [(c.name, c.levels) for c in read.plan or ()] == [
        ("x_0", ()), ("x_1", ()), ("tags", ("['a', 'b']", "['c']")),
    ]  # fmt: skip


def test_tables_that_cannot_be_read_are_refused_by_name() -> None:
    nodes = pd.DataFrame([["a", 1, 2]], columns=["id", "v", "v"])
    with pytest.raises(DataError, match="GFM106.*'v'"):
        read_graph(EDGE_TABLE, nodes=nodes)
    with pytest.raises(DataError, match=r"GFM102.*LazyFrame(.|\n)*collect"):
        read_graph(EDGE_TABLE, nodes=pl.LazyFrame({"id": ["a"]}))
    with pytest.raises(DataError, match=r"GFM102(.|\n)*columns=\['source', 'target'\]"):
        read_graph([("a", "b")])
    with pytest.raises(DataError, match=r"GFM103.*'a' has 2, 'b' has 1(.|\n)*from_dict_of_lists"):
        read_graph({"a": ["b", "c"], "b": ["c"]})
    with pytest.raises(DataError, match=r"GFM112.*\n.*edges, row 2: 'c'"):
        read_graph(EDGE_TABLE, nodes={"id": ["a", "b"]})


@pytest.mark.parametrize("name", [None, "person"])
def test_ids_may_be_the_index(name: str | None, caplog: pytest.LogCaptureFixture) -> None:
    """The default index of pandas counts where the edges refer to it, and is silent otherwise."""
    nodes = pd.DataFrame({"size": [1, 2, 3]}, index=pd.Index(list("abc"), name=name))
    assert read_graph(EDGE_TABLE, nodes=nodes).graph.ids() == ("a", "b", "c")
    table = nodes.reset_index(names="id")
    caplog.clear()
    assert read_graph(EDGE_TABLE, nodes=table).graph.num_features == 1
    assert "index" not in caplog.text
    by_place = {"source": [0, 1], "target": [1, 2]}
    found = read_graph(by_place, nodes=table[["size"]])
    assert found.graph.ids() == ("0", "1", "2") and found.graph.num_features == 1


cell = {
    "number": st.one_of(st.none(), st.floats(-1e6, 1e6).map(lambda v: round(v, 3))),
    "comma": st.one_of(st.none(), st.floats(-99, 99).map(lambda v: f"{v:.2f}".replace(".", ","))),
    "date": st.one_of(st.none(), st.dates().map(lambda d: d.replace(year=1980 + d.year % 40))),
    "flag": st.booleans(),
    "word": st.sampled_from(["red", "blue", "green", None]),
    "mark": st.one_of(st.sampled_from(["?", "n.a."]), st.integers(0, 9).map(str)),
}
rows = st.lists(st.fixed_dictionaries(cell), min_size=6, max_size=12)


@given(rows=rows, polars=st.booleans())
@settings(deadline=None, max_examples=30)
def test_a_table_is_read_as_the_csv_of_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], polars: bool
) -> None:
    """Numbers with gaps and decimals, decimal commas, dates, categories, marks."""
    folder = tmp_path_factory.mktemp("t")
    nodes = pd.DataFrame({"id": [f"n{i}" for i in range(len(rows))], **pd.DataFrame(rows)})
    nodes["date"] = pd.to_datetime(nodes["date"])
    edges = pd.DataFrame({"source": ["n0", "n1"], "target": ["n1", "n2"]})
    nodes.to_csv(folder / "nodes.csv", index=False)
    edges.to_csv(folder / "edges.csv", index=False)
    try:
        file = read_graph(folder)
    except DataError as error:  # commas that may separate thousands
        with pytest.raises(DataError, match=error.code):
            read_graph(edges, nodes=nodes)
        return
    made = [pl.from_pandas(t) for t in (edges, nodes)] if polars else [edges, nodes]
    table = read_graph(made[0], nodes=made[1])
    assert table.plan == file.plan
    assert table.graph.fingerprint == file.graph.fingerprint


@given(rows=rows)
@settings(deadline=None, max_examples=30)
def test_a_graph_of_networkx_is_read_as_the_files_of_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    """Attributes of every kind, in GraphML, GML and node-link JSON."""
    folder = tmp_path_factory.mktemp("g")
    graph = nx.path_graph([f"n{i}" for i in range(len(rows))])
    for i, row in enumerate(rows):
        known = {**row, "date": row["date"] and row["date"].isoformat()}
        graph.nodes[f"n{i}"].update({k: v for k, v in known.items() if v is not None})
    try:
        mine = read_graph(graph)
    except DataError as error:  # commas that may separate thousands
        assert error.code == "GFM109"
        return
    nx.write_graphml(graph, folder / "g.graphml")
    (folder / "g.json").write_text(json.dumps(nx.node_link_data(graph, edges="links")))
    for name in ("g.graphml", "g.json"):
        file = read_graph(folder / name)
        assert sorted(map(str, mine.plan or ())) == sorted(map(str, file.plan or ()))
        assert file.graph.num_features == mine.graph.num_features
