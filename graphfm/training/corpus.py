"""Corpus: the graphs of a pretraining run, which nodes teach, and the batch of every step.

Shapes:
    G  graphs
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from graphfm.config.recipe import Recipe
from graphfm.errors import DataError
from graphfm.graphs.features.multihop import multihop
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.spec import GraphSpec
from graphfm.graphs.splits import stratified_split
from graphfm.model.cost import step_cost
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import GraphBatch, make_batch, sample_context, subsample
from graphfm.sampling.plan import GraphSize, Plan, StepCost, Visit, targets_of
from graphfm.training.step import Share

SPLIT_SEED = 0  # which nodes a corpus holds back does not change with the seed of a run
NEVER = 1 << 30  # an epoch that training does not reach: evaluation samples neighbors of its own


class Corpus:
    """See the module.

    Args:
        graphs: Prepared graphs.
        weights: Relative share of visits, (G,).
        recipe: How to sample.
        device: Where the graphs lie.
    """

    def __init__(
        self,
        graphs: Sequence[PreparedGraph],
        weights: Sequence[float],
        recipe: Recipe,
        *,
        device: torch.device,
    ):
        self.recipe = recipe
        self.sampling = recipe.sampling
        raw = {g.name: multihop(g).half() for g in graphs} if recipe.objective.reads_raw else None
        self.bank = GraphBank(graphs, raw=raw, device=device)
        self.specs = [
            GraphSpec(name=g.name, num_features=g.num_features, task=g.task) for g in graphs
        ]
        self.weights = list(weights)
        share = recipe.data.val_fraction
        self.train_nodes: list[Tensor] = []
        self.val_nodes: list[Tensor] = []
        for graph in graphs:
            if graph.y is None:
                raise DataError("GFM131", "a graph without labels cannot teach", where=graph.name)
            parts = stratified_split(
                graph.y, (1 - share, share, 0.0), seed=SPLIT_SEED, ids=graph.node_ids
            )
            train = parts[0].nonzero().flatten()
            most = max(2, round(recipe.data.node_share * len(train)))
            key = self.bank.keys[len(self.train_nodes)] % 2**64
            self.train_nodes.append(subsample(train, most, seed=[recipe.seed, key]))
            self.val_nodes.append(parts[1].nonzero().flatten())
        self.plan: Plan | None = None
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def make_plan(self, model: GraphFM) -> Plan:
        """The visits of every step; what a graph costs beside its targets is the model's to say."""
        sizes = [
            GraphSize(
                num_targets=len(nodes),
                num_nodes=self.bank.offset[g + 1] - self.bank.offset[g],
                weight=self.weights[g],
            )
            for g, nodes in enumerate(self.train_nodes)
        ]
        self.plan = Plan(
            sizes,
            seed=self.recipe.seed,
            max_targets=self.sampling.max_targets,
            max_context=self.sampling.max_context,
            targets_per_step=self.sampling.targets_per_step,
            cost=self._cost(model),
            strategy=self.sampling.strategy,
            bins_per_step=self.sampling.bins_per_step,
        )
        return self.plan

    def _cost(self, model: GraphFM) -> StepCost:
        graph, context = self.sampling.graph_cost, self.sampling.context_cost
        if graph is None or context is None:
            return step_cost(model, self.sampling.num_neighbors)
        return StepCost(graph=graph, context_node=context)

    def batch_at(self, step: int) -> GraphBatch:
        """All of a step in one batch: a function of (recipe, step) alone."""
        assert self.plan is not None, "make_plan first"
        return self._batch(self.plan.step(step), step)

    def share_at(self, step: int, *, rank: int = 0, size: int = 1, halvings: int = 0) -> Share:
        """The same targets, neighbors and contexts, in a batch for each bin of a rank.

        Over the ranks every target of the step comes once. A graph may come in several batches,
        each with the same context, so a loss that is a mean over a graph is to be divided by the
        graph's targets in the whole step, ``totals``. An empty bin makes no batch: a rank may have
        fewer than the others, and none. Each bin can be cut in half, several times, where its batch
        is too large for memory: on all ranks alike.
        """
        assert self.plan is not None, "make_plan first"
        bins = self.plan.bins(step)
        for _ in range(halvings):
            bins = [half for bin_ in bins for half in self.plan.halves(bin_)]
        costs = [sum(map(self.plan.cost, bins[r::size])) for r in range(size)]
        mine = [place for place in range(rank, len(bins), size) if bins[place]]
        return Share(
            batches=tuple(self._batch(bins[place], step) for place in mine),
            places=tuple(mine),
            totals={self.bank.names[v.graph]: v.num_targets for v in self.plan.step(step)},
            rounds=max(1, *(sum(map(bool, bins[r::size])) for r in range(size))),
            balance=max(costs) * size / sum(costs),
        )

    def _batch(self, visits: Sequence[Visit], step: int) -> GraphBatch:
        assert self.plan is not None, "make_plan first"
        seed = self.recipe.seed
        targets = []
        for visit in visits:
            nodes = self.train_nodes[visit.graph]
            key = self.bank.keys[visit.graph]
            places = targets_of(visit, len(nodes), seed=seed, graph_key=key, kept=self._orders)
            targets.append(nodes[torch.from_numpy(places)])
        graphs = [visit.graph for visit in visits]
        return make_batch(
            self.bank,
            graphs,
            targets,
            [self._context(g, step) for g in graphs],
            num_neighbors=self.sampling.num_neighbors,
            seed=seed,
            epoch=step // self.plan.steps_per_epoch,
        )

    def val_groups(self, size: int = 4) -> list[list[int]]:
        """Graphs that have validation nodes, a few at a time."""
        having = [g for g, nodes in enumerate(self.val_nodes) if len(nodes)]
        return [having[i : i + size] for i in range(0, len(having), size)]

    def val_batch(
        self, graphs: Sequence[int], num_targets: int, *, taught: bool = False
    ) -> GraphBatch:
        """At most so many validation nodes of each graph, the same at every evaluation.

        With ``taught``, of the nodes that teach.
        """
        nodes = self.train_nodes if taught else self.val_nodes
        targets = [subsample(nodes[g], num_targets, seed=[SPLIT_SEED, g]) for g in graphs]
        return make_batch(
            self.bank,
            list(graphs),
            targets,
            [self._context(g, NEVER) for g in graphs],
            num_neighbors=self.sampling.num_neighbors,
            seed=self.recipe.seed,
            epoch=NEVER,
        )

    def _context(self, graph: int, step: int) -> Tensor:
        if not self.recipe.model.encoder.num_latents:
            return torch.arange(0)  # nobody reads it: no token is made
        num_nodes = self.bank.offset[graph + 1] - self.bank.offset[graph]
        key = self.bank.keys[graph] % 2**64
        seed = [self.recipe.seed, step, key]
        return sample_context(num_nodes, self.sampling.max_context, seed=seed)


def fresh_model(recipe: Recipe, corpus: Corpus, device: torch.device) -> GraphFM:
    """The model of a recipe before its first step, with all graphs of the corpus."""
    model = GraphFM(recipe.model, seed=recipe.seed)
    for spec in corpus.specs:
        model.add_graph(spec)
    return model.to(device)
