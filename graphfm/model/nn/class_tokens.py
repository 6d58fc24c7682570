"""Packs of graphs for in-context inference, and the tokens (node, class) of their nodes.

Shapes:
    N  nodes of all graphs of a pack   B  graphs   C  classes   E  experts   A  channels of a token
    G  channels of a node
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.graphs.features.neighbor_mean import neighbor_mean, torch_product
from graphfm.model.heads.classify import pool_log_probs, trust_in_held_out

EXPERTS = (
    "features",
    "smoothed",
    "diffused",
    "context",
    "kernel",
    "two-hops",
    "far",
    "their-neighbors",
)
"""Experts that the network reads, in the order of its channels; it ignores others."""

TOKEN_CHANNELS = 2 * len(EXPERTS) + 9
NODE_CHANNELS = 2 * len(EXPERTS) + 9
UNIT = 3.0  # divisor of log-probabilities: then most are below 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Pack:
    """Graphs with the same number of classes, side by side. It holds no label that is not shown.

    Args:
        ptr: First node of each graph, (B + 1,).
        rowptr: CSR row pointers of all graphs, (N + 1,).
        col: Neighbors, both directions.
        shown: Class of each shown node, (N,) int64; -1 = not shown.
        log_probs: Log-probabilities of the experts in the order of :data:`EXPERTS`, held out for
            shown nodes, (N, E, C); 0 for an expert that does not answer.
        answers: Mask of the experts that answer, (B, E).
        held_out: Held-out loss of each expert over log C, (B, E).
        pool: Normalised log-probabilities of the pool, (N, C).
    """

    ptr: Tensor
    rowptr: Tensor
    col: Tensor
    shown: Tensor
    log_probs: Tensor
    answers: Tensor
    held_out: Tensor
    pool: Tensor

    @property
    def graph_of_node(self) -> Tensor:
        """Graph of each node, (N,)."""
        return torch.repeat_interleave(self.ptr.diff())

    @classmethod
    def of(
        cls,
        rowptr: Tensor,
        col: Tensor,
        shown: Tensor,
        names: Sequence[str],
        log_probs: Tensor,
        held_out: Tensor,
        *,
        pool: Tensor | None = None,
    ) -> Pack:
        """Make a pack of one graph.

        Args:
            rowptr: CSR row pointers, (N + 1,).
            col: Neighbors.
            shown: Class of each shown node, (N,), -1 = not shown.
            names: Names of the experts that answer, in any order.
            log_probs: Their log-probabilities, (N, experts, C).
            held_out: Their held-out losses, (experts,).
            pool: Log-probabilities of the pool, (N, C). Default: that of these experts.
        """
        num_nodes, _, num_classes = log_probs.shape
        if pool is None:
            labels = (shown >= 0).sum() / num_classes
            weight = -trust_in_held_out(float(labels)) * held_out
            pool = pool_log_probs(log_probs, weight.expand(num_nodes, -1))
        ordered = log_probs.new_zeros(num_nodes, len(EXPERTS), num_classes)
        losses, answers = held_out.new_zeros(1, len(EXPERTS)), torch.zeros(1, len(EXPERTS)) > 0
        place = {name: i for i, name in enumerate(names)}
        for e, name in enumerate(EXPERTS):
            if name in place:
                ordered[:, e] = log_probs[:, place[name]]
                losses[0, e], answers[0, e] = held_out[place[name]], True
        return cls(
            ptr=torch.tensor([0, num_nodes]),
            rowptr=rowptr,
            col=col,
            shown=shown,
            log_probs=ordered,
            answers=answers,
            held_out=losses,
            pool=pool.log_softmax(dim=1),
        )

    @classmethod
    def join(cls, packs: Sequence[Pack]) -> Pack:
        """Put packs with the same number of classes side by side."""
        nodes = torch.tensor([0, *(int(pack.ptr[-1]) for pack in packs)]).cumsum(0).tolist()
        edges = torch.tensor([0, *(len(pack.col) for pack in packs)]).cumsum(0).tolist()
        starts = zip(packs, nodes, strict=False)
        ends = [pack.rowptr[:-1] + edge for pack, edge in zip(packs, edges, strict=False)]
        return cls(
            ptr=torch.cat([*(p.ptr[:-1] + n for p, n in starts), torch.tensor(nodes[-1:])]),
            rowptr=torch.cat([*ends, torch.tensor(edges[-1:])]),
            col=torch.cat([p.col + n for p, n in zip(packs, nodes, strict=False)]),
            shown=torch.cat([pack.shown for pack in packs]),
            log_probs=torch.cat([pack.log_probs for pack in packs]),
            answers=torch.cat([pack.answers for pack in packs]),
            held_out=torch.cat([pack.held_out for pack in packs]),
            pool=torch.cat([pack.pool for pack in packs]),
        )

    def to(self, device: torch.device) -> Pack:
        """Copy the pack to a device."""
        return Pack(**{name: value.to(device) for name, value in vars(self).items()})


class NeighborMean(torch.autograd.Function):
    """Mean over neighbors with a gradient: (N, P) -> (N, P).

    Edges run in both directions, so the transpose of D^-1 A is A D^-1 = D (D^-1 A) D^-1.
    """

    @staticmethod
    def forward(ctx, x: Tensor, rowptr: Tensor, col: Tensor, share: Tensor) -> Tensor:
        """Average over neighbors; ``share`` is 1 / degree of each edge's row."""
        ctx.save_for_backward(rowptr, col, share)
        return torch_product(rowptr, col, share, x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        """Return the gradient of ``x``."""
        rowptr, col, share = ctx.saved_tensors
        degree = rowptr.diff().clamp(min=1)[:, None]
        return degree * torch_product(rowptr, col, share, (grad / degree).contiguous()), *3 * [None]


def shares_of_edges(pack: Pack) -> Tensor:
    """Return 1 / degree of the row of each edge."""
    degree = pack.rowptr.diff()
    return (1 / degree.clamp(min=1)).to(pack.pool.dtype).repeat_interleave(degree)


def tokens_of(pack: Pack) -> tuple[Tensor, Tensor]:
    """Return the channels of all tokens, (N, C, A), and of all nodes, (N, G)."""
    num_classes = pack.pool.shape[1]
    graph = pack.graph_of_node
    dtype = pack.pool.dtype
    is_shown = (pack.shown >= 0).to(dtype)
    answers = pack.answers[graph].to(dtype)  # (N, E)
    known = F.one_hot(pack.shown.clamp(min=0), num_classes) * is_shown[:, None]
    # Labels in reach; a node's own label is at no distance of 1, and is left out at 2.
    one = neighbor_mean(pack.rowptr, pack.col, known)
    degree = pack.rowptr.diff().clamp(min=1).to(dtype)[:, None]
    back = neighbor_mean(pack.rowptr, pack.col, 1 / degree)
    two = (neighbor_mean(pack.rowptr, pack.col, one) - back * known).clamp(min=0)
    counts = known.new_zeros(len(pack.answers), num_classes).index_add_(0, graph, known)
    num_shown = counts.sum(dim=1)
    prior = (counts + 1) / (num_shown + num_classes)[:, None]
    reach = [x.sum(dim=1, keepdim=True) for x in (one, two)]
    share = [
        (x + 0.1 * prior[graph] / degree) / (r + 0.1 / degree)
        for x, r in zip((one, two), reach, strict=True)
    ]
    proba = pack.log_probs.exp() * answers[..., None]
    centered = (pack.log_probs - pack.log_probs.mean(dim=2, keepdim=True)) / UNIT
    pooled = pack.pool.exp()
    mean = proba.sum(dim=1) / answers.sum(dim=1, keepdim=True).clamp(min=1)
    spread = (proba.square().sum(dim=1) / answers.sum(dim=1, keepdim=True).clamp(min=1)
              - mean.square()).clamp(min=0)  # fmt: skip
    tokens = torch.cat(
        [
            (centered * answers[..., None]).transpose(1, 2),
            proba.transpose(1, 2),
            torch.stack(
                [
                    (pack.pool - pack.pool.mean(dim=1, keepdim=True)) / UNIT,
                    pooled,
                    spread.add(1e-6).sqrt(),
                    share[0] - prior[graph],
                    share[1] - prior[graph],
                    prior.log()[graph] + math.log(num_classes),
                    counts.log1p()[graph] / UNIT,
                    known,
                    (known - pooled) * is_shown[:, None],
                ],
                dim=2,
            ),
        ],
        dim=2,
    )
    labelled = one.new_zeros(2, len(counts))
    has = is_shown * (reach[0][:, 0] > 0)
    agree = (one * known).sum(dim=1) / reach[0][:, 0].clamp(min=1e-9) * has
    labelled[0].index_add_(0, graph, agree)
    labelled[1].index_add_(0, graph, has)
    homophily = labelled[0] / labelled[1].clamp(min=1)
    size = pack.ptr.diff().to(dtype)
    nodes = torch.cat(
        [
            answers,
            (pack.held_out - 1).clamp(max=1)[graph] * answers,
            torch.stack(
                [
                    -(pooled * pack.pool).sum(dim=1) / math.log(num_classes),
                    degree[:, 0].log() / UNIT,
                    (reach[0][:, 0] * degree[:, 0]).log1p() / UNIT,
                    reach[1][:, 0],
                    is_shown,
                    (num_shown / num_classes).log()[graph] / UNIT,
                    (num_shown / size)[graph],
                    torch.full_like(is_shown, math.log(num_classes) / UNIT),
                    homophily[graph] * (labelled[1] > 0)[graph],
                ],
                dim=1,
            ),
        ],
        dim=1,
    )
    return tokens, nodes
