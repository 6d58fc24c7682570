"""Balance of the plan: how evenly it spreads an epoch over ranks, beside peers; cost of planning.

    python tools/bench/plan.py --out plan.json

Sizes are drawn log-normal (sigma 1.8, 152 graphs, at most 1.2M targets, 7.4M in all), an assumption
about the paper's corpus; an epoch visits every target once, 256 at a time. Costs
are in targets, by the model's own count of FLOPs.

Peers: ``snake`` and ``uniform`` are strategies of the plan; ``lpt whole`` gives whole graphs, the
most expensive first, to the cheapest rank.
"""

from __future__ import annotations

import heapq
import sys
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphfm.sampling.plan import GraphSize, Plan, StepCost

VISIT, CONTEXT = 256, 16384  # targets of a visit, nodes that one graph's context may have
COST = StepCost(graph=174.0, context_node=0.0063)  # 75M parameters: width 512, depth 12 + 4
RANKS = (8, 64, 1024)
STRATEGIES = ("balanced", "snake", "uniform")
GOALS = {8: 1.01, 64: 1.03, 1024: 1.2}  # max/mean over the ranks, per epoch
GOAL_STEP = 1.05  # per step, 64 ranks
GOAL_PADDING = 0.02


def padding(counts: Sequence[int], buckets: Sequence[int]) -> float:
    """Return the share of slots that hold padding where every count is rounded up to a bucket.

    A count above the largest bucket stays as it is. Without buckets there is no padding at all.

    >>> padding([3, 4, 8], buckets=[4, 16])
    0.375
    """
    filled, sizes = np.asarray(counts), np.sort(np.asarray(buckets, dtype=np.int64))
    place = np.searchsorted(sizes, filled)
    above = place == len(sizes)
    slots = np.where(above, filled, np.append(sizes, 0)[place])
    return float(1 - filled.sum() / max(1, slots.sum()))


def drawn(seed: int, graphs: int, total: float) -> np.ndarray:
    """Draw log-normal sizes, none above the paper's largest share, that sum to the total."""
    shape = np.exp(1.8 * np.random.default_rng(seed).standard_normal(graphs))
    top = max(total * 1.2 / 7.4, 1.5 * total / graphs)
    low, high = 0.0, total / shape.min()
    for _ in range(80):
        middle = (low + high) / 2
        if np.minimum(shape * middle, top).sum() < total:
            low = middle
        else:
            high = middle
    return np.maximum(1, np.rint(np.minimum(shape * low, top))).astype(int)


