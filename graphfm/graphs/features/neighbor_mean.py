"""Mean of each node's neighbors, M x with M = D^-1 A, by backends that agree in their results.

Shapes:
    N  nodes   E  edges   F  columns
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy import sparse
from torch import Tensor


def neighbor_mean(rowptr: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Return the mean of ``x`` over the neighbors of each node.

    Args:
        rowptr: CSR row pointers, (N + 1,).
        col: Neighbors, (E,).
        x: Columns to average, (N, F) float32.

    Returns:
        (N, F), on the device of ``x``; 0 for a node without neighbors.
    """
    mean = backend(x.device)
    return mean(rowptr.to(x.device), col.to(x.device), x)


def hop_features(rowptr: Tensor, col: Tensor, x: Tensor, num_hops: int = 2) -> Tensor:
    """Return [x, M x, M^2 x, ...] side by side, where M = D^-1 A averages over neighbors.

    Args:
        rowptr: CSR row pointers, (N + 1,).
        col: Neighbors, (E,).
        x: Features, (N, F).
        num_hops: Largest power of M.

    Returns:
        (N, (num_hops + 1) * F) float32. Averages of a node without neighbors are 0.
    """
    hops = [x.float()]
    for _ in range(num_hops):
        hops.append(neighbor_mean(rowptr, col, hops[-1]))
    return torch.cat(hops, dim=1)


def backend(device: torch.device) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the function that computes the mean: torch-scatter on CUDA if installed, else core.

    On a CPU torch-scatter takes 3.7 times as long as the product with a CSR matrix, because it
    stores one row for each edge.
    """
    if device.type == "cuda":
        try:
            import torch_scatter  # noqa: F401
        except (ImportError, OSError):  # OSError: it was compiled against another torch
            return core
        return scatter
    return core


def core(rowptr: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Compute the mean as a product with a CSR matrix, by scipy on a CPU and by torch elsewhere."""
    if x.device.type == "cpu":
        return averaging(rowptr, col, x.dtype)(x)
    return torch_product(rowptr, col, _shares(rowptr, x.dtype), x)


def averaging(
    rowptr: Tensor, col: Tensor, dtype: torch.dtype = torch.float32
) -> Callable[[Tensor], Tensor]:
    """Return :func:`neighbor_mean` on a CPU as a function of ``x``, for several products."""
    mean = mean_matrix(rowptr, col, dtype)
    return lambda x: torch.from_numpy(mean @ x.numpy())


def mean_matrix(
    rowptr: Tensor, col: Tensor, dtype: torch.dtype = torch.float32
) -> sparse.csr_array:
    """Return M = D^-1 A as a matrix, (N, N)."""
    num_nodes = len(rowptr) - 1
    shares = _shares(rowptr, dtype)
    return sparse.csr_array(
        (shares.numpy(), col.numpy(), rowptr.numpy()), shape=(num_nodes, num_nodes)
    )


def _shares(rowptr: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight of each edge in the mean of its row, 1 / degree, (E,)."""
    degree = rowptr.diff()
    return (1 / degree.clamp(min=1)).to(dtype).repeat_interleave(degree)


def torch_product(rowptr: Tensor, col: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """Return the product of a CSR matrix and ``x``, on any device."""
    shape = (len(rowptr) - 1, len(rowptr) - 1)
    return torch.sparse_csr_tensor(rowptr, col, values, shape, check_invariants=False) @ x


def scatter(rowptr: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """Compute the mean by torch-scatter, which stores one row for each edge."""
    from torch_scatter import segment_csr

    reduced: Tensor = segment_csr(x[col], rowptr, reduce="mean")
    return reduced
