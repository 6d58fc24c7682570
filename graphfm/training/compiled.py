"""torch.compile for a model, without a compilation at every new size.

Shapes:
    ...  any leading sizes   N  rows, all leading sizes as one   D  width
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphfm.model.nn.block import FeedForward
from graphfm.model.nn.position import SignInvariantEncoding


def compile_rows(model: nn.Module, **options: object) -> None:
    """Compile, in place, what a model does to each token alone; weights keep their names.

    A step has another number of graphs, tokens and targets each time. What goes from token to token
    takes offsets of graphs and would be compiled anew for each; what a token does alone sees one
    number, of rows, which is a variable of the compiled code. That is the feed-forward layers and
    the encoding of positions: most of the step that is not matrix products. Attention has kernels
    of its own. There are no CUDA graphs: adapters and heads have another shape for every dataset.

    Args:
        model: Any model made of our parts.
        options: For :func:`torch.compile`.
    """
    for module in model.modules():
        if isinstance(module, FeedForward | SignInvariantEncoding):
            module.forward = _by_rows(torch.compile(module.forward, dynamic=True, **options))  # type: ignore


def _by_rows(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """(..., D) as (N, D): a different number of leading sizes would be compiled for itself."""

    def by_rows(x: Tensor) -> Tensor:
        return function(x.flatten(0, -2)).unflatten(0, x.shape[:-1])

    return by_rows