def plan_of(sizes: Sequence[int], strategy: str, bins: int, per_rank: int) -> Plan:
    """Return a plan that visits every target once an epoch."""
    return Plan(
        [
            GraphSize(num_targets=int(n), num_nodes=int(n), weight=float(-(-n // VISIT)))
            for n in sizes
        ],
        seed=0,
        max_targets=VISIT,
        max_context=CONTEXT,
        targets_per_step=bins * per_rank,
        cost=COST,
        strategy=strategy,  # type: ignore[arg-type]
        bins_per_step=bins,
    )


def bin_costs(plan: Plan) -> np.ndarray:
    """Return the costs of all bins of the first epoch, (steps, bins)."""
    steps = range(plan.steps_per_epoch)
    return np.array([[plan.cost(visits) for visits in plan.bins(step)] for step in steps])


def over_ranks(costs: np.ndarray, world: int) -> float:
    """Return max/mean over the ranks of the cost of their bins of an epoch."""
    ranks = np.array([costs[:, rank::world].sum() for rank in range(world)])
    return float(ranks.max() / ranks.mean())


def within_steps(costs: np.ndarray) -> np.ndarray:
    """Return max/mean over the bins of every step, (steps,)."""
    return costs.max(1) / costs.mean(1)


def lpt_whole(plan: Plan, world: int) -> np.ndarray:
    """Give whole graphs, the most expensive first, to the cheapest rank; (steps, ranks).

    The i-th graph of a rank is in step i.
    """
    costs = plan.visits * np.array(plan.targets) + np.array(plan.encoding)
    heap: list[tuple[float, int, int]] = [(0.0, rank, 0) for rank in range(world)]
    steps = np.zeros((len(costs), world))
    for cost in sorted(costs.tolist(), reverse=True):
        spent, rank, place = heap[0]
        steps[place, rank] = cost
        heapq.heapreplace(heap, (spent + cost, rank, place + 1))
    return steps[steps.any(1)]


def epochs(draws: Sequence[np.ndarray], per_rank: int, ranks: Sequence[int]) -> dict[str, Any]:
    """Return max/mean per epoch and per step for each number of ranks: mean of the draws, worst."""
    found: dict[str, dict[str, list[float]]] = {}

    def note(case: str, **values: float) -> None:
        for key, value in values.items():
            found.setdefault(case, {}).setdefault(key.replace("_", " "), []).append(value)

    def balance(world: int, epoch: np.ndarray, steps: np.ndarray) -> dict[str, float]:
        by_step = float(within_steps(steps).mean())
        return {f"epoch_{world}": over_ranks(epoch, world), f"step_{world}": by_step}

    for sizes in draws:
        for world in ranks:
            for strategy in STRATEGIES:
                costs = bin_costs(plan_of(sizes, strategy, world, per_rank))
                note(strategy, **balance(world, costs, costs))
                if strategy == "balanced":
                    fill, budget = costs.mean() / costs.max(), costs.mean() / per_rank
                    note(strategy, **{f"fill_{world}": fill, f"of budget_{world}": budget})
            whole = lpt_whole(plan_of(sizes, "snake", world, per_rank), world)
            note("lpt whole", **balance(world, whole, whole))
        elastic = bin_costs(plan_of(sizes, "balanced", max(ranks), per_rank))
        for world in ranks:
            by_rank = np.stack([elastic[:, r::world].sum(1) for r in range(world)], axis=1)
            note(f"balanced, bins for {max(ranks)}", **balance(world, elastic, by_rank))
    return {
        case: {
            key: {
                "mean": float(np.mean(v)),
                "worst": float((min if key.startswith(("fill", "of budget")) else max)(v)),
            }
            for key, v in by.items()
        }
        for case, by in found.items()
    }


def paddings(plans: Sequence[Plan]) -> dict[str, float]:
    """Return the share of target slots that hold padding, by kind of bucket; 0 for packed."""
    counts = [
        sum(visit.num_targets for visit in visits)
        for plan in plans
        for step in range(plan.steps_per_epoch)
        for visits in plan.bins(step)
        if visits
    ]
    top = max(counts)
    kinds = {"packed": [], "powers of two": [2**i for i in range(top.bit_length() + 1)]}
    for parts in (8, 16, 32):
        kinds[f"{parts} of one width"] = [-(-top * i // parts) for i in range(1, parts + 1)]
    return {kind: padding(counts, buckets) for kind, buckets in kinds.items()}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print and write."""
    import timing

    parser = timing.parser(__doc__)
    parser.add_argument("--draws", type=int, default=10, help="number of corpora that are drawn")
    parser.add_argument("--graphs", type=int, default=152)
    parser.add_argument("--total", type=float, default=7.4e6, help="targets of all graphs")
    parser.add_argument("--per-rank", type=int, nargs="+", default=[2048, 8192], help="budget")
    parser.add_argument("--ranks", type=int, nargs="+", default=list(RANKS))
    args = parser.parse_args(argv)
    facts = timing.machine(args.device, threads=args.threads)
    draws = [drawn(seed, args.graphs, args.total) for seed in range(args.draws)]
    world = ([w for w in args.ranks if w <= 64] or args.ranks[:1])[-1]  # for tables of single steps
    figures: dict[str, Any] = {}
    for per_rank in args.per_rank:
        plans = [plan_of(sizes, "balanced", world, per_rank) for sizes in draws]
        at = figures[f"{per_rank} targets a rank"] = {
            "ranks": epochs(draws, per_rank, args.ranks),
            "padding": paddings(plans[:3]),
        }
        print(as_text(per_rank, at, args.ranks, world))

    def fresh() -> Plan:
        return plan_of(draws[0], "balanced", world, args.per_rank[0])

    planned = fresh()
    cases = {
        "plan an epoch": lambda: fresh().step(0),
        "pack its bins": lambda: [planned.bins(i) for i in range(planned.steps_per_epoch)],
    }
    seconds = timing.interleaved(cases, args.repeats)
    tracemalloc.start()
    fresh().step(0)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    visits, steps = int(planned.visits.sum()), planned.steps_per_epoch
    figures["planning"] = {"visits": visits, "steps": steps, "peak MiB": peak}
    print("\n" + ", ".join(f"{k} {v:.4g}" for k, v in figures["planning"].items()))
    rows = [[case, timing.median(values)] for case, values in seconds.items()]
    print(timing.table(["an epoch", "s"], rows))
    return timing.write(args, facts, seconds, figures)


def as_text(per_rank: int, at: dict[str, Any], ranks: Sequence[int], world: int) -> str:
    """Return the tables of one budget."""
    from timing import table

    def each(key: str) -> str:
        by = at["ranks"]["balanced"]
        return ", ".join(f"{by[f'{key} {w}']['mean']:.3f} at {w}" for w in ranks)

    keys = [f"epoch {w}" for w in ranks] + [f"step {w}" for w in ranks]
    rows = [
        [case, *(f"{by[k]['mean']:.3f} ({by[k]['worst']:.3f})" for k in keys)]
        for case, by in at["ranks"].items()
    ]
    goals = [GOALS.get(w, "") for w in ranks] + [GOAL_STEP if w == 64 else "" for w in ranks]
    padded = [[kind, f"{share:.2%}"] for kind, share in at["padding"].items()]
    return "\n".join(
        [
            f"\n{per_rank} targets a rank; max/mean over ranks, mean of the draws (worst)",
            table(["", *keys], [*rows, ["goal, at most", *goals]]),
            f"fill of balanced bins: {each('fill')}; mean bin / budget: {each('of budget')}",
            f"\nPadding of targets, {world} bins a step (goal: at most {GOAL_PADDING:.0%})",
            table(["buckets", "share"], padded),
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
