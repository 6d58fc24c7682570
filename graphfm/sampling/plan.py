"""Plan: which targets of which graphs, for every step; a pure function of (seed, sizes).

Time runs in visits. A visit takes the next ``max_targets`` labelled nodes of one graph, in an order
that is shuffled anew each time all of them have been seen. An epoch holds a fixed number of visits
of each graph, by its weight in the mixture, dealt to a fixed number of steps of equal cost. So the
whole state of a run is one integer: the step.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from graphfm.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class GraphSize:
    """What a plan must know of a graph.

    Args:
        num_targets: Labelled nodes to learn from.
        num_nodes: Nodes in all.
        weight: Relative share of visits.
    """

    num_targets: int
    num_nodes: int
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Cost of parts of a step, in targets: from the model's own FLOP counter."""

    graph: float
    context_node: float


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Some targets of one graph.

    Args:
        graph: Its place in the bank.
        start: Place of the first target in the endless, reshuffled order of targets.
        num_targets: How many.
    """

    graph: int
    start: int
    num_targets: int


class Plan:
    """The visits of every step.

    Args:
        sizes: Of every graph, in the order of the bank.
        seed: Of the run.
        max_targets: Targets of one visit.
        max_context: Nodes of one graph that the encoder reads.
        targets_per_step: Budget of a step, in targets.
        cost: What else counts.

    Raises:
        RecipeError: GFM207 where a graph has nothing to learn from.
    """

    def __init__(
        self,
        sizes: Sequence[GraphSize],
        *,
        seed: int,
        max_targets: int,
        max_context: int,
        targets_per_step: int,
        cost: StepCost,
    ):
        empty = [i for i, size in enumerate(sizes) if size.num_targets < 1]
        if empty or not sizes:
            raise RecipeError("GFM207", f"graphs {empty} of {len(sizes)} have no training targets")
        self.seed = seed
        self.targets = [min(size.num_targets, max_targets) for size in sizes]
        weights = np.array([size.weight for size in sizes])
        # The rarest graph is visited once an epoch; all others by weight.
        self.visits = np.maximum(1, np.rint(weights / weights.min())).astype(int)
        self.costs = [
            targets + cost.graph + cost.context_node * min(size.num_nodes, max_context)
            for targets, size in zip(self.targets, sizes, strict=True)
        ]
        total = float(np.dot(self.visits, self.costs))
        # No step without a visit, however small its budget.
        self.steps_per_epoch = min(max(1, round(total / targets_per_step)), int(self.visits.sum()))

    def step(self, step: int) -> list[Visit]:
        """The visits of one step, in the order of graphs; a graph comes once at most.

        Two visits of one graph that fall into one step become one visit with more targets.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        counts = self._epoch(epoch)[place]
        return [
            Visit(
                graph=graph,
                start=number * self.targets[graph],
                num_targets=count * self.targets[graph],
            )
            for graph, number, count in counts
        ]

    @lru_cache(maxsize=2)  # noqa: B019  (a plan lives as long as its run)
    def _epoch(self, epoch: int) -> list[list[tuple[int, int, int]]]:
        """(graph, first visit number, visits) of every step of an epoch."""
        rng = np.random.default_rng([self.seed, epoch, 0x706C616E])
        order = np.repeat(np.arange(len(self.visits)), self.visits)
        rng.shuffle(order)
        # Longest first into the emptiest step: equal costs, and which graphs meet is chance.
        order = order[np.argsort([-self.costs[g] for g in order], kind="stable")]
        steps: list[dict[int, int]] = [{} for _ in range(self.steps_per_epoch)]
        heap = [(0.0, tie, place) for place, tie in enumerate(rng.permutation(len(steps)))]
        heapq.heapify(heap)
        for graph in order.tolist():
            cost, tie, place = heapq.heappop(heap)
            steps[place][graph] = steps[place].get(graph, 0) + 1
            heapq.heappush(heap, (cost + self.costs[graph], tie, place))
        rng.shuffle(steps)
        done = [epoch * int(v) for v in self.visits]
        result = []
        for step in steps:
            row = []
            for graph, count in sorted(step.items()):
                row.append((graph, done[graph], count))
                done[graph] += count
            result.append(row)
        return result


def targets_of(visit: Visit, num_targets: int, *, seed: int, graph_key: int) -> np.ndarray:
    """Which labelled nodes a visit takes.

    Args:
        visit: From the plan.
        num_targets: Labelled nodes of its graph, n.
        seed: Of the run.
        graph_key: Stable key of the graph.

    Returns:
        Places in the list of labelled nodes, (visit.num_targets,), each in ``range(n)``. Over
        n consecutive places of the order every node comes exactly once.
    """
    first, last = visit.start // num_targets, (visit.start + visit.num_targets - 1) // num_targets
    key = graph_key % 2**64
    shuffles = [
        np.random.default_rng([seed, key, turn]).permutation(num_targets)
        for turn in range(first, last + 1)
    ]
    offset = visit.start - first * num_targets
    return np.concatenate(shuffles)[offset : offset + visit.num_targets]
