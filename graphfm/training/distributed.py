"""A model over several processes: whose gradients are added up, and how.

Every rank holds all graphs and all weights and computes its bins of a step,
``plan.bins(step)[rank::size]``. The trunk is wrapped in torch's DistributedDataParallel. Adapters
and heads are not, because most of them have no gradient in a step: the gradients that exist are
sent in one flat buffer.
"""

from __future__ import annotations

import contextlib
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

# Weights, gradient and AdamW's two moments of 1e9 parameters are 16 GB in float32 on every rank.
SHARD_ABOVE = 1_000_000_000


class DistributedModel:
    """A model over the processes of a world: gradients are added up, weights stay equal.

    Args:
        model: Model with all its graphs, equal on every rank.
        world: Processes of the run. Default: this process alone.
        shard_above: Number of trunk parameters above which every rank keeps only a part of the
            trunk's weights and optimizer state, see :mod:`graphfm.training.sharded`. Sharding
            replaces the weights, so make the optimizer afterwards. Default: 1e9.

    Attributes:
        bytes_sent: Bytes of gradients and losses that this process passed to all-reduce.
        is_sharded: True if every rank keeps only a part of the trunk.
    """

    def __init__(
        self, model: GraphFM, world: World | None = None, *, shard_above: int = SHARD_ABOVE
    ):
        self.model, self.world = model, world or World()
        self.bytes_sent = 0
        self._trunk: nn.Module | None = None
        trunk_params = sum(p.numel() for part in model.trunk.values() for p in part.parameters())
        self.is_sharded = self.world.size > 1 and trunk_params > shard_above
        if self.is_sharded:
            self._trunk = model.wrap_trunk(lambda trunk: shard(trunk, self.device))
        elif self.world.size > 1:
            self._trunk = model.wrap_trunk(self._data_parallel)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.device

    def synchronized(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Return the context of a forward and backward pass.

        Args:
            last: If true, this is the last pass of the step and the trunk's gradients are sent.
        """
        if isinstance(self._trunk, DistributedDataParallel):
            return contextlib.nullcontext() if last else self._trunk.no_sync()
        if self._trunk is not None:
            self._trunk.set_requires_gradient_sync(last)  # type: ignore[operator]
        return contextlib.nullcontext()

    def take_part(self, last: bool) -> None:
        """Take part in a pass for which this process has no batch, with gradients of zero.

        Args:
            last: See :meth:`synchronized`.
        """
        if self._trunk is not None:
            model = self.model
            with self.synchronized(last):
                adapted = torch.zeros(1, model.shape.dim, device=self.device)
                states = self._trunk(
                    adapted, _one_node_batch(model.position.num_eigenvectors, self.device)
                )
                (0 * states.sum()).backward()

    def reshard(self) -> None:
        """Split the weights again: a forward pass without a backward pass leaves some whole."""
        if self.is_sharded and self._trunk is not None:
            self._trunk.reshard()  # type: ignore[operator]

    def add_up(self, names: Iterable[str], figures: Tensor, flops: int) -> int:
        """Add up, over the ranks, the gradients outside the trunk, the losses and the FLOPs.

        A weight that has no gradient on any rank still has none afterwards.

        Args:
            names: Names of the graphs of the step, the same on all ranks.
            figures: Losses to add up, in place, (F,).
            flops: FLOPs of this rank.

        Returns:
            The FLOPs of all ranks.
        """
        if self.world.size == 1:
            return flops
        owners = [self.model.universal]
        for name in names:
            owners += [self.model.adapter(name), self.model.head(name)]
        # Each weight once: graphs without an adapter of their own share the universal one.
        weights = list(dict.fromkeys(p for o in owners for p in o.parameters() if p.requires_grad))
        counts = torch.tensor([flops, *(p.grad is not None for p in weights)], dtype=torch.float64)
        flops, *used = self.world.sum(counts).tolist()
        active = [p for p, n in zip(weights, used, strict=True) if n]
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in active]
        flat = torch.cat([piece.flatten() for piece in (*pieces, figures)])
        self.world.sum(flat)
        self.bytes_sent += 4 * len(flat) + 8 * len(counts)
        *gradients, total = flat.split([*(p.numel() for p in active), len(figures)])
        for p, gradient in zip(active, gradients, strict=True):
            p.grad = gradient.view_as(p)
        figures.copy_(total)
        return int(flops)

    def clip(self, params: Sequence[Tensor], max_norm: float) -> tuple[Tensor, Tensor]:
        """Clip the norm of the whole gradient.

        Args:
            params: Parameters, of which P have a gradient.
            max_norm: Largest norm that remains.

        Returns:
            The norm of each gradient, (P,), and of all together, both before clipping.
        """
        if self.is_sharded:
            return clip_sharded(params, max_norm)
        norms, total = gradient_norms(params)
        nn.utils.clip_grads_with_norm_(params, max_norm, total)
        return norms, total

    def _data_parallel(self, trunk: Trunk) -> nn.Module:
        """Wrap the trunk in DistributedDataParallel with a sum in place of the mean."""
        ddp = DistributedDataParallel(trunk, gradient_as_bucket_view=True)
        # A lambda has no annotations: torch would compare them with types, and here they are text.
        ddp.register_comm_hook(None, lambda _, bucket: self._sum(bucket))
        return ddp

    def _sum(self, bucket: Any) -> torch.futures.Future[Tensor]:
        """Add up a bucket of gradients: the losses of the ranks are terms of one sum."""
        self.bytes_sent += bucket.buffer().nbytes
        work = dist.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])


def _one_node_batch(num_eigenvectors: int, device: torch.device) -> GraphBatch:
    """Return a graph of one node without neighbors that is its own target.

    A pass over it uses every weight of the trunk.
    """
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
