"""Plan: the targets and graphs of every step and rank; a pure function of (seed, sizes).

The plan consists of visits. A visit takes the next ``max_targets`` labelled nodes of one graph, in
an order that is shuffled again whenever all of them have been seen. An epoch holds a fixed number
of visits per graph, by its weight in the mixture, distributed over a fixed number of steps of equal
cost. So the whole state of a run is one integer: the step.

A step is processed in bins of equal cost, one batch each; rank r of W takes ``bins[r::W]``. The
targets of a step do not depend on the number of bins or ranks.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from graphfm.errors import RecipeError

# A cut visit encodes its graph once more. Pieces of less than half of that cost are not worth it:
# they gain 0.1%, and would distribute ten targets over ten ranks.
SMALLEST_PIECE = 0.5

Row = tuple[int, int, int]  # graph, number of its first visit, number of visits


@dataclass(frozen=True, kw_only=True)
class GraphSize:
    """Size of a graph in a plan.

    Args:
        num_targets: Number of labelled nodes to learn from.
        num_nodes: Number of all nodes.
        weight: Relative share of visits. Default: 1.
    """

    num_targets: int
    num_nodes: int
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Cost of a graph and of a context node, in units of the cost of a target."""

    graph: float
    context_node: float


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Some targets of one graph.

    Args:
        graph: Index of the graph in the bank.
        start: Position of the first target in the endless, reshuffled sequence of targets.
        num_targets: Number of targets.
    """

    graph: int
    start: int
    num_targets: int


class Plan:
    """The visits of every step, and their distribution over bins.

    ``balanced`` puts visits, largest first, into the step with the lowest cost so far. It fills the
    bins of a step by best fit, and cuts a visit that fits into no bin.

    ``snake`` and ``uniform`` exist for comparison. They keep graphs whole: all visits of a graph in
    an epoch come at once. ``snake`` assigns graphs to bins back and forth in order of size (the
    paper's strategy), ``uniform`` in random order. The cost of their steps varies as the sizes of
    graphs do, an epoch has at most one step per ``bins_per_step`` graphs, and ``max_targets`` is
    not a limit.

    Args:
        sizes: Size of every graph, in the order of the bank.
        seed: Seed of the run.
        max_targets: Targets of one visit.
        max_context: Nodes of one graph that the encoder reads.
        targets_per_step: Budget of a step, of all its bins together, in units of a target.
        cost: Cost of a graph and of a context node.
        strategy: ``balanced``, ``snake`` or ``uniform``. Default: ``balanced``.
        bins_per_step: Bins of a step: the number of ranks or a multiple of it. Default: 1.

    Raises:
        RecipeError: GFM207 if a graph has no training targets.
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
        strategy: Literal["balanced", "snake", "uniform"] = "balanced",
        bins_per_step: int = 1,
    ):
        empty = [i for i, size in enumerate(sizes) if size.num_targets < 1]
        if empty or not sizes:
            raise RecipeError("GFM207", f"graphs {empty} of {len(sizes)} have no training targets")
        self.seed = seed
        self.strategy = strategy
        self.bins_per_step = bins_per_step
        self.targets = [min(size.num_targets, max_targets) for size in sizes]
        weights = np.array([size.weight for size in sizes])
        # The graph with the smallest weight is visited once per epoch.
        self.visits = np.maximum(1, np.rint(weights / weights.min())).astype(int)
        self.costs = [
            targets + cost.graph + cost.context_node * min(size.num_nodes, max_context)
            for targets, size in zip(self.targets, sizes, strict=True)
        ]
        self.encoding = [c - t for c, t in zip(self.costs, self.targets, strict=True)]
        self.steps_per_epoch = self._steps_within(targets_per_step)
        if strategy != "balanced":
            blocks = -(-len(sizes) // bins_per_step)
            self.steps_per_epoch = min(self.steps_per_epoch, blocks)

    def step(self, step: int) -> list[Visit]:
        """Return the visits of a step, in the order of graphs; each graph at most once.

        Several visits of a graph in one step are merged into one visit with more targets.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = [row for bin_ in self._epoch(epoch)[place] for row in bin_]
        return self._visits(rows)

    def bins(self, step: int) -> list[list[Visit]]:
        """Return the visits of a step, some cut in pieces, in ``bins_per_step`` bins.

        A bin holds each graph at most once, in the order of graphs. Bins can be empty.

        Bounds for ``balanced``: A bin costs at most the cost of the step in one bin, divided by the
        number of bins, plus 2.5 times the largest encoding cost of a graph of the step, plus 2
        targets. The costs of two ranks' ``bins[r::W]`` differ at most by the difference between
        the most and the least expensive bin, if W divides the number of bins; otherwise by one
        more bin.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        if self.strategy != "balanced":
            return [self._visits(rows) for rows in self._epoch(epoch)[place]]
        if self.bins_per_step == 1:
            return [self.step(step)]
        # Most expensive first: a rank's k-th bin costs no more than any rank's bin before it, so
        # that sums differ at most as two bins do. Rotated by one each step, so that no rank always
        # has the most expensive bin.
        bins = sorted(self._packed(self.step(step)), key=self.cost, reverse=True)
        turn = step % self.bins_per_step
        return bins[turn:] + bins[:turn]

    def halves(self, visits: Sequence[Visit]) -> list[list[Visit]]:
        """Split a bin into two with half of its targets each; one target leaves the second empty.

        The graph in the middle is in both halves and is encoded twice.
        """
        first: list[Visit] = []
        second: list[Visit] = []
        left = -(-sum(visit.num_targets for visit in visits) // 2)
        for visit in visits:
            taken = min(left, visit.num_targets)
            left -= taken
            pieces = (
                (first, visit.start, taken),
                (second, visit.start + taken, visit.num_targets - taken),
            )
            for half, start, num_targets in pieces:
                if num_targets:
                    half.append(Visit(graph=visit.graph, start=start, num_targets=num_targets))
        return [first, second]

    def cost(self, visits: Sequence[Visit]) -> float:
        """Return the cost of visits in one bin, in units of a target."""
        return sum(visit.num_targets + self.encoding[visit.graph] for visit in visits)

    def _steps_within(self, budget: float) -> int:
        """Return the steps of an epoch for which a step costs the budget on average.

        A graph with more visits than steps is encoded once in each step. No step is empty.
        """
        targets = float(np.dot(self.visits, self.targets))
        low, high = 1, int(self.visits.sum())
        while low < high:
            steps = (low + high) // 2
            encoding = float(np.dot(np.minimum(self.visits, steps), self.encoding))
            if round((targets + encoding) / budget) <= steps:
                high = steps
            else:
                low = steps + 1
        return low

    def _visits(self, rows: Sequence[Row]) -> list[Visit]:
        """Turn rows into visits, in the order of graphs."""
        return [
            Visit(
                graph=graph,
                start=number * self.targets[graph],
                num_targets=count * self.targets[graph],
            )
            for graph, number, count in sorted(rows)
        ]

    @lru_cache(maxsize=2)  # noqa: B019  (a plan lives as long as its run)
    def _epoch(self, epoch: int) -> list[list[list[Row]]]:
        """Return the rows of every bin of every step; ``balanced`` has one bin per step here."""
        rng = np.random.default_rng([self.seed, epoch, 0x706C616E])
        if self.strategy == "balanced":
            steps = [[step] for step in self._longest_first(rng)]
        else:
            steps = self._whole_graphs(rng)
        done = [epoch * int(v) for v in self.visits]
        result = []
        for step in steps:
            bins = []
            for counts in step:
                row = []
                for graph, count in counts.items():
                    row.append((graph, done[graph], count))
                    done[graph] += count
                bins.append(row)
            result.append(bins)
        return result

    def _longest_first(self, rng: np.random.Generator) -> list[dict[int, int]]:
        """Return visits by graph of each step: equal costs, and a random mix of graphs."""
        # A graph with more visits than steps is encoded once per step: its visits share the cost.
        shares = np.minimum(1.0, self.steps_per_epoch / self.visits).tolist()
        costs = [
            cost if share == 1.0 else targets + share * encoding
            for cost, targets, encoding, share in zip(
                self.costs, self.targets, self.encoding, shares, strict=True
            )
        ]
        order = np.repeat(np.arange(len(self.visits)), self.visits)
        rng.shuffle(order)
        order = order[np.argsort(-np.array(costs)[order], kind="stable")]
        steps: list[dict[int, int]] = [{} for _ in range(self.steps_per_epoch)]
        heap = [(0.0, tie, place) for place, tie in enumerate(rng.permutation(len(steps)))]
        heapq.heapify(heap)
        for graph in order.tolist():
            cost, tie, place = heap[0]
            steps[place][graph] = steps[place].get(graph, 0) + 1
            heapq.heapreplace(heap, (cost + costs[graph], tie, place))
        rng.shuffle(steps)
        return steps

    def _whole_graphs(self, rng: np.random.Generator) -> list[list[dict[int, int]]]:
        """Return visits by graph, of each bin of each step."""
        order = rng.permutation(len(self.visits))
        if self.strategy == "snake":
            size = self.visits * np.array(self.targets)
            order = order[np.argsort(-size[order], kind="stable")]
        blocks = [
            order[i : i + self.bins_per_step].tolist()
            for i in range(0, len(order), self.bins_per_step)
        ]
        forth = range(self.bins_per_step)
        back = forth[::-1] if self.strategy == "snake" else forth
        steps = []
        for part in np.array_split(np.arange(len(blocks)), self.steps_per_epoch):
            bins: list[dict[int, int]] = [{} for _ in range(self.bins_per_step)]
            for block in part.tolist():
                for place, graph in zip(back if block % 2 else forth, blocks[block], strict=False):
                    bins[place][graph] = int(self.visits[graph])
            steps.append(bins)
        rng.shuffle(steps)
        return steps

    def _packed(self, visits: Sequence[Visit]) -> list[list[Visit]]:
        """Pack visits into bins of the smallest sufficient capacity, to 1/1000 of the range."""
        order = sorted(visits, key=lambda v: -v.num_targets - self.encoding[v.graph])
        low = self.cost(visits) / self.bins_per_step
        encoding = max(self.encoding[visit.graph] for visit in visits)
        # This capacity always suffices. If visits did not fit, every bin would have less room left
        # than the smallest piece needs (1.5 encodings and 2 targets), although each bin received at
        # most one cut, and a cut costs one more encoding.
        high = low + (2 + SMALLEST_PIECE) * encoding + 2
        best = self._fit(order, high)
        assert best is not None
        for _ in range(10):
            middle = (low + high) / 2
            bins = self._fit(order, middle)
            if bins is None:
                low = middle
            else:
                best, high = bins, middle
        return [sorted(bin_, key=lambda v: v.graph) for bin_ in best]

    def _fit(self, order: Sequence[Visit], capacity: float) -> list[list[Visit]] | None:
        """Pack visits by best-fit decreasing; None if the bins cannot hold them."""
        rooms = [(capacity, place) for place in range(self.bins_per_step)]  # sorted
        bins: list[list[Visit]] = [[] for _ in rooms]
        for visit in order:
            encoding, start, left = self.encoding[visit.graph], visit.start, visit.num_targets
            while left:
                found, taken = bisect_left(rooms, (left + encoding, -1)), left
                if found == len(rooms):  # fits in no bin: cut, into the one with most room
                    found, taken = -1, int(rooms[-1][0] - encoding)
                    if taken < max(1.0, SMALLEST_PIECE * encoding):
                        return None
                room, place = rooms.pop(found)
                insort(rooms, (room - encoding - taken, place))
                bins[place].append(Visit(graph=visit.graph, start=start, num_targets=taken))
                start, left = start + taken, left - taken
        return bins


def targets_of(
    visit: Visit,
    num_targets: int,
    *,
    seed: int,
    graph_key: int,
    kept: dict[int, tuple[int, np.ndarray]] | None = None,
) -> np.ndarray:
    """Return the labelled nodes of a visit.

    Args:
        visit: A visit of the plan.
        num_targets: Number of labelled nodes n of its graph.
        seed: Seed of the run.
        graph_key: Stable key of the graph.
        kept: Cache of the newest turn and its order, (n,) int32, by graph key, for one seed. It is
            updated in place. Shuffling 1.2M targets takes 28 ms per visit, a cached slice 2 us.

    Returns:
        Positions in the list of labelled nodes, (visit.num_targets,) int64, each in ``range(n)``.
        Every n consecutive positions of the sequence that begin a turn contain each node once.
    """
    kept = {} if kept is None else kept
    places = []
    start, left = visit.start, visit.num_targets
    while left:  # one pass per turn: a turn is one shuffle of all targets
        turn, offset = divmod(start, num_targets)
        known = kept.get(graph_key)
        if known is None or known[0] != turn or len(known[1]) != num_targets:
            rng = np.random.default_rng([seed, graph_key % 2**64, turn])
            known = turn, rng.permutation(num_targets).astype(np.int32)
            kept[graph_key] = known
        places.append(known[1][offset : offset + left].astype(np.int64))
        start, left = start + len(places[-1]), left - len(places[-1])
    return np.concatenate(places)
