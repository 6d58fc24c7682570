"""Memory, floating point operations and seconds of a fit, before it begins.

Shapes:
    N  nodes   E  edges, both directions   F  transformed features   P  columns of the encoding
    R  raw columns of the head   D  width   T  neighbors   C  classes
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphfm.errors import MemoryLimitError
from graphfm.fitting.calibration import MAX_CHOICE, MAX_NODES, num_choosing
from graphfm.fitting.descent import DEPTHS, EVAL_EVERY, STEP_CONTEXT, TARGETS_PER_STEP, Depth
from graphfm.fitting.expert_cost import flops_of_experts, memory_of_experts, slow_operations
from graphfm.fitting.inference import TILE
from graphfm.fitting.probe import MAX_CONTEXT, MAX_RIDGE_NODES, NUM_NEIGHBORS, STATE_WEIGHTS
from graphfm.fitting.sizes import Sizes
from graphfm.machine import matmul_rate, memory_left
from graphfm.model.graphfm import GraphFM

GIB = 2**30
EFFICIENCY = 0.35  # share of the rate of a plain matrix product that a fit reaches
ACTIVATIONS = 24  # numbers that a token of a gradient step leaves in each layer, over D


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a fit allocates, by purpose.

    For 100,000 nodes of 100 features 0.43 GiB were measured and 0.44 estimated.

    Args:
        lasting: Bytes held until the end of the fit.
        passing: Bytes given back; no two of them are held at once.
    """

    lasting: dict[str, int]
    passing: dict[str, int]

    @property
    def peak(self) -> int:
        """Largest number of bytes at once."""
        return sum(self.lasting.values()) + max(self.passing.values())


