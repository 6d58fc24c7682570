"""How evenly the plan spreads an epoch over ranks, beside the peers, and what planning costs.

    python tools/bench_plan.py --out plan.json

Sizes are drawn log-normal (sigma 1.8, 152 graphs, at most 1.2M targets, 7.4M in all), an assumption
about the paper's corpus; an epoch visits every target once, 256 at a time. With --recipe, the real
sizes, weights and costs of its corpus too. Costs are in targets, by the model's own count of FLOPs.

Peers: ``snake`` and ``uniform`` are strategies of the plan; ``lpt whole`` deals whole graphs,
dearest first, to the cheapest rank. Within a step: ``lpt visits`` and ``bfd visits`` put whole
visits into bins, as ``balanced`` would without cutting.
"""

from __future__ import annotations

import heapq
import sys
import tracemalloc
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import bench
import numpy as np

from graphfm.sampling.plan import GraphSize, Plan, StepCost, Visit, padding

VISIT, CONTEXT = 256, 16384  # of one graph: targets, nodes that are read
COST = StepCost(graph=174.0, context_node=0.0063)  # 75M parameters: width 512, depth 12 + 4
RANKS = (8, 64, 1024)
GOALS = {8: 1.01, 64: 1.03, 1024: 1.2}  # max/mean over the ranks, per epoch
GOAL_STEP = 1.05  # per step, 64 ranks
GOAL_PADDING = 0.02
Item = tuple[int, float, int]  # targets of a graph in a step, its encoding, targets of one visit


def drawn(seed: int, graphs: int, total: float) -> np.ndarray:
    """Log-normal sizes, none above the paper's largest share, that sum to the total."""
    shape = np.exp(1.8 * np.random.default_rng(seed).standard_normal(graphs))
    top = max(total * 1.2 / 7.4, 1.5 * total / graphs)
    low, high = 0.0, total / shape.min()
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if np.minimum(shape * middle, top).sum() < total else (low, middle)
        )
    return np.maximum(1, np.rint(np.minimum(shape * low, top))).astype(int)


def plan_of(sizes: Sequence[int], strategy: str, bins: int, per_rank: int) -> Plan:
    """Every target once an epoch."""
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
    """Of the first epoch, (steps, bins)."""
    steps = range(plan.steps_per_epoch)
    return np.array([[plan.cost(visits) for visits in plan.bins(step)] for step in steps])


def over_ranks(costs: np.ndarray, world: int) -> float:
    """Max/mean over the ranks of what their bins of an epoch cost."""
    ranks = np.array([costs[:, rank::world].sum() for rank in range(world)])
    return float(ranks.max() / ranks.mean())


def within_steps(costs: np.ndarray) -> np.ndarray:
    """Max/mean over the bins of every step, (steps,)."""
    return costs.max(1) / costs.mean(1)


def lpt_whole(plan: Plan, world: int) -> np.ndarray:
    """Whole graphs, dearest first, to the cheapest rank; a rank's i-th graph is in step i."""
    costs = plan.visits * np.array(plan.targets) + np.array(plan.encoding)
    heap: list[tuple[float, int, int]] = [(0.0, rank, 0) for rank in range(world)]
    steps = np.zeros((len(costs), world))
    for cost in sorted(costs.tolist(), reverse=True):
        spent, rank, place = heap[0]
        steps[place, rank] = cost
        heapq.heapreplace(heap, (spent + cost, rank, place + 1))
    return steps[steps.any(1)]


def items_of(plan: Plan, visits: Sequence[Visit]) -> list[Item]:
    """A step as the packers below read it."""
    return [(v.num_targets, plan.encoding[v.graph], plan.targets[v.graph]) for v in visits]


