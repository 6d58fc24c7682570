"""Cross-attention of a batch of graphs: our backends beside other ways, over one floor.

    python tools/bench/attention.py --out attention.json

K latents of each graph read that graph's tokens; sizes are log-normal. ``loop`` is ours on a CPU,
``varlen`` is ours on CUDA. Peers: padding to the longest graph under a mask, and torch's jagged
tensors. A second table splits one graph's tokens into chunks. The floor is the time of the same
FLOPs in one large matrix product, in the same run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import timing
import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.model.nn.attention import packed_attention, split_attention
from graphfm.model.nn.varlen import graph_of

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = timing.parser(__doc__)
    parser.add_argument("--graphs", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=7261, help="tokens of all graphs, about")
    parser.add_argument("--latents", type=int, default=256)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=32, help="width of a head")
    parser.add_argument(
        "--split-tokens", type=int, default=16384, help="tokens of the graph to split"
    )
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 4, 16])
    args = parser.parse_args(argv)
    machine = timing.machine(args.device, threads=args.threads)
    seconds: dict[str, list[float]] = {}
    figures: dict[str, Any] = {"packed": [], "split": []}
    for backward in (False, True):
        for table, compare in (("packed", compare_backends), ("split", compare_splits)):
            measured, rows = compare(backward, args)
            seconds |= measured
            figures[table] += rows
    header = ["case", "pass", "ms", "x ours", "x floor", "largest error"]
    keys = ["case", "pass", "ms", "over_ours", "over_floor", "error"]
    print(timing.table(header, [[row[k] for k in keys] for row in figures["packed"]]), end="\n\n")
    header[3] = "x unsplit"
    print(timing.table(header, [[row[k] for k in keys] for row in figures["split"]]))
    timing.write(args, machine, seconds, figures)
    return 0


def compare_backends(
    backward: bool, args: Any
) -> tuple[dict[str, list[float]], list[dict[str, Any]]]:
    """Measure our backends and the peers on the same packed graphs."""
    sizes = log_normal_sizes(args.graphs, args.tokens)
    cu_q = [args.latents * b for b in range(args.graphs + 1)]
    cu_k = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    shape = (args.heads, args.width)
    q, k, v = packed(cu_q[-1], cu_k[-1], shape, args.device)
    ways = backends(cu_q, cu_k, args)
    flops = 4 * args.latents * cu_k[-1] * args.heads * args.width
    cases = {name: timing.passes(attend, [q, k, v], backward) for name, attend in ways.items()}
    with torch.no_grad():
        wanted = packed_attention(q, k, v, cu_q, cu_k, backend="loop").float()
        errors = {n: float((f(q, k, v).float() - wanted).abs().max()) for n, f in ways.items()}
    ours = "varlen" if args.device == "cuda" else "loop"
    return measured(cases, errors, ours, flops, "packed", backward, args)


def backends(cu_q: list[int], cu_k: list[int], args: Any) -> dict[str, Attend]:
    """Return the functions (q, k, v) -> (N, H, E) by name that run on this device."""

    def ours(backend: str) -> Attend:
        return lambda q, k, v: packed_attention(q, k, v, cu_q, cu_k, backend=backend)

    longest = max(b - a for a, b in zip(cu_k[:-1], cu_k[1:], strict=True))
    owner_q, owner_k = (graph_of(cu, args.device) for cu in (cu_q, cu_k))
    place = torch.arange(cu_k[-1], device=args.device)
    place = place - torch.tensor(cu_k, device=args.device)[owner_k]
    offsets_q, offsets_k = (torch.tensor(cu, device=args.device) for cu in (cu_q, cu_k))

    def padded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        there = torch.zeros(args.graphs, longest, dtype=torch.bool, device=q.device)
        there[owner_k, place] = True
        wide = [x.new_zeros(args.graphs, longest, *x.shape[1:]) for x in (k, v)]
        wide = [w.index_put((owner_k, place), x) for w, x in zip(wide, (k, v), strict=True)]
        rows = q.unflatten(0, (args.graphs, -1))
        heads_first = [x.transpose(1, 2) for x in (rows, *wide)]
        out = F.scaled_dot_product_attention(*heads_first, attn_mask=there[:, None, None])
        return out.transpose(1, 2).flatten(0, 1)

    def jagged(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        pairs = ((q, offsets_q), (k, offsets_k), (v, offsets_k))
        parts = [torch.nested.nested_tensor_from_jagged(*pair).transpose(1, 2) for pair in pairs]
        return F.scaled_dot_product_attention(*parts).transpose(1, 2).values()

    found = {"loop": ours("loop"), "padded": padded, "jagged": jagged}
    if args.device == "cuda":
        found["varlen"] = ours("varlen")
    return found


def compare_splits(
    backward: bool, args: Any
) -> tuple[dict[str, list[float]], list[dict[str, Any]]]:
    """Measure one large graph whose keys and values are made at once or in chunks."""
    dim, num = args.heads * args.width, args.split_tokens
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(num, dim, generator=rng).to(args.device)
    to_kv = (torch.randn(2 * dim, dim, generator=rng) * dim**-0.5).to(args.device)
    q = torch.randn(args.latents, args.heads, args.width, generator=rng).to(args.device)

    def keys_values(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        k, v = F.linear(x, weight).unflatten(-1, (2 * args.heads, -1)).chunk(2, dim=1)
        return k, v

    def unsplit(q: Tensor, tokens: Tensor, weight: Tensor) -> Tensor:
        return packed_attention(q, *keys_values(tokens, weight), (0, len(q)), (0, num))

    def split(size: int) -> Attend:
        return lambda q, x, weight: split_attention(q, x, lambda c: keys_values(c, weight), size)

    ways = {"unsplit": unsplit} | {f"{n} chunks": split(-(-num // n)) for n in args.chunks}
    cases = {
        name: timing.passes(attend, [q, tokens, to_kv], backward) for name, attend in ways.items()
    }
    with torch.no_grad():
        wanted = unsplit(q, tokens, to_kv)
        errors = {n: float((f(q, tokens, to_kv) - wanted).abs().max()) for n, f in ways.items()}
    flops = 4 * args.latents * num * dim + 4 * num * dim * dim
    return measured(cases, errors, "unsplit", flops, "split", backward, args)


def measured(
    cases: dict[str, Callable[[], Any]],
    errors: dict[str, float],
    ours: str,
    flops: int,
    table: str,
    backward: bool,
    args: Any,
) -> tuple[dict[str, list[float]], list[dict[str, Any]]]:
    """Return seconds and rows of one table; a backward pass counts twice its forward."""
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    product, of_product = timing.square_product(args.device, dtype)
    taken = timing.interleaved({**cases, "floor": product}, args.repeats, args.device)
    floor = timing.median(taken["floor"]) / of_product * flops * (3 if backward else 1)
    which = "forward + backward" if backward else "forward"
    rows = [
        {
            "case": name,
            "pass": which,
            "ms": 1e3 * timing.median(taken[name]),
            "over_ours": timing.median(taken[name]) / timing.median(taken[ours]),
            "over_floor": timing.median(taken[name]) / floor,
            "error": errors[name],
        }
        for name in cases
    ]
    return {f"{table}, {name}, {which}": taken[name] for name in taken}, rows


def log_normal_sizes(num_graphs: int, num_tokens: int) -> list[int]:
    """Draw sizes of graphs with a long tail that sum to about ``num_tokens``."""
    rng = torch.Generator().manual_seed(0)
    sizes = torch.randn(num_graphs, generator=rng).exp()
    return (sizes / sizes.sum() * num_tokens).round().clamp(min=1).int().tolist()


def packed(num_q: int, num_k: int, shape: tuple[int, int], device: str) -> list[Tensor]:
    """Draw queries, keys and values; half precision on CUDA."""
    rng = torch.Generator().manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    found = [torch.randn(n, *shape, generator=rng) for n in (num_q, num_k, num_k)]
    return [x.to(device, dtype) for x in found]


if __name__ == "__main__":
    sys.exit(main())
