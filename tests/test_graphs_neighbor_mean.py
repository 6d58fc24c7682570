"""The mean of neighbors: the same from every backend, and torch-scatter never needed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graphfm.graphs.features import neighbor_mean as module
from graphfm.graphs.features.neighbor_mean import (
    backend,
    core,
    hop_features,
    neighbor_mean,
    scatter,
    torch_product,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def some_graph(seed: int, num_nodes: int = 30, mean_degree: float = 3.0) -> tuple[Tensor, ...]:
    """(rowptr, col, x); some nodes have no neighbors, some neighbors are there twice."""
    rng = np.random.default_rng(seed)
    degree = rng.poisson(mean_degree * (rng.random(num_nodes) < 0.8))
    rowptr = torch.from_numpy(np.append(0, degree.cumsum()))
    col = torch.from_numpy(rng.integers(0, num_nodes, degree.sum()))
    x = torch.from_numpy(rng.standard_normal((num_nodes, 4)).astype(np.float32))
    return rowptr, col, x


def by_hand(rowptr: Tensor, col: Tensor, x: Tensor) -> Tensor:
    rows = [x[col[a:b]] for a, b in zip(rowptr[:-1], rowptr[1:], strict=True)]
    return torch.stack([r.mean(dim=0) if len(r) else torch.zeros(x.shape[1]) for r in rows])


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), num_nodes=st.integers(1, 40), degree=st.sampled_from([0, 1, 6]))
def test_core_is_the_mean_of_neighbors(seed: int, num_nodes: int, degree: int) -> None:
    """Seen to fail with sums."""
    graph = some_graph(seed, num_nodes, degree)
    wanted = by_hand(*graph)
    torch.testing.assert_close(neighbor_mean(*graph), wanted)
    assert torch.equal(hop_features(*graph, num_hops=1)[:, 4:], neighbor_mean(*graph))


def test_both_products_of_core_agree() -> None:
    """The one that CUDA takes, on a CPU. Seen to fail with the shares turned round."""
    rowptr, col, x = some_graph(0)
    degree = rowptr.diff()
    shares = (1 / degree.clamp(min=1)).repeat_interleave(degree)
    torch.testing.assert_close(torch_product(rowptr, col, shares, x), core(rowptr, col, x))


@pytest.mark.parametrize("seed", range(5))
def test_both_backends_agree(seed: int) -> None:
    pytest.importorskip("torch_scatter", reason="torch-scatter is not installed")
    graph = some_graph(seed)
    torch.testing.assert_close(scatter(*graph), core(*graph))


@pytest.mark.gpu
def test_cuda_gives_what_a_cpu_gives() -> None:
    rowptr, col, x = some_graph(1, num_nodes=2000)
    there = neighbor_mean(rowptr, col, x.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), core(rowptr, col, x))


@pytest.mark.parametrize(
    ("source", "chosen"),
    [
        ("def segment_csr(src, indptr, out=None, reduce='sum'): ...", "scatter"),
        ("raise OSError('undefined symbol')", "core"),
        ("raise ImportError('not for this Python')", "core"),
    ],
    ids=["installed", "compiled against another torch", "broken"],
)
def test_torch_scatter_is_chosen_on_cuda_where_it_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, chosen: str
) -> None:
    """And never on a CPU. Seen to fail with ImportError as the only one that is caught."""
    (tmp_path / "torch_scatter.py").write_text(source)
    monkeypatch.delitem(sys.modules, "torch_scatter", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert backend(CUDA) is getattr(module, chosen)
    assert backend(CPU) is core
    monkeypatch.delitem(sys.modules, "torch_scatter", raising=False)


def test_nothing_needs_torch_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import fails here, on any machine. Seen to fail with the import at the top."""
    monkeypatch.setitem(sys.modules, "torch_scatter", None)
    monkeypatch.setattr("graphfm.graphs.features.neighbor_mean", module)  # so that it is put back
    monkeypatch.delitem(sys.modules, "graphfm.graphs.features.neighbor_mean")
    from graphfm.graphs.features.neighbor_mean import backend, core, neighbor_mean

    assert backend(CUDA) is backend(CPU) is core
    graph = some_graph(2)
    torch.testing.assert_close(neighbor_mean(*graph), by_hand(*graph))