def lpt_visits(items: Sequence[Item], bins: int) -> list[float]:
    """Costs of bins: visits, dearest first, into the cheapest bin; encoded once in each."""
    heap = [(0.0, place) for place in range(bins)]
    held: list[set[int]] = [set() for _ in range(bins)]
    for _, graph, encoding, targets in _visits(items):
        spent, place = heap[0]
        spent += targets + (0.0 if graph in held[place] else encoding)
        held[place].add(graph)
        heapq.heapreplace(heap, (spent, place))
    return [spent for spent, _ in heap]


def bfd_visits(items: Sequence[Item], bins: int) -> list[float]:
    """Costs of bins: best-fit decreasing, a graph's visits together while they fit.

    The capacity grows from the mean by 1% until all fit.
    """
    capacity = sum(targets + encoding for targets, encoding, _ in items) / bins
    while True:
        capacity *= 1.01
        spent = _best_fit(_visits(items), bins, capacity)
        if spent:
            return spent


def _best_fit(
    visits: Sequence[tuple[float, int, float, int]], bins: int, capacity: float
) -> list[float]:
    rooms = [(capacity, place) for place in range(bins)]
    latest: dict[int, tuple[float, int]] = {}
    for _, graph, encoding, targets in visits:
        found, taken = bisect_left(rooms, (targets + encoding, -1)), targets + encoding
        if graph in latest and latest[graph][0] >= targets:
            same = bisect_left(rooms, latest[graph])
            if same < len(rooms) and rooms[same] == latest[graph]:  # nobody else came since
                found, taken = same, float(targets)
        if found == len(rooms):
            return []
        room, place = rooms.pop(found)
        latest[graph] = room - taken, place
        insort(rooms, latest[graph])
    return [capacity - room for room, _ in rooms]


