"""A trunk too large for every process to hold: FSDP2, and its state by torch's own checkpoints.

Every rank keeps a part of each weight, of its gradient and of its optimizer state. A layer of the
encoder is gathered when it runs, and dropped again; all else of the trunk is one more unit.

Shapes:
    P  weights that have a gradient
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from graphfm.model.graphfm import GraphFM, Trunk
from graphfm.model.nn.block import Block

SEPARATOR = "/"  # between the name of a weight, which has dots, and a field of its state


def shard(trunk: Trunk, device: torch.device) -> nn.Module:
    """The same module, of whose weights this rank keeps its part; gradients are added up.

    Its weights are new objects: make the optimizer afterwards.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    encoder = cast(nn.Module, trunk.encoder)
    for block in encoder.modules():
        if isinstance(block, Block) and block.key_norm is None:
            fully_shard(block, mesh=mesh)
            register_fsdp_forward_method(block, "self_attend")
    fully_shard(trunk, mesh=mesh)
    for module in trunk.modules():
        if isinstance(module, FSDPModule):
            # Shares of a loss are added, not averaged; gloo knows no other way to add than a sum.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return trunk


def whole(value: Tensor) -> Tensor:
    """All of a weight; a call that every rank has to make."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def whole_weights(model: GraphFM) -> dict[str, Tensor]:
    """All weights by name, on the host, to be written as safetensors; every rank has to call it."""
    return {name: whole(value.detach()).cpu() for name, value in model.state_dict().items()}


def clip_sharded(params: Iterable[Tensor], max_norm: float) -> tuple[Tensor, Tensor]:
    """Clip the gradient of weights of which some are in parts, by the norm of all.

    Returns:
        Before that, the norm of each weight's gradient, (P,), and of all together.
    """
    grads = [p.grad for p in params if p.grad is not None]
    local = [grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads]
    norms = torch.stack(torch._foreach_norm(local))
    in_parts = torch.tensor([hasattr(grad, "to_local") for grad in grads], device=norms.device)
    squares = torch.where(in_parts, norms**2, 0.0)
    torch.distributed.all_reduce(squares)
    norms = torch.where(in_parts, squares.sqrt(), norms)
    total = torch.linalg.vector_norm(norms)
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for grad in local:
        grad.mul_(factor)
    return norms, total


def save_sharded(folder: Path, model: GraphFM, optimizer: torch.optim.Optimizer) -> None:
    """Weights and optimizer state, each rank its part, in torch's distributed checkpoint format.

    The folder can be read with another number of ranks. Its index is not plain data: read
    only what a run of one's own has written.
    """
    from torch.distributed.checkpoint.state_dict_saver import save

    state = {
        f"{name}{SEPARATOR}{field}": value
        for part, names in _named(model, optimizer)
        for place, own in part.state_dict()["state"].items()
        for name in [names[place]]
        for field, value in own.items()
    }
    save({"weights": model.state_dict(), "optimizer": state}, checkpoint_id=folder)


def load_sharded(folder: Path, model: GraphFM, optimizer: torch.optim.Optimizer) -> None:
    """What :func:`save_sharded` wrote, into a model and its optimizer, of any number of ranks."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import load

    params = dict(model.named_parameters())
    state: dict[str, Tensor] = {}
    for key in FileSystemReader(folder).read_metadata().state_dict_metadata:
        kind, _, rest = key.partition(".")
        if kind == "optimizer":  # a weight that was never visited has no state at all
            name, _, field = rest.partition(SEPARATOR)
            state[rest] = torch.tensor(0.0) if field == "step" else torch.zeros_like(params[name])
    weights = model.state_dict()
    with warnings.catch_warnings():
        # A single process may read what many wrote, and need not be told that it is alone.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load({"weights": weights, "optimizer": state}, checkpoint_id=folder)
    model.load_state_dict(weights)
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, field = key.partition(SEPARATOR)
        by_name.setdefault(name, {})[field] = value
    for part, names in _named(model, optimizer):
        own = {i: by_name[name] for i, name in enumerate(names) if name in by_name}
        part.load_state_dict({"state": own, "param_groups": part.state_dict()["param_groups"]})


def _named(
    model: GraphFM, optimizer: torch.optim.Optimizer
) -> list[tuple[torch.optim.Optimizer, list[str]]]:
    """Each optimizer that this one is made of, and the names of its weights, by their place.

    By name, because the order of places depends on which weights are in parts.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    parts = getattr(optimizer, "parts", [optimizer])
    return [(o, [names[id(p)] for g in o.param_groups for p in g["params"]]) for o in parts]
