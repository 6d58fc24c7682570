"""What a fit will need, before it begins: memory, seconds, parameters.

Shapes:
    N  nodes   E  edges, both directions   F  transformed features   P  columns of the encoding
    R  raw columns of the head   D  width   T  neighbors   C  classes
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from graphfm.errors import DataError
from graphfm.graphs.graph import Graph
from graphfm.graphs.position import position_dim
from graphfm.graphs.prepare import PreparedGraph
from graphfm.model import UNIVERSAL_FEATURES, GraphFM
from graphfm.training.calibration import MAX_CHOICE, MAX_NODES, num_choosing
from graphfm.training.descent import DEPTHS, EVAL_EVERY, STEP_CONTEXT, TARGETS_PER_STEP, Depth
from graphfm.training.expert_cost import (
    flops_of_experts,
    memory_of_experts,
    seconds_of_experts,
)
from graphfm.training.inference import TILE
from graphfm.training.multihop import NUM_HOPS
from graphfm.training.probe import MAX_CONTEXT, MAX_RIDGE_NODES, NUM_NEIGHBORS, STATE_WEIGHTS

GIB = 2**30
# What the arithmetic of a fit reaches of a plain product of two matrices, on a CPU.
EFFICIENCY = 0.35
BEGIN_SECONDS = 0.3
FIRST_STEP_SECONDS = 2.0  # the first optimizer of a process makes torch import its compiler
STEP_SECONDS = 0.01  # of a step, beside its arithmetic
ACTIVATIONS = 24  # numbers a token of a gradient step leaves in each layer, over D


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the cost of a fit depends on.

    Args:
        num_nodes: N.
        num_edges: E.
        num_features: F.
        num_encodings: P.
        num_classes: C.
        num_train: Labelled training nodes.
        num_val: Labelled validation nodes.
        prepared: Whether features and encodings are in memory already.
        pool: Whether experts answer too, as where a node has one class of several.
        with_trees: Whether trees are among them, which a fit at depth ``probe`` leaves out.
    """

    num_nodes: int
    num_edges: int
    num_features: int
    num_encodings: int
    num_classes: int
    num_train: int
    num_val: int = 0
    prepared: bool = True
    pool: bool = True
    with_trees: bool = True

    @property
    def num_raw(self) -> int:
        """R."""
        return (1 + NUM_HOPS) * self.num_features + (self.num_encodings - 2) // 2 + 2


def sizes_of(
    graph: Graph | PreparedGraph,
    model: GraphFM,
    *,
    num_train: int,
    num_val: int = 0,
    pool: bool = True,
    with_trees: bool = True,
) -> Sizes:
    """Of a graph, prepared or yet to be, that is fitted with or without a pool of experts."""
    return Sizes(
        num_nodes=graph.num_nodes,
        num_edges=len(graph.col),
        # the feature transform keeps so many axes at most
        num_features=min(graph.num_features, UNIVERSAL_FEATURES),
        num_encodings=position_dim(),
        num_classes=graph.task.num_classes,
        num_train=num_train,
        num_val=num_val,
        prepared=isinstance(graph, PreparedGraph),
        pool=pool and graph.task.kind == "classify",
        with_trees=with_trees,
    )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a fit allocates, by what they are for.

    100,000 nodes of 100 features: 0.43 GiB measured, 0.44 estimated.

    Args:
        lasting: Held from where they are made to the end.
        passing: Given back; no two of them are held at once.
    """

    lasting: dict[str, int]
    passing: dict[str, int]

    @property
    def peak(self) -> int:
        """The most at once."""
        return sum(self.lasting.values()) + max(self.passing.values())


def memory_of(sizes: Sizes, model: GraphFM, *, ensemble: int = 1) -> Memory:
    """What a fit will allocate."""
    n, edges = sizes.num_nodes, sizes.num_edges
    rows = min(sizes.num_train, MAX_RIDGE_NODES)
    columns = model.shape.dim + sizes.num_raw
    tokens = TARGETS_PER_STEP * (1 + NUM_NEIGHBORS) + STEP_CONTEXT
    layers = len(model.decoder.layers) + 1
    params = model.num_params()
    own = params["trunk"] + params["universal"] + columns * sizes.num_classes
    said, expert_parts = memory_of_experts(sizes)
    lasting = {
        "structure": n * 16 + edges * 4,
        "positional encodings": n * sizes.num_encodings * 4,
        "raw multi-hop features": n * sizes.num_raw * 4,
        "what experts say": said,
        "weights and their gradients": 4 * own * (5 + ensemble),
    }
    passing = {
        # the hops, then each block scaled, before they are put side by side
        "making raw features": 2 * n * sizes.num_raw * 4,
        "the closed form": 8 * (4 * rows * columns + 3 * min(rows, columns) ** 2),
        "a gradient step": 4 * tokens * model.shape.dim * layers * ACTIVATIONS,
        "answers": n * sizes.num_classes * 4 * 4,
        **expert_parts,
    }
    if not sizes.prepared:
        lasting["transformed features"] = n * sizes.num_features * 4
        lasting["structure"] += 2 * edges * 8
        # Vectors in double precision: at 10M nodes 8 GiB were measured beside the graph's 3.
        passing["finding positions"] = 7 * n * sizes.num_encodings * 4
    return Memory(lasting=lasting, passing=passing)


def memory_left(device: torch.device) -> int:
    """Bytes that may still be allocated on a device; the least of all limits that are known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [_meminfo("MemAvailable")]
    # The container's own limit: version 2 of control groups, then version 1.
    for folder, limit, usage in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        most, used = _number(Path(folder, limit)), _number(Path(folder, usage))
        if most is not None and used is not None:
            limits.append(most - used)
    limits.append(_address_space_left())
    return max(0, min((value for value in limits if value is not None), default=sys.maxsize))