def _visits(items: Sequence[Item]) -> list[tuple[float, int, float, int]]:
    return sorted(
        (
            (size + encoding, graph, encoding, size)
            for graph, (targets, encoding, size) in enumerate(items)
            for _ in range(targets // size)
        ),
        reverse=True,
    )


def epochs(draws: Sequence[np.ndarray], per_rank: int, ranks: Sequence[int]) -> dict[str, Any]:
    """Max/mean per epoch over each number of ranks, and per step: mean of the draws, and worst."""
    found: dict[str, dict[str, list[float]]] = {}

    def note(case: str, world: int, epoch: float, steps: np.ndarray) -> None:
        by = found.setdefault(case, {})
        by.setdefault(f"epoch {world}", []).append(epoch)
        by.setdefault(f"step {world}", []).append(float(steps.mean()))

    for sizes in draws:
        for world in ranks:
            for strategy in ("balanced", "snake", "uniform"):
                costs = bin_costs(plan_of(sizes, strategy, world, per_rank))
                note(strategy, world, over_ranks(costs, world), within_steps(costs))
                if strategy == "balanced":
                    fill = found[strategy].setdefault(f"fill {world}", [])
                    fill.append(float(costs.mean() / costs.max()))
                    one = found[strategy].setdefault(f"of budget {world}", [])
                    one.append(float(costs.mean() / per_rank))
            whole = lpt_whole(plan_of(sizes, "snake", world, per_rank), world)
            note("lpt whole", world, over_ranks(whole, world), within_steps(whole))
        elastic = bin_costs(plan_of(sizes, "balanced", max(ranks), per_rank))
        for world in ranks:
            by_rank = np.stack([elastic[:, r::world].sum(1) for r in range(world)], axis=1)
            name = f"balanced, bins for {max(ranks)}"
            note(name, world, over_ranks(elastic, world), within_steps(by_rank))
    return {
        case: {key: {"mean": float(np.mean(v)), "worst": _worst(key, v)} for key, v in by.items()}
        for case, by in found.items()
    }


def _worst(key: str, values: Sequence[float]) -> float:
    return min(values) if key.startswith(("fill", "of budget")) else max(values)


def packers(plans: Sequence[Plan], steps: int) -> dict[str, dict[str, float]]:
    """Three ways to fill the bins of the same steps: balance, and the dearest bin: time."""
    found: dict[str, list[tuple[float, float]]] = {}
    for plan in plans:
        for step in range(min(steps, plan.steps_per_epoch)):
            visits = plan.step(step)
            items, bins = items_of(plan, visits), plan.bins_per_step
            floor = plan.cost(visits) / bins
            for case, costs in {
                "balanced": [plan.cost(b) for b in plan.bins(step)],
                "lpt visits": lpt_visits(items, bins),
                "bfd visits": bfd_visits(items, bins),
            }.items():
                row = (max(costs) / float(np.mean(costs)), max(costs) / floor)
                found.setdefault(case, []).append(row)
    return {
        case: dict(zip(("max / mean", "max / floor"), np.mean(rows, axis=0).tolist(), strict=True))
        for case, rows in found.items()
    }


def dealing(plans: Sequence[Plan]) -> dict[str, dict[str, float]]:
    """Two ways to deal an epoch's visits to steps of one bin: max/mean of what the steps cost."""
    found: dict[str, list[float]] = {}
    for plan in plans:
        steps = range(plan.steps_per_epoch)
        ours = [plan.cost(plan.step(step)) for step in steps]
        counts = (plan.visits * np.array(plan.targets)).tolist()
        items = list(zip(counts, plan.encoding, plan.targets, strict=True))
        fitted = bfd_visits(items, len(steps))
        found.setdefault("longest first (ours)", []).append(max(ours) / float(np.mean(ours)))
        found.setdefault("best-fit decreasing", []).append(max(fitted) / float(np.mean(fitted)))
    return {case: {"mean": float(np.mean(v)), "worst": max(v)} for case, v in found.items()}


def paddings(plans: Sequence[Plan]) -> dict[str, float]:
    """Share of target slots that hold padding, by kind of bucket; packed batches hold none."""
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


def recipe_plans(name: str, ranks: Sequence[int]) -> dict[str, Plan]:
    """The plans of a recipe's corpus, for one bin and for more at the recipe's budget for each."""
    import torch

    from graphfm.config import load_recipe
    from graphfm.model import GraphFM
    from graphfm.pretrain import load_corpus

    recipe = load_recipe(name)
    corpus = load_corpus(recipe, torch.device("cpu"))
    model = GraphFM(recipe.model, seed=recipe.seed)
    plans = {}
    for bins in (1, *ranks):
        for strategy in ("balanced", "snake", "uniform"):
            budget = bins * recipe.sampling.targets_per_step
            changed = {"bins_per_step": bins, "strategy": strategy, "targets_per_step": budget}
            corpus.sampling = recipe.sampling.model_copy(update=changed)
            plans[f"{strategy} {bins}"] = corpus.make_plan(model)
    return plans


def recipe_figures(plans: dict[str, Plan]) -> dict[str, dict[str, float]]:
    """By strategy and number of bins: balance of ranks, of bins in a step, and of steps."""
    found = {}
    for case, plan in plans.items():
        costs = bin_costs(plan)
        found[case] = {
            "steps": plan.steps_per_epoch,
            "epoch": over_ranks(costs, plan.bins_per_step),
            "step": float(within_steps(costs).mean()),
            "fill": float(costs.mean() / costs.max()),
        }
    return found


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, print, write."""
    parser = bench.parser(__doc__)
    parser.add_argument("--draws", type=int, default=10, help="of the sizes")
    parser.add_argument("--graphs", type=int, default=152)
    parser.add_argument("--total", type=float, default=7.4e6, help="targets of all graphs")
    parser.add_argument("--per-rank", type=int, nargs="+", default=[2048, 8192], help="budget")
    parser.add_argument("--ranks", type=int, nargs="+", default=list(RANKS))
    parser.add_argument("--recipe", help="a recipe, such as local-small, whose corpus is here")
    args = parser.parse_args(argv)
    facts = bench.machine(args.device, threads=args.threads)
    draws = [drawn(seed, args.graphs, args.total) for seed in range(args.draws)]
    worlds = [w for w in args.ranks if w <= 64][-1:] or args.ranks[:1]
    world = worlds[0]  # of the tables of single steps
    figures: dict[str, Any] = {}
    for per_rank in args.per_rank:
        at = figures[f"{per_rank} targets a rank"] = {}
        at["ranks"] = epochs(draws, per_rank, args.ranks)
        plans = [plan_of(sizes, "balanced", world, per_rank) for sizes in draws]
        at["packers"] = packers(plans, steps=4)
        at["steps of one bin"] = dealing([plan_of(s, "balanced", 1, per_rank) for s in draws[:3]])
        at["padding"] = paddings(plans[:3])
        _print(per_rank, at, args.ranks, world)
    if args.recipe:
        figures["recipe"] = recipe_figures(recipe_plans(args.recipe, args.ranks[:2]))
        print(f"\n{args.recipe}: max/mean over the ranks, of bins in a step; fill of the bins")
        header = ["strategy, bins", "steps", "epoch", "step", "fill"]
        print(bench.table(header, [[k, *v.values()] for k, v in figures["recipe"].items()]))

    def fresh() -> Plan:
        return plan_of(draws[0], "balanced", world, args.per_rank[0])

    planned = fresh()
    cases = {
        "plan an epoch": lambda: fresh().step(0),
        "pack its bins": lambda: [planned.bins(i) for i in range(planned.steps_per_epoch)],
    }
    seconds = bench.interleaved(cases, args.repeats)
    tracemalloc.start()
    fresh().step(0)
    figures["planning"] = {
        "visits": int(planned.visits.sum()),
        "steps": planned.steps_per_epoch,
        "peak MiB": tracemalloc.get_traced_memory()[1] / 2**20,
    }
    tracemalloc.stop()
    print("\n" + ", ".join(f"{k} {v:.4g}" for k, v in figures["planning"].items()))
    rows = [[case, bench.median(values)] for case, values in seconds.items()]
    print(bench.table(["an epoch", "s"], rows))
    return bench.write(
        args.out, machine=facts, settings=vars(args), seconds=seconds, figures=figures
    )


def _print(per_rank: int, at: dict[str, Any], ranks: Sequence[int], world: int) -> None:
    keys = [f"epoch {w}" for w in ranks] + [f"step {w}" for w in ranks]
    rows = [
        [case, *(f"{by[k]['mean']:.3f} ({by[k]['worst']:.3f})" for k in keys)]
        for case, by in at["ranks"].items()
    ]
    goals = [GOALS.get(w, "") for w in ranks] + [GOAL_STEP if w == 64 else "" for w in ranks]
    print(f"\n{per_rank} targets a rank; max/mean over ranks, mean of the draws (worst)")
    print(bench.table(["", *keys], [*rows, ["goal, at most", *goals]]))
    balanced = at["ranks"]["balanced"]
    print("fill of balanced bins: " + _all(balanced, "fill", ranks), end="; ")
    print("mean bin / budget: " + _all(balanced, "of budget", ranks))
    print(f"\nA step's visits in {world} bins; floor: every graph encoded once, bins equal")
    print(
        bench.table(
            ["", "max/mean", "max/floor"], [[k, *v.values()] for k, v in at["packers"].items()]
        )
    )
    print("\nVisits dealt to steps of one bin, max/mean of the steps: mean of the draws, worst")
    print(
        bench.table(
            ["", "mean", "worst"], [[k, *v.values()] for k, v in at["steps of one bin"].items()]
        )
    )
    print(f"\nPadding of targets, {world} bins a step (goal: at most {GOAL_PADDING:.0%})")
    print(bench.table(["buckets", "share"], [[k, f"{v:.2%}"] for k, v in at["padding"].items()]))


def _all(by: dict[str, dict[str, float]], key: str, ranks: Sequence[int]) -> str:
    return ", ".join(f"{by[f'{key} {w}']['mean']:.3f} at {w}" for w in ranks)


if __name__ == "__main__":
    main(sys.argv[1:])
