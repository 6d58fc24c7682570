"""The three decoders with the same weights: nodes per second, ratios, FLOPs.

    python tools/bench/decoder.py --out decoder.json

``joint, whole last layer`` is the paper's: every row of the last layer is computed. ``joint`` of
this package leaves out the rows that nothing reads. All cases read one graph. The floor is
one large matrix product, measured in the same run.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import timing
import torch
from torch import Tensor

from graphfm.config.parts import config_class
from graphfm.model.nn.attention import attention

PAPER = "joint, whole last layer"
KINDS = ("joint", "prefix", "self_query")
SLOW = (PAPER, "joint")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = timing.parser(__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[8, 32, 128, 512, 2048])
    parser.add_argument("--few", type=int, default=8, help="targets of a slow case per run")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--ffn-mult", type=int, default=4)
    parser.add_argument("--neighbors", type=int, default=10)
    parser.add_argument("--latents", type=int, default=512)
    args = parser.parse_args(argv)
    machine = timing.machine(args.device, threads=args.threads)
    modules = {kind: built(kind, args) for kind in KINDS}
    seconds: dict[str, list[float]] = {}
    figures: list[dict[str, Any]] = []
    for num_nodes in args.nodes:
        for backward in (False, True):
            measured, rows = compare(modules, num_nodes, backward, args)
            seconds |= measured
            figures += rows
    header = ["case", "N", "pass", "nodes/s", "x joint", "x paper", "MFLOP/node", "floor %"]
    keys = ["case", "nodes", "pass", "rate", "over_joint", "over_paper", "mflop", "floor"]
    print(timing.table(header, [[row[k] for k in keys] for row in figures]))
    checks = differences(modules, args)
    print("prefix - joint under its mask:", f"{checks['prefix_equals_masked_joint']:.1e}")
    timing.write(args, machine, seconds, {"rows": figures, "checks": checks})
    return 0


def built(kind: str, args: Any) -> Any:
    """Return a decoder; all decoders have the same weights."""
    torch.manual_seed(0)
    shape = dict(depth=args.depth, num_heads=args.heads, ffn_mult=args.ffn_mult)
    return config_class("model.decoders", kind)(**shape).build(dim=args.dim).to(args.device)


def inputs(num_nodes: int, args: Any) -> list[Tensor]:
    """Return targets, neighbors, a mask with a tenth missing, and one graph's latents."""
    rng = torch.Generator().manual_seed(0)
    local = torch.randn(num_nodes, 1 + args.neighbors, args.dim, generator=rng)
    there = torch.rand(num_nodes, args.neighbors, generator=rng) < 0.9
    latents = torch.randn(1, args.latents, args.dim, generator=rng)
    return [x.to(args.device) for x in (local[:, 0], local[:, 1:], there, latents)]


def compare(
    modules: dict[str, Any], num_nodes: int, backward: bool, args: Any
) -> tuple[dict[str, list[float]], list[dict[str, Any]]]:
    """Measure all cases in turns. Slow cases run ``--few`` targets: each costs the same."""
    cases: dict[str, Callable[[], Any]] = {}
    sizes = {}
    for name in (PAPER, *KINDS):
        sizes[name] = min(num_nodes, args.few) if name in SLOW else num_nodes
        read = forward_of(name, modules)
        target, neighbors, there, latents = inputs(sizes[name], args)
        call = functools.partial(decoded, read, there)
        cases[name] = timing.passes(call, [target, neighbors, latents], backward)
    cases["floor"], of_product = timing.square_product(args.device, torch.float32)
    taken = timing.interleaved(cases, args.repeats, args.device)
    floor = of_product / timing.median(taken["floor"])  # FLOP/s
    per_node = {name: timing.median(taken[name]) / sizes[name] for name in sizes}
    which = "forward + backward" if backward else "forward"
    rows = []
    for name in sizes:
        flops = flops_of(name, modules, num_nodes, args) / num_nodes * (3 if backward else 1)
        rows.append(
            {
                "case": name,
                "nodes": num_nodes,
                "pass": which,
                "rate": 1 / per_node[name],
                "over_joint": per_node["joint"] / per_node[name],
                "over_paper": per_node[PAPER] / per_node[name],
                "mflop": flops / 1e6,
                "floor": 100 * flops / per_node[name] / floor,
                "measured_nodes": sizes[name],
            }
        )
    return {f"{name}, N={num_nodes}, {which}": taken[name] for name in cases}, rows


def decoded(
    read: Callable[..., Tensor], there: Tensor, target: Tensor, neighbors: Tensor, latents: Tensor
) -> Tensor:
    """Decode all targets of one graph, (Q, D)."""
    return read(target, neighbors, there, latents, (0, len(target)))


def forward_of(name: str, modules: dict[str, Any]) -> Callable[..., Tensor]:
    """Return the function (target, neighbors, there, latents, ptr) -> (Q, D) of a case."""
    if name == PAPER:
        return lambda *inputs: joint_whole(modules["joint"], *inputs)
    return modules[name]  # type: ignore[no-any-return]


def joint_whole(
    module: Any, target: Tensor, neighbors: Tensor, there: Tensor, latents: Tensor, ptr: Any
) -> Tensor:
    """Decode as the paper does: every layer over every row."""
    outs = []
    for at in range(0, len(target), 3):  # as joint at these sizes: 1 to 8 differ little
        own = slice(at, at + 3)
        local = [(target[own] + module.roles[0])[:, None], neighbors[own] + module.roles[1]]
        num = len(local[0])
        x = torch.cat([*local, latents.expand(num, -1, -1)], dim=1)
        first = torch.ones(num, 1, dtype=torch.bool, device=x.device)
        rest = torch.ones(num, latents.shape[1], dtype=torch.bool, device=x.device)
        mask = torch.cat([first, there[own], rest], dim=1)[:, None, None]
        for layer in module.layers:
            x = layer.update(x, attention(layer.queries(x), *layer.keys_values(x), mask))
        outs.append(x[:, 0])
    return module.norm(torch.cat(outs))


def flops_of(name: str, modules: dict[str, Any], num_nodes: int, args: Any) -> float:
    """Return the FLOPs of a forward pass over all targets of one graph."""
    if name in modules:
        return float(modules[name].flops(num_nodes, args.neighbors, 1, args.latents))
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        forward_of(name, modules)(*inputs(1, args), (0, 1))
    return float(num_nodes * counter.get_total_flops())


def differences(modules: dict[str, Any], args: Any) -> dict[str, float]:
    """Return the largest difference between things that must be equal."""
    given = inputs(4, args)
    joint = modules["joint"]
    with torch.no_grad():
        whole = joint_whole(joint, *given, (0, 4)) - joint(*given, (0, 4))
        joint.latents_read_nodes = False
        masked = joint(*given, (0, 4)) - modules["prefix"](*given, (0, 4))
        del joint.latents_read_nodes
    return {
        "joint_equals_paper": float(whole.abs().max()),
        "prefix_equals_masked_joint": float(masked.abs().max()),
    }


if __name__ == "__main__":
    sys.exit(main())