def check_memory(
    sizes: Sizes, model: GraphFM, device: torch.device, *, ensemble: int, where: str
) -> int:
    """Bytes that a fit will need at least.

    Raises:
        DataError: GFM149 if that is more than there are.
    """
    memory, left = memory_of(sizes, model, ensemble=ensemble), memory_left(device)
    if memory.peak > left:
        parts = memory.lasting | memory.passing
        largest = sorted(parts, key=lambda name: -parts[name])[:3]
        raise DataError(
            "GFM149",
            f"fitting {sizes.num_nodes:,} nodes needs about {memory.peak / GIB:.2f} GiB of memory, "
            f"and {left / GIB:.2f} GiB are free",
            where=where,
            why=", ".join(f"{name} {parts[name] / GIB:.2f} GiB" for name in largest),
            fix="give fewer feature columns (--features), or take a machine with more memory; "
            "free some if other programs hold it",
        )
    return memory.peak


def calibration_share(sizes: Sizes, model: GraphFM) -> float:
    """How many times as long the calibration takes at most as judging the nodes that choose."""
    return _calibration_flops(sizes, model) / _answer_flops(_num_judged(sizes), sizes, model)


def seconds_of(
    sizes: Sizes,
    model: GraphFM,
    depths: tuple[Depth, ...],
    *,
    max_steps: int,
    ensemble: int = 1,
    device: torch.device | None = None,
) -> float:
    """About how long a fit will take, preparation of the graph not counted.

    Args:
        sizes: Of the graph.
        model: Pretrained.
        depths: What will be tried.
        max_steps: Of each.
        ensemble: Members, at the last of these depths.
        device: Where.
    """
    rate = EFFICIENCY * _product_rate(device or torch.device("cpu"))
    total = flops_of(sizes, model, depths, max_steps=max_steps, ensemble=ensemble)
    tries = sum(depth != DEPTHS[0] for depth in depths)
    begin = FIRST_STEP_SECONDS if tries else 0.0
    steps = ensemble * max_steps * tries
    begin += BEGIN_SECONDS + seconds_of_experts(sizes)
    return begin + steps * STEP_SECONDS + total / rate


def flops_of(
    sizes: Sizes,
    model: GraphFM,
    depths: tuple[Depth, ...],
    *,
    max_steps: int,
    ensemble: int = 1,
) -> int:
    """About how many floating point operations a fit takes; arguments as in :func:`seconds_of`."""
    rows = min(sizes.num_train, MAX_RIDGE_NODES)
    columns = model.shape.dim + sizes.num_raw
    small = min(rows, columns)
    ridge = len(STATE_WEIGHTS) * 2 * (2 * rows * columns * small + 10 * small**3)
    calibration = _calibration_flops(sizes, model)
    judged = _answer_flops(_num_judged(sizes), sizes, model) if sizes.num_val else 0
    probe = _answer_flops(rows, sizes, model) + ridge + judged
    targets = min(TARGETS_PER_STEP, sizes.num_train)
    step = 3 * _pass_flops(targets, min(STEP_CONTEXT, sizes.num_nodes), sizes, model)
    a_try = max_steps * step + (max_steps // EVAL_EVERY) * judged
    tries = sum(depth != DEPTHS[0] for depth in depths)
    member = probe + a_try * (tries > 0)
    once = probe + tries * a_try + flops_of_experts(sizes)
    return once + (ensemble - 1) * member + ensemble * calibration


def _num_judged(sizes: Sizes) -> int:
    return min(num_choosing(sizes.num_val), MAX_NODES)


def _calibration_flops(sizes: Sizes, model: GraphFM) -> int:
    """Of its three passes: nodes that fit and neighbors of some, held ones and theirs, training."""
    fit, train = _num_judged(sizes), min(sizes.num_train, MAX_NODES)
    held = min(sizes.num_val - num_choosing(sizes.num_val), MAX_NODES)
    passes = (
        fit + min(fit, MAX_CHOICE) * NUM_NEIGHBORS,
        held * (1 + NUM_NEIGHBORS),
        train,
    )
    return sum(_answer_flops(min(n, sizes.num_nodes), sizes, model) for n in passes if n)


def _answer_flops(num_nodes: int, sizes: Sizes, model: GraphFM) -> int:
    """Of predicting so many nodes in tiles: the encoder reads once."""
    whole, rest = divmod(num_nodes, TILE)
    context = min(MAX_CONTEXT, sizes.num_nodes)
    decode = whole * _pass_flops(TILE, 0, sizes, model) + _pass_flops(rest, 0, sizes, model)
    return decode + _pass_flops(0, context, sizes, model)


def _pass_flops(num_targets: int, num_context: int, sizes: Sizes, model: GraphFM) -> int:
    tokens = num_targets * (1 + NUM_NEIGHBORS) + num_context
    dim, latents = model.shape.dim, model.encoder.num_latents
    head = 2 * num_targets * (dim + sizes.num_raw) * sizes.num_classes
    flops = tokens * 2 * (sizes.num_features * dim + 3 * dim * dim) + model.position.flops(tokens)
    if num_context:
        flops += model.encoder.flops(num_context, 1)
    if num_targets:
        flops += model.decoder.flops(num_targets, NUM_NEIGHBORS, 1, latents)
    return int(flops + head)


def _product_rate(device: torch.device) -> float:
    """Floating point operations a second of a product of two matrices, measured in some 20 ms."""
    size = 512
    a = torch.ones(size, size, device=device)
    best = 0.0
    for _ in range(4):
        began = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def _address_space_left() -> int | None:
    """Of a limit such as ``ulimit -v``; None without one."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    return most - pages * os.sysconf("SC_PAGE_SIZE")


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux: only the limits that are known count
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" = no limit
