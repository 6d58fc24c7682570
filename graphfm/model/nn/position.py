"""Sign-invariant position encoding from Laplacian eigenvectors.

Shapes:
    N  nodes   k  eigenvectors   P  columns of the stored encoding, 2 k + 2   D  width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PHI_DIM = 8  # per eigenvector; 16 eigenvectors give 128 columns, about the width of a token


class SignInvariantEncoding(nn.Module):
    """phi(v) + phi(-v) for each eigenvector, as in the paper; then one map of all of them.

    phi reads the entry of an eigenvector at the node and its eigenvalue. Flipping the sign of an
    eigenvector changes nothing (Lim et al. 2022, arXiv 2202.13013). The log-degree and the two-step
    return probability are appended.

    Args:
        dim: Width D.
        num_eigenvectors: Number of eigenvectors k.
    """

    def __init__(self, dim: int, num_eigenvectors: int):
        super().__init__()
        self.dim, self.num_eigenvectors = dim, num_eigenvectors
        self.phi = nn.Sequential(nn.Linear(2, 16), nn.GELU(), nn.Linear(16, PHI_DIM))
        self.rho = nn.Sequential(
            nn.Linear(num_eigenvectors * PHI_DIM + 2, dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(self, pe: Tensor) -> Tensor:
        """Stored encodings (N, P) -> (N, D); only the first k eigenvectors are read."""
        k, stored = self.num_eigenvectors, (pe.shape[1] - 2) // 2
        entries, eigenvalues, rest = pe[:, :k], pe[:, stored : stored + k], pe[:, 2 * stored :]
        entries = entries.asinh()  # odd; a localised eigenvector has entries above 100
        plus = torch.stack([entries, eigenvalues], dim=-1)  # (N, k, 2)
        minus = torch.stack([-entries, eigenvalues], dim=-1)
        even = self.phi(plus) + self.phi(minus)  # (N, k, PHI_DIM)
        even = even * (eigenvalues > 0)[..., None]  # a small graph has fewer than k eigenvectors
        return self.rho(torch.cat([even.flatten(1), rest], dim=1))

    def flops(self, num_nodes: int) -> int:
        """Return the FLOPs of a forward pass."""
        k, dim = self.num_eigenvectors, self.dim
        phi = 2 * 2 * (2 * 16 + 16 * PHI_DIM)  # both signs
        rho = 2 * ((k * PHI_DIM + 2) * dim + dim * dim)
        return num_nodes * (k * phi + rho)