def memory_of(sizes: Sizes, model: GraphFM, *, ensemble: int = 1) -> Memory:
    """Estimate the memory of a fit."""
    n, edges = sizes.num_nodes, sizes.num_edges
    rows = min(sizes.num_train, MAX_RIDGE_NODES)
    columns = model.shape.dim + sizes.num_raw
    tokens = TARGETS_PER_STEP * (1 + NUM_NEIGHBORS) + STEP_CONTEXT
    layers = len(model.decoder.layers) + 1
    params = model.num_params()
    own = params["trunk"] + params["universal"] + columns * sizes.num_classes
    log_probs, expert_parts = memory_of_experts(sizes)
    lasting = {
        "structure": n * 16 + edges * 4,
        "positional encodings": n * sizes.num_encodings * 4,
        "raw multi-hop features": n * sizes.num_raw * 4,
        "predictions of experts": log_probs,
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


def check_memory(
    sizes: Sizes, model: GraphFM, device: torch.device, *, ensemble: int, where: str
) -> int:
    """Return the bytes that a fit needs at least.

    Raises:
        MemoryLimitError: GFM149 if that is more than is free.
    """
    memory, left = memory_of(sizes, model, ensemble=ensemble), memory_left(device)
    if memory.peak > left:
        parts = memory.lasting | memory.passing
        largest = sorted(parts, key=lambda name: -parts[name])[:3]
        raise MemoryLimitError(
            "GFM149",
            f"fitting {sizes.num_nodes:,} nodes needs about {memory.peak / GIB:.2f} GiB of memory, "
            f"and {left / GIB:.2f} GiB are free",
            where=where,
            why=", ".join(f"{name} {parts[name] / GIB:.2f} GiB" for name in largest),
            fix="give fewer feature columns (--features), or use a machine with more memory; "
            "close other programs that hold memory",
        )
    return memory.peak


def calibration_share(sizes: Sizes, model: GraphFM) -> float:
    """Return the cost of the calibration over that of one validation, at most."""
    return _calibration_flops(sizes, model) / _answer_flops(_num_choosing(sizes), sizes, model)


def seconds_of(
    sizes: Sizes,
    model: GraphFM,
    depths: tuple[Depth, ...],
    *,
    max_steps: int,
    ensemble: int = 1,
    device: torch.device | None = None,
) -> float:
    """Estimate the seconds of a fit, without the preparation of the graph.

    All operations are divided by one rate, which is measured. The estimate is right within a factor
    of about two, but for the first second.

    Args:
        sizes: Sizes of the graph.
        model: Pretrained model.
        depths: Depths to try.
        max_steps: Gradient steps of each depth.
        ensemble: Number of members, at the last of these depths.
        device: Device of the fit. Default: the CPU.
    """
    rate = EFFICIENCY * matmul_rate(device or torch.device("cpu"))
    flops = flops_of(sizes, model, depths, max_steps=max_steps, ensemble=ensemble)
    return (flops + slow_operations(sizes)) / rate


def flops_of(
    sizes: Sizes,
    model: GraphFM,
    depths: tuple[Depth, ...],
    *,
    max_steps: int,
    ensemble: int = 1,
) -> int:
    """Estimate the floating point operations of a fit; arguments as in :func:`seconds_of`."""
    rows = min(sizes.num_train, MAX_RIDGE_NODES)
    columns = model.shape.dim + sizes.num_raw
    small = min(rows, columns)
    ridge = len(STATE_WEIGHTS) * 2 * (2 * rows * columns * small + 10 * small**3)
    calibration = _calibration_flops(sizes, model)
    validation = _answer_flops(_num_choosing(sizes), sizes, model) if sizes.num_val else 0
    probe = _answer_flops(rows, sizes, model) + ridge + validation
    targets = min(TARGETS_PER_STEP, sizes.num_train)
    step = 3 * _pass_flops(targets, min(STEP_CONTEXT, sizes.num_nodes), sizes, model)
    trial = max_steps * step + (max_steps // EVAL_EVERY) * validation
    trials = sum(depth != DEPTHS[0] for depth in depths)
    member = probe + trial * (trials > 0)
    once = probe + trials * trial + flops_of_experts(sizes)
    return once + (ensemble - 1) * member + ensemble * calibration


def _num_choosing(sizes: Sizes) -> int:
    """Number of validation nodes that choose step and depth."""
    return min(num_choosing(sizes.num_val), MAX_NODES)


def _calibration_flops(sizes: Sizes, model: GraphFM) -> int:
    """Operations of its three passes: choosing nodes, calibrating nodes, training nodes."""
    fit, train = _num_choosing(sizes), min(sizes.num_train, MAX_NODES)
    held = min(sizes.num_val - num_choosing(sizes.num_val), MAX_NODES)
    passes = (
        fit + min(fit, MAX_CHOICE) * NUM_NEIGHBORS,
        held * (1 + NUM_NEIGHBORS),
        train,
    )
    return sum(_answer_flops(min(n, sizes.num_nodes), sizes, model) for n in passes if n)


def _answer_flops(num_nodes: int, sizes: Sizes, model: GraphFM) -> int:
    """Operations of predicting some nodes in tiles; the encoder reads once."""
    whole, rest = divmod(num_nodes, TILE)
    context = min(MAX_CONTEXT, sizes.num_nodes)
    decode = whole * _pass_flops(TILE, 0, sizes, model) + _pass_flops(rest, 0, sizes, model)
    return decode + _pass_flops(0, context, sizes, model)


def _pass_flops(num_targets: int, num_context: int, sizes: Sizes, model: GraphFM) -> int:
    """Operations of a forward pass with some targets and context nodes."""
    tokens = num_targets * (1 + NUM_NEIGHBORS) + num_context
    dim, latents = model.shape.dim, model.encoder.num_latents
    head = 2 * num_targets * (dim + sizes.num_raw) * sizes.num_classes
    flops = tokens * 2 * (sizes.num_features * dim + 3 * dim * dim) + model.position.flops(tokens)
    if num_context:
        flops += model.encoder.flops(num_context, 1)
    if num_targets:
        flops += model.decoder.flops(num_targets, NUM_NEIGHBORS, 1, latents)
    return int(flops + head)
