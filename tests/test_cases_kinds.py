"""Properties of the readers: what holds for every file of a kind, not for one example."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.io import mmwrite

from graphfm.graphs.graph import Graph
from graphfm.graphs.inputs import read_graph
from graphfm.graphs.readers.options import ReadOptions

pairs = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=20, unique=True
)
quick = settings(max_examples=30, deadline=None)


def ends(graph: Graph) -> set[tuple[str, str]]:
    """Return the edges as pairs of ids."""
    ids = graph.node_ids or tuple(map(str, range(graph.num_nodes)))
    return {(ids[i], ids[j]) for i, j in graph.edge_index.T.tolist()}


def read(files: dict[str, str], **options: str) -> Graph:
    """Write files into a new folder and read the first one; nodes.csv is its node table."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        nodes = Path(folder) / "nodes.csv" if "nodes.csv" in files else None
        asked = ReadOptions(nodes=nodes, directed=True, **options)  # type: ignore[arg-type]
        return read_graph(Path(folder) / next(iter(files)), options=asked).graph


NODES = "id,kind\n" + "".join(f"n{i},{'ab'[i % 2]}\n" for i in range(10))


@given(pairs=pairs, place=st.integers(0, 2))
@quick
def test_the_ends_are_the_columns_of_node_ids_wherever_they_stand(
    pairs: list[tuple[int, int]], place: int
) -> None:
    rows = [["one", "other"], *([f"n{i}", f"n{j}"] for i, j in pairs)]
    for number, row in enumerate(rows):
        row.insert(place, "since" if number == 0 else str(1990 + number))
    text = "\n".join(",".join(row) for row in rows)
    graph = read({"e.csv": text, "nodes.csv": NODES})
    assert ends(graph) == {(f"n{i}", f"n{j}") for i, j in pairs}


@given(pairs=pairs, gaps=st.lists(st.sampled_from([" ", "  ", "    "]), min_size=20))
@quick
def test_any_run_of_spaces_is_one_delimiter(pairs: list[tuple[int, int]], gaps: list[str]) -> None:
    text = "".join(f"{i}{gap}{j}\n" for (i, j), gap in zip(pairs, gaps, strict=False))
    expected = {(str(i), str(j)) for i, j in pairs}
    assert ends(read({"e.txt": " " + text})) == expected


@given(pairs=pairs, field=st.sampled_from(["real", "integer", "pattern"]), symmetric=st.booleans())
@quick
def test_what_scipy_writes_as_matrix_market_is_read(
    pairs: list[tuple[int, int]], field: str, symmetric: bool
) -> None:
    row, col = np.array(pairs).T
    matrix = sparse.coo_array((np.ones(len(row)), (row, col)), shape=(10, 10))
    matrix = sparse.coo_array((matrix + matrix.T) > 0 if symmetric else matrix).astype(int)
    kind = "symmetric" if symmetric else "general"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.mtx"
        mmwrite(path, matrix, field=field, symmetry=kind)
        graph = read_graph(path).graph
    assert graph.num_nodes == 10
    found = sparse.coo_array(matrix)
    expected = {(str(i + 1), str(j + 1)) for i, j in zip(*found.coords, strict=True)}
    assert ends(graph) == expected


@given(pairs=pairs, floats=st.sampled_from(["ends", "nodes"]))
@quick
def test_whole_numbers_written_as_floats_are_the_same_ids(
    pairs: list[tuple[int, int]], floats: str
) -> None:
    end, own = (".0", "") if floats == "ends" else ("", ".0")
    text = "source,target\n" + "".join(f"{i}{end},{j}{end}\n" for i, j in pairs)
    nodes = "id,kind\n" + "".join(f"{i}{own},a\n" for i in range(10))
    graph = read({"e.csv": text, "nodes.csv": nodes})
    assert graph.num_nodes == 10
    assert ends(graph) == {(f"{i}{own}", f"{j}{own}") for i, j in pairs}


@given(
    values=st.lists(
        st.one_of(st.floats(-999, 999).map(lambda v: round(v, 2)), st.none()),
        min_size=10,
        max_size=10,
    ),
    comma=st.booleans(),
    mark=st.sampled_from(["", "?", "-", "NA", "n.a."]),
    target=st.booleans(),
)
@quick
def test_a_column_of_numbers_is_read_in_any_spelling(
    values: list[float | None], comma: bool, mark: str, target: bool
) -> None:
    values[:2] = [0.25, 1.5]
    cells = [mark if v is None else f"{v:.2f}".replace(".", "," if comma else ".") for v in values]
    rows = [f'n{i},"{cell}"\n' for i, cell in enumerate(cells)]
    files = {"e.csv": "source,target\nn0,n1\n", "nodes.csv": "id,v\n" + "".join(rows)}
    graph = read(files, **({"target": "v"} if target else {}))
    known = np.array([v is not None for v in values])
    expected = np.array([0.0 if v is None else v for v in values])
    found = np.asarray(graph.y if target else np.asarray(graph.x)[:, 0])
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-5, atol=1e-4)
    if target:
        assert np.isnan(found[~known]).all()
    else:
        assert graph.num_features == 1 + (not known.all())
