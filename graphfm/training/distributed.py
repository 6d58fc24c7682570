"""Many processes: who is here, what they tell each other, and whose gradients are added up.

Every rank holds all graphs and all weights and does its bins of a step, ``plan.bins(step)[r::W]``.
The trunk lies in torch's DistributedDataParallel; adapters and heads do not, because most of them
have no gradient in a step: those that have one travel in a flat buffer of their own.

Shapes:
    P  parameters with a gradient in this step, as one row
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from graphfm.model.graphfm import GraphFM, Trunk
from graphfm.sampling.batch import GraphBatch
from graphfm.training.faults import gradient_norms
from graphfm.training.sharded import clip_sharded, shard
from graphfm.training.world import World

log = logging.getLogger(__name__)


# Weights, gradient and AdamW's two moments of 1e9 parameters are 16 GB in float32 on every rank.
SHARD_ABOVE = 1_000_000_000


class Spread:
    """A model over the processes of a world: gradients are added up, weights stay alike.

    Args:
        model: With all its graphs; alike on every rank.
        world: Of which this process is one.
        shard_above: With more trunk parameters than this, every rank keeps a part of the trunk's
            weights and optimizer state: see :mod:`graphfm.training.sharded`. Make the optimizer
            after the spread.
    """

    def __init__(
        self, model: GraphFM, world: World | None = None, *, shard_above: int = SHARD_ABOVE
    ):
        self.model, self.world = model, world or World()
        self.bytes_sent = 0  # of gradients and figures, handed to all-reduce by this process
        self._trunk: nn.Module | None = None
        trunk_params = sum(p.numel() for part in model.trunk.values() for p in part.parameters())
        self.is_sharded = self.world.size > 1 and trunk_params > shard_above
        if self.is_sharded:
            self._trunk = model.wrap_trunk(lambda trunk: shard(trunk, self.device))
        elif self.world.size > 1:
            self._trunk = model.wrap_trunk(self._in_parallel)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.model.device

    def sends(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around a forward and backward pass: the trunk's gradients travel with the last one."""
        if isinstance(self._trunk, DistributedDataParallel):
            return contextlib.nullcontext() if last else self._trunk.no_sync()
        if self._trunk is not None:
            self._trunk.set_requires_gradient_sync(last)  # type: ignore[operator]
        return contextlib.nullcontext()

    def idle(self, last: bool) -> None:
        """Take part in a pass for which this process has no batch, with gradients of zero."""
        if self._trunk is not None:
            model = self.model
            with self.sends(last):
                adapted = torch.zeros(1, model.shape.dim, device=self.device)
                states = self._trunk(
                    adapted, _nothing(model.position.num_eigenvectors, self.device)
                )
                (0 * states.sum()).backward()

    def at_rest(self) -> None:
        """Weights in parts again: a forward pass without a backward one leaves some whole."""
        if self.is_sharded and self._trunk is not None:
            self._trunk.reshard()  # type: ignore[operator]

    def add_up(self, names: Iterable[str], figures: Tensor, flops: int) -> int:
        """Add up, over the ranks, the gradients outside the trunk, figures and FLOPs.

        Args:
            names: Graphs of the step, on all ranks the same.
            figures: (F,), added up in place.
            flops: Of this rank's work.

        Returns:
            The FLOPs of all ranks. A weight that has no gradient on any rank still has none.
        """
        if self.world.size == 1:
            return flops
        owners = [self.model.universal]
        for name in names:
            owners += [self.model.adapter(name), self.model.head(name)]
        # Each once: a graph without an adapter of its own has the universal one.
        weights = list(dict.fromkeys(p for o in owners for p in o.parameters() if p.requires_grad))
        host = torch.tensor([flops, *(p.grad is not None for p in weights)], dtype=torch.float64)
        flops, *used = self.world.sum(host).tolist()
        active = [p for p, n in zip(weights, used, strict=True) if n]
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in active]
        flat = torch.cat([piece.flatten() for piece in (*pieces, figures)])
        self.world.sum(flat)
        self.bytes_sent += 4 * len(flat) + 8 * len(host)
        *summed, told = flat.split([*(p.numel() for p in active), len(figures)])
        for p, grad in zip(active, summed, strict=True):
            p.grad = grad.view_as(p)
        figures.copy_(told)
        return int(flops)

    def clip(self, params: Sequence[Tensor], max_norm: float) -> tuple[Tensor, Tensor]:
        """Clip the gradient of all weights together; before that, the norm of each, and of all."""
        if self.is_sharded:
            return clip_sharded(params, max_norm)
        norms, total = gradient_norms(params)
        nn.utils.clip_grads_with_norm_(params, max_norm, total)
        return norms, total

    def _in_parallel(self, trunk: Trunk) -> nn.Module:
        ddp = DistributedDataParallel(trunk, gradient_as_bucket_view=True)
        # Without annotations: torch compares them with types, and here they are strings.
        ddp.register_comm_hook(None, lambda _, bucket: self._sum(bucket))
        return ddp

    def _sum(self, bucket: Any) -> torch.futures.Future[Tensor]:
        """Shares of a loss are added, where DistributedDataParallel would take their mean."""
        self.bytes_sent += bucket.buffer().nbytes
        work = dist.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])


def _nothing(num_eigenvectors: int, device: torch.device) -> GraphBatch:
    """A graph of one node, its own target, without neighbors: a pass through every weight."""
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    return GraphBatch(
        names=(),
        x=(),
        pe=torch.zeros(1, 2 * num_eigenvectors + 2, device=device),
        ptr=(0, 1),
        context=zero,
        context_ptr=(0, 1),
        query=zero,
        query_ptr=(0, 1),
        neighbors=zero[:, None],
        neighbor_mask=torch.zeros(1, 1, dtype=torch.bool, device=device),
        n_id=zero,
        y=(),
        raw=(),
    )
