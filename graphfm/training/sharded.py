"""FSDP2 for a trunk that is too large for one process, and its state as torch's own checkpoints.

Every rank keeps a part of each weight, of its gradient and of its optimizer state. A layer of the
encoder is gathered when it runs and released afterwards. The rest of the trunk is one more unit.

Shapes:
    P  parameters that have a gradient
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from graphfm.errors import CheckpointError
from graphfm.graphs.catalog.rawfiles import foreign_names
from graphfm.model.graphfm import GraphFM, Trunk
from graphfm.model.nn.block import Block

INDEX = ".metadata"
_PLACES = "torch.distributed.checkpoint."
INDEX_NAMES = frozenset(
    {
        *(f"torch {dtype}" for dtype in ("float16", "bfloat16", "float32", "float64")),
        *(f"torch {dtype}" for dtype in ("bool", "uint8", "int8", "int16", "int32", "int64")),
        "torch Size",
        "torch.serialization _get_layout",
        "pathlib PosixPath",
        "pathlib WindowsPath",
        "pathlib._local PosixPath",
        "pathlib._local WindowsPath",
        f"{_PLACES}filesystem _StorageInfo",
        f"{_PLACES}metadata ChunkStorageMetadata",
        f"{_PLACES}metadata Metadata",
        f"{_PLACES}metadata MetadataIndex",
        f"{_PLACES}metadata StorageMeta",
        f"{_PLACES}metadata TensorProperties",
        f"{_PLACES}metadata TensorStorageMetadata",
        f"{_PLACES}metadata _MEM_FORMAT_ENCODING",
    }
)
"""Names that the index of torch's format may hold: they build plain records of sizes and places.

BytesStorageMetadata is missing on purpose: torch opens such an entry without any check.
"""
SEPARATOR = "/"  # between the name of a weight, which has dots, and a field of its state


def shard(trunk: Trunk, device: torch.device) -> nn.Module:
    """Shard a trunk in place: this rank keeps its part of the weights; gradients are added up.

    The weights become new objects, so make the optimizer afterwards.
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
            # The losses of the ranks are terms of one sum, and gloo can only add, not average.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return trunk


def full_tensor(value: Tensor) -> Tensor:
    """Return a weight whole. Every rank has to make this call."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def gather_weights(model: GraphFM) -> dict[str, Tensor]:
    """Return all weights by name, whole, on the CPU. Every rank has to make this call."""
    return {name: full_tensor(value.detach()).cpu() for name, value in model.state_dict().items()}


def clip_sharded(params: Iterable[Tensor], max_norm: float) -> tuple[Tensor, Tensor]:
    """Clip the norm of the whole gradient where some weights are sharded.

    Args:
        params: Parameters, of which P have a gradient.
        max_norm: Largest norm that remains.

    Returns:
        The norm of each gradient, (P,), and of all together, both before clipping.
    """
    grads = [p.grad for p in params if p.grad is not None]
    local = [grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads]
    norms = torch.stack(torch._foreach_norm(local))
    is_sharded = torch.tensor([hasattr(grad, "to_local") for grad in grads], device=norms.device)
    squares = torch.where(is_sharded, norms**2, 0.0)
    torch.distributed.all_reduce(squares)
    norms = torch.where(is_sharded, squares.sqrt(), norms)
    total = torch.linalg.vector_norm(norms)
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for grad in local:
        grad.mul_(factor)
    return norms, total


def save_sharded(folder: Path, model: GraphFM, optimizer: torch.optim.Optimizer) -> None:
    """Write weights and optimizer state in torch's distributed checkpoint format.

    Each rank writes its part. Any number of ranks can read the folder. Its index names classes; see
    :data:`INDEX_NAMES`.
    """
    from torch.distributed.checkpoint.state_dict_saver import save

    state = {
        f"{name}{SEPARATOR}{field}": value
        for part, names in _with_names(model, optimizer)
        for place, own in part.state_dict()["state"].items()
        for name in [names[place]]
        for field, value in own.items()
    }
    save({"weights": model.state_dict(), "optimizer": state}, checkpoint_id=folder)


def load_sharded(folder: Path, model: GraphFM, optimizer: torch.optim.Optimizer) -> None:
    """Load a folder of :func:`save_sharded` into a model and its optimizer, on any rank count.

    Raises:
        CheckpointError: GFM305 for an index that could run code.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import Metadata
    from torch.distributed.checkpoint.state_dict_loader import load

    class Reader(FileSystemReader):
        """Reader that checks the index before it opens it."""

        def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
            check_index(folder / INDEX)
            return super().read_metadata()

    params = dict(model.named_parameters())
    state: dict[str, Tensor] = {}
    for key in Reader(folder).read_metadata().state_dict_metadata:
        kind, _, rest = key.partition(".")
        if kind == "optimizer":  # a weight that never had a gradient has no state
            name, _, field = rest.partition(SEPARATOR)
            state[rest] = torch.tensor(0.0) if field == "step" else torch.zeros_like(params[name])
    weights = model.state_dict()
    with warnings.catch_warnings():
        # A single process may read the parts of many: the warning about it helps nobody.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load({"weights": weights, "optimizer": state}, storage_reader=Reader(folder))
    model.load_state_dict(weights)
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        name, _, field = key.partition(SEPARATOR)
        by_name.setdefault(name, {})[field] = value
    for part, names in _with_names(model, optimizer):
        own = {i: by_name[name] for i, name in enumerate(names) if name in by_name}
        part.load_state_dict({"state": own, "param_groups": part.state_dict()["param_groups"]})


def check_index(path: Path) -> None:
    """Refuse an index of torch's format that could run code when it is opened.

    Raises:
        CheckpointError: GFM305 for names that are not in :data:`INDEX_NAMES`, GFM302 for a file
            that cannot be read.
    """
    try:
        bad = foreign_names(path, INDEX_NAMES)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            "GFM302", f"the file cannot be read: {error}", where=str(path)
        ) from None
    if bad:
        raise CheckpointError(
            "GFM305",
            f"the index of the shards may describe tensors only, got {', '.join(bad[:3])}",
            where=str(path),
            why="opening it could run code",
            fix="resume a run that you wrote yourself",
        )


def _with_names(
    model: GraphFM, optimizer: torch.optim.Optimizer
) -> list[tuple[torch.optim.Optimizer, list[str]]]:
    """Return each part of an optimizer with the names of its weights, by their position.

    State is stored by name because positions depend on which weights are sharded.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    parts = getattr(optimizer, "parts", [optimizer])
    return [(o, [names[id(p)] for g in o.param_groups for p in g["params"]]) for o in parts]
