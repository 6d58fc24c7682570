"""torch.compile for a model, without a compilation for every new size.

Shapes:
    ...  any leading sizes   N  rows, the product of all leading sizes   D  width
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphfm.model.nn.block import FeedForward
from graphfm.model.nn.position import SignInvariantEncoding


def compile_rows(model: nn.Module, **options: object) -> None:
    """Compile, in place, the parts that treat each token alone; weights keep their names.

    Every step has another number of graphs, tokens and targets. A part that mixes tokens takes the
    offsets of graphs and would be compiled again for each step. A part that treats each token alone
    has one variable size, the number of rows. These parts are the feed-forward layers and the
    encoding of positions: most of a step that is not matrix products. Attention has kernels of its
    own. There are no CUDA graphs, because adapters and heads have other shapes for every graph.

    Args:
        model: Model made of graphfm's parts.
        options: Options of :func:`torch.compile`.
    """
    for module in model.modules():
        if isinstance(module, FeedForward | SignInvariantEncoding):
            module.forward = _by_rows(torch.compile(module.forward, dynamic=True, **options))  # type: ignore


def _by_rows(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Call a function with (..., D) as (N, D): it is compiled for every number of dimensions."""

    def by_rows(x: Tensor) -> Tensor:
        return function(x.flatten(0, -2)).unflatten(0, x.shape[:-1])

    return by_rows
