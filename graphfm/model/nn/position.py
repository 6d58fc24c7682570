"""Sign-invariant encoding of Laplacian eigenvectors.

Shapes:
    N  nodes   k  eigenvectors   P  columns of the stored encoding, 2 k + 2   D  width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PHI_DIM = 8  # per eigenvector; 16 eigenvectors give 128 columns, about the width of a token


class SignInvariantEncoding(nn.Module):
    """phi(v) + phi(-v) for each eigenvector, as the paper; then all of them through one map.

    phi sees an eigenvector's entry at the node and its eigenvalue, so that flipping the sign of any
    eigenvector changes nothing (Lim et al. 2022, arXiv 2202.13013). Log-degree and the two-step
    return probability join behind it.

    Args:
        dim: Width D.
        num_eigenvectors: k.
    """

    def __init__(self, dim: int, num_eigenvectors: int):
        super().__init__()
        self.dim, self.num_eigenvectors = dim, num_eigenvectors
        self.phi = nn.Sequential(nn.Linear(2, 16), nn.GELU(), nn.Linear(16, PHI_DIM))
        self.rho = nn.Sequential(
            nn.Linear(num_eigenvectors * PHI_DIM + 2, dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(self, pe: Tensor) -> Tensor:
        """Stored encodings (N, P) -> (N, D); of more than k eigenvectors the first k are read."""
        k, stored = self.num_eigenvectors, (pe.shape[1] - 2) // 2
        entries, eigenvalues, rest = pe[:, :k], pe[:, stored : stored + k], pe[:, 2 * stored :]
        entries = entries.asinh()  # odd; a localised eigenvector has entries above 100
        plus = torch.stack([entries, eigenvalues], dim=-1)  # (N, k, 2)
        minus = torch.stack([-entries, eigenvalues], dim=-1)
        even = self.phi(plus) + self.phi(minus)  # (N, k, PHI_DIM)
        even = even * (eigenvalues > 0)[..., None]  # a small graph has fewer than k
        return self.rho(torch.cat([even.flatten(1), rest], dim=1))

    def flops(self, num_nodes: int) -> int:
        """Of the forward pass over so many nodes."""
        k, dim = self.num_eigenvectors, self.dim
        phi = 2 * 2 * (2 * 16 + 16 * PHI_DIM)  # both signs
        rho = 2 * ((k * PHI_DIM + 2) * dim + dim * dim)
        return num_nodes * (k * phi + rho)
