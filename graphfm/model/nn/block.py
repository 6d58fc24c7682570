"""The transformer block of encoders and decoders, and its cost.

Shapes:
    ...  any leading sizes   D  width   H  heads   E  width of a head, D = H * E
    Q  targets   S  tokens of a target
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from graphfm.model.nn.attention import Projections, attention


class FeedForward(nn.Module):
    """GEGLU feed-forward layer (Shazeer 2020, arXiv 2002.05202): (..., D) -> (..., D)."""

    def __init__(self, dim: int, mult: int):
        super().__init__()
        self.up = nn.Linear(dim, 2 * mult * dim)
        self.down = nn.Linear(mult * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        # Two products instead of one that is cut in halves: on a CPU, gelu takes 1 to 17 ns per
        # number of a strided half, and 0.4 ns per number of a contiguous tensor.
        weights, biases = self.up.weight.chunk(2), self.up.bias.chunk(2)
        value, gate = (F.linear(x, w, b) for w, b in zip(weights, biases, strict=True))
        return self.down(value * F.gelu(gate))


class Block(nn.Module):
    """Pre-norm attention and feed-forward layer, in steps, so that callers choose what is read.

    Args:
        dim: Width D.
        num_heads: Number of heads H.
        ffn_mult: Width of the feed-forward layer, as a multiple of D.
        is_cross: Cross-attention: keys come from other tokens and have a norm of their own.
    """

    def __init__(self, dim: int, num_heads: int, ffn_mult: int, *, is_cross: bool = False):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.key_norm = nn.LayerNorm(dim) if is_cross else None
        self.attention = Projections(dim, num_heads)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_mult)

    def queries(self, x: Tensor) -> Tensor:
        """Normalize and project: (..., D) -> (..., H, E)."""
        return self.attention.queries(self.norm(x))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalize and project: (..., D) -> two of (..., H, E)."""
        norm = self.norm if self.key_norm is None else self.key_norm
        return self.attention.keys_values(norm(x))

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add attention output and feed-forward layer: (..., D), (..., H, E) -> (..., D)."""
        x = x + self.attention.out(attended)
        return x + self.ffn(self.ffn_norm(x))

    def update_first(
        self,
        x: Tensor,
        mask: Tensor,
        latent_k: Sequence[Tensor] = (),
        latent_v: Sequence[Tensor] = (),
        cu_q: Sequence[int] = (),
    ) -> Tensor:
        """Update the first token of each row from the row and the latents: (Q, S, D) -> (Q, D).

        The other arguments are those of :meth:`Projections.attend_one`.
        """
        normed = self.norm(x)
        q = self.attention.queries(normed[:, 0])
        read = self.attention.attend_one(q, normed, mask, latent_k, latent_v, cu_q)
        return self.update(x[:, 0], read)

    def attend(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Update tokens (B, K, D) from keys and values (B, M, H, E) of their graph."""
        return self.update(x, attention(self.queries(x), k, v))

    def self_attend(self, x: Tensor) -> Tensor:
        """Update the tokens of each graph from each other: (B, K, D) -> (B, K, D)."""
        return self.attend(x, *self.keys_values(x))


class Blocks(nn.ModuleList):
    """Blocks of equal shape, one after another."""

    def __init__(self, depth: int, dim: int, num_heads: int, ffn_mult: int):
        super().__init__(Block(dim, num_heads, ffn_mult) for _ in range(depth))

    def __iter__(self) -> Iterator[Block]:
        return super().__iter__()  # type: ignore[return-value]


def linear_flops(dim: int, ffn_mult: int) -> tuple[int, int]:
    """Return the FLOPs of one block per query token and per key token.

    A query token passes to_q and to_out (2 D^2) and the GEGLU (3 m D^2); a key token to_kv (2 D^2).
    """
    return 2 * (2 + 3 * ffn_mult) * dim * dim, 2 * 2 * dim * dim


def score_flops(num_queries: int, num_keys: int, dim: int) -> int:
    """Return the FLOPs of scores and weighted sum: 2 x 2 x queries x keys x D."""
    return 4 * num_queries * num_keys * dim


def one_query_flops(num_keys: int, dim: int, num_heads: int) -> int:
    """Return the FLOPs of ``attend_one``: both maps once; scores and sums of width D per head."""
    return 2 * 2 * dim * dim + 4 * num_keys * num_heads * dim
