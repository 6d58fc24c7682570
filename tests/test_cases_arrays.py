"""NumPy and AnnData files that were read wrongly, or refused without need."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from graphfm.errors import DataError
from graphfm.graphs.inputs import read_graph
from graphfm.graphs.readers.options import ReadOptions
from tests.test_cases_files import ends, read

PATH = sparse.csr_array(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=np.float32))


def parts(prefix: str, matrix: sparse.csr_array) -> dict[str, Any]:
    """Return the parts of a CSR matrix under the names of attributed graphs."""
    found = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr}
    return {f"{prefix}_{k}": v for k, v in found.items()} | {f"{prefix}_shape": matrix.shape}


def test_attributed_graph(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x = sparse.csr_array(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32))
    path = tmp_path / "a.npz"
    np.savez(path, **parts("adj", PATH), **parts("attr", x), labels=[0, 1, 0], extra=[1])
    graph = read_graph(path).graph
    assert ends(graph) == {("0", "1"), ("1", "2")} and not graph.directed
    assert (graph.num_features, graph.class_names) == (2, ("0", "1"))
    assert "1 arrays are not read: extra" in caplog.text


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for AnnData with the two matrices that scanpy always writes."""
    import pandas as pd

    found = SimpleNamespace(
        obsp={"distances": 2 * PATH, "connectivities": PATH},
        uns={"neighbors": {"connectivities_key": "connectivities"}},
        obs=pd.DataFrame({"kind": ["a", "b", "a"], "depth": [1, 2, 3]}),
        obs_names=["c1", "c2", "c3"],
        X=np.ones((3, 2), dtype=np.float32),
    )
    module = ModuleType("anndata")
    module.read_h5ad = lambda path: found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "anndata", module)
    return found


def test_the_graph_of_scanpy(
    tmp_path: Path, cells: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    graph = read(tmp_path, "c.h5ad", "", target="kind")
    assert (graph.num_nodes, graph.class_names) == (3, ("a", "b"))
    assert "'connectivities'" in caplog.text and "1 columns of obs are not read" in caplog.text
    cells.uns.clear()
    with pytest.raises(DataError, match="GFM137"):
        read(tmp_path, "c.h5ad", "", target="kind")


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("c.h5ad", {"features": "a"}),
        ("a.npz", {"features": "none"}),
        ("a.npz", {"id": "name"}),
        ("g.graphml", {"source": "a"}),
        ("g.gml", {"header": True}),
        ("m.mtx", {"source": "a"}),
        ("e.csv", {"obsp": "connectivities"}),
    ],
)
def test_an_option_that_does_not_apply_is_refused(
    tmp_path: Path, name: str, option: dict[str, Any]
) -> None:
    (tmp_path / name).write_text("")
    flag = next(iter(option))
    with pytest.raises(DataError, match=f"GFM105.*--{flag}"):
        read_graph(tmp_path / name, options=ReadOptions(**option))
