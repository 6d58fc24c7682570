"""Plan: which targets of which graphs, for every step and rank; a pure function of (seed, sizes).

Time runs in visits. A visit takes the next ``max_targets`` labelled nodes of one graph, in an order
that is shuffled anew each time all of them have been seen. An epoch holds a fixed number of visits
of each graph, by its weight in the mixture, dealt to a fixed number of steps of equal cost. So the
whole state of a run is one integer: the step.

A step is done in bins, one batch each, of equal cost; rank r of W takes ``bins[r::W]``. What a step
learns from does not depend on how many bins or ranks there are.
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

# A cut visit encodes its graph once more. To cut off less than half of that cost in targets would
# buy too little: it gains 0.1%, and would spread ten targets over ten ranks.
SMALLEST_PIECE = 0.5

Row = tuple[int, int, int]  # graph, number of its first visit, visits


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
    """The visits of every step, and the bins they are done in.

    ``balanced`` deals visits, longest first, into the emptiest step; a step's bins are filled by
    best fit, and a visit that fits nowhere whole is cut over the bins that have room. The others
    stand for the samplers that it is measured against, and keep graphs whole: all visits of a graph
    in an epoch come at once. ``snake`` deals graphs to bins back and forth in the order of their
    size (the paper's), ``uniform`` in any order. Their steps cost as unequally as graphs do, an
    epoch has at most one for every ``bins_per_step`` graphs, and ``max_targets`` bounds nothing.

    Args:
        sizes: Of every graph, in the order of the bank.
        seed: Of the run.
        max_targets: Targets of one visit.
        max_context: Nodes of one graph that the encoder reads.
        targets_per_step: Budget of a step, in targets; of all its bins together.
        cost: What else counts.
        strategy: See above.
        bins_per_step: Bins of a step: as many as ranks, or a multiple.

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
        # The rarest graph is visited once an epoch; all others by weight.
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
        """The visits of one step, in the order of graphs; a graph comes once at most.

        Two visits of one graph that fall into one step become one visit with more targets.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = [row for bin_ in self._epoch(epoch)[place] for row in bin_]
        return self._visits(rows)

    def bins(self, step: int) -> list[list[Visit]]:
        """The same visits, some cut in pieces, in ``bins_per_step`` bins.

        In each bin a graph comes once at most, and graphs are in order. With more bins than there
        is work for, some are empty.

        Of ``balanced``, a bin costs at most the step's cost in one bin, over the number of bins,
        plus 2.5 times the encoding of the step's dearest graph, plus 2 targets. What two ranks'
        ``bins[r::W]`` cost differs by no more than the dearest and the cheapest bin do, for any W
        that divides the number of bins; otherwise by one bin more.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        if self.strategy != "balanced":
            return [self._visits(rows) for rows in self._epoch(epoch)[place]]
        if self.bins_per_step == 1:
            return [self.step(step)]
        # Dearest first, so that a rank's k-th bin costs no more than any rank's bin before it: sums
        # differ by the spread at most. Turned on by one each step: no rank always has the dearest.
        bins = sorted(self._packed(self.step(step)), key=self.cost, reverse=True)
        turn = step % self.bins_per_step
        return bins[turn:] + bins[:turn]

    def halves(self, visits: Sequence[Visit]) -> list[list[Visit]]:
        """A bin as two, with half of its targets each; of one target the second has none.

        The graph in the middle is in both, and encoded twice.
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
        """Of visits done in one bin, in targets."""
        return sum(visit.num_targets + self.encoding[visit.graph] for visit in visits)

    def _steps_within(self, budget: float) -> int:
        """Steps of an epoch, such that one costs the budget on average; none is empty.

        A graph with more visits than there are steps is encoded once in each of them.
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
        """The rows of every bin of every step of an epoch; of ``balanced``, one bin to a step."""
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
        """Visits by graph, of each step: equal costs, and which graphs meet is chance."""
        # Of a graph with more visits than steps, each visit pays its share of the encoding.
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
        """Visits by graph, of each bin of each step."""
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
        """Visits in bins of the least capacity that holds them, to a part in 1000 of the search."""
        order = sorted(visits, key=lambda v: -v.num_targets - self.encoding[v.graph])
        low = self.cost(visits) / self.bins_per_step
        encoding = max(self.encoding[visit.graph] for visit in visits)
        # It always fits here: where it does not fit, every bin has less room left than the smallest
        # piece needs (1.5 encodings and 2 targets), though each was cut into once at most, and a
        # cut costs one encoding more.
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
        """Best-fit decreasing into bins of a capacity; None where they cannot hold the visits."""
        rooms = [(capacity, place) for place in range(self.bins_per_step)]  # kept in order
        bins: list[list[Visit]] = [[] for _ in rooms]
        for visit in order:
            encoding, start, left = self.encoding[visit.graph], visit.start, visit.num_targets
            while left:
                found, taken = bisect_left(rooms, (left + encoding, -1)), left
                if found == len(rooms):  # it fits nowhere whole: cut, into the largest room
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
    """Which labelled nodes a visit takes.

    Args:
        visit: From the plan.
        num_targets: Labelled nodes of its graph, n.
        seed: Of the run.
        graph_key: Stable key of the graph.
        kept: Newest turn and its order, (n,) int32, by graph key: read and written, for one seed
            only. Shuffling 1.2M targets takes 28 ms, and every visit would again; a slice 2 us.

    Returns:
        Places in the list of labelled nodes, (visit.num_targets,) int64, each in ``range(n)``. Over
        n consecutive places of the order every node comes exactly once.
    """
    kept = {} if kept is None else kept
    places = []
    start, left = visit.start, visit.num_targets
    while left:  # once for each turn
        turn, offset = divmod(start, num_targets)
        known = kept.get(graph_key)
        if known is None or known[0] != turn or len(known[1]) != num_targets:
            rng = np.random.default_rng([seed, graph_key % 2**64, turn])
            known = turn, rng.permutation(num_targets).astype(np.int32)
            kept[graph_key] = known
        places.append(known[1][offset : offset + left].astype(np.int64))
        start, left = start + len(places[-1]), left - len(places[-1])
    return np.concatenate(places)
