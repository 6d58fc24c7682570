"""Corpus: the graphs of a pretraining run, their training nodes, and the batch of every step.

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
from graphfm.training.step import RankBatches

SPLIT_SEED = 0  # the validation nodes of a corpus do not change with the seed of a run
EVALUATION = 1 << 30  # an epoch that training never reaches: its own neighbors and contexts


class Corpus:
    """Graphs of a pretraining run, split into training and validation nodes, with their plan.

    Args:
        graphs: Prepared graphs with labels, G of them.
        weights: Relative number of visits of each graph, (G,).
        recipe: Sampling, splits, seed, and the model, whose FLOPs give the cost of a step.
        device: Device of the graphs.

    Attributes:
        bank: The graphs on the device.
        specs: Name, width and task of each graph, G of them.
        train_nodes: Training nodes of each graph, G tensors.
        val_nodes: Validation nodes of each graph, G tensors. No step has them as targets.
        sizes: Size and weight of each graph, G of them.
        plan: Visits of every step.

    Raises:
        DataError: GFM131 for a graph without labels.
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
        self.train_nodes: list[Tensor] = []
        self.val_nodes: list[Tensor] = []
        for graph, key in zip(graphs, self.bank.keys, strict=True):
            train, val = _split(graph, key, recipe)
            self.train_nodes.append(train)
            self.val_nodes.append(val)
        self.sizes = [
            GraphSize(num_targets=len(nodes), num_nodes=self._num_nodes(g), weight=weights[g])
            for g, nodes in enumerate(self.train_nodes)
        ]
        self.plan = make_plan(self.sizes, recipe)
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def batch_at(self, step: int) -> GraphBatch:
        """Return all targets of a step in one batch: a function of (recipe, step) alone."""
        return self._batch(self.plan.step(step), step)

    def rank_batches(
        self, step: int, *, rank: int = 0, size: int = 1, halvings: int = 0
    ) -> RankBatches:
        """Return the batches of one rank: the targets of :meth:`batch_at`, one batch per bin.

        Over all ranks, every target of the step comes once. A graph may be in several batches, with
        the same context in each. So a loss that is a mean over a graph has to be divided by the
        graph's targets in the whole step, ``totals``. An empty bin makes no batch, so a rank may
        have fewer batches than others, or none.

        Args:
            step: Number of steps done before.
            rank: Number of the rank. Default: 0.
            size: Number of ranks. Default: 1.
            halvings: Number of times that every bin is cut in half, on all ranks alike, because the
                batches were too large for memory. Default: 0.
        """
        bins = self.plan.bins(step)
        for _ in range(halvings):
            bins = [half for bin_ in bins for half in self.plan.halves(bin_)]
        costs = [sum(map(self.plan.cost, bins[r::size])) for r in range(size)]
        own = [place for place in range(rank, len(bins), size) if bins[place]]
        return RankBatches(
            batches=tuple(self._batch(bins[place], step) for place in own),
            places=tuple(own),
            totals={self.bank.names[v.graph]: v.num_targets for v in self.plan.step(step)},
            rounds=max(1, *(sum(map(bool, bins[r::size])) for r in range(size))),
            balance=max(costs) * size / sum(costs),
        )

    def val_groups(self, size: int = 4) -> list[list[int]]:
        """Return the graphs that have validation nodes, at most ``size`` in each group."""
        with_nodes = [g for g, nodes in enumerate(self.val_nodes) if len(nodes)]
        return [with_nodes[i : i + size] for i in range(0, len(with_nodes), size)]

    def val_batch(
        self, graphs: Sequence[int], num_targets: int, *, training: bool = False
    ) -> GraphBatch:
        """Return a batch of validation nodes, the same at every evaluation.

        Args:
            graphs: Positions of the graphs in the bank.
            num_targets: Largest number of nodes of each graph.
            training: If true, take training nodes instead. Default: false.
        """
        nodes = self.train_nodes if training else self.val_nodes
        targets = [subsample(nodes[g], num_targets, seed=[SPLIT_SEED, g]) for g in graphs]
        return make_batch(
            self.bank,
            list(graphs),
            targets,
            [self._context(g, EVALUATION) for g in graphs],
            num_neighbors=self.sampling.num_neighbors,
            seed=self.recipe.seed,
            epoch=EVALUATION,
        )

    def _batch(self, visits: Sequence[Visit], step: int) -> GraphBatch:
        """Return the batch of some visits of a step."""
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

    def _context(self, graph: int, step: int) -> Tensor:
        """Return the nodes of a graph that the encoder reads in a step."""
        if not self.recipe.model.encoder.num_latents:
            return torch.arange(0)  # without latents no part of the model reads a context
        key = self.bank.keys[graph] % 2**64
        seed = [self.recipe.seed, step, key]
        return sample_context(self._num_nodes(graph), self.sampling.max_context, seed=seed)

    def _num_nodes(self, graph: int) -> int:
        """Return the number of nodes of a graph."""
        return self.bank.offset[graph + 1] - self.bank.offset[graph]


def make_plan(sizes: Sequence[GraphSize], recipe: Recipe) -> Plan:
    """Plan the visits of every step.

    The cost of a graph and of a context node, in targets, is the recipe's ``graph_cost`` and
    ``context_cost`` if both are given. Otherwise it is counted in FLOPs of the recipe's model.

    Args:
        sizes: Size and weight of each graph, G of them.
        recipe: Sampling, seed and model.
    """
    sampling = recipe.sampling
    if sampling.graph_cost is not None and sampling.context_cost is not None:
        cost = StepCost(graph=sampling.graph_cost, context_node=sampling.context_cost)
    else:
        with torch.device("meta"):  # shapes are enough: no memory is allocated
            model = GraphFM(recipe.model, seed=recipe.seed)
        cost = step_cost(model, sampling.num_neighbors)
    return Plan(
        sizes,
        seed=recipe.seed,
        max_targets=sampling.max_targets,
        max_context=sampling.max_context,
        targets_per_step=sampling.targets_per_step,
        cost=cost,
        strategy=sampling.strategy,
        bins_per_step=sampling.bins_per_step,
    )


def fresh_model(recipe: Recipe, corpus: Corpus, device: torch.device) -> GraphFM:
    """Return the untrained model of a recipe, with all graphs of the corpus."""
    model = GraphFM(recipe.model, seed=recipe.seed)
    for spec in corpus.specs:
        model.add_graph(spec)
    return model.to(device)


def _split(graph: PreparedGraph, key: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Return the training nodes and the validation nodes of a graph."""
    if graph.y is None:
        raise DataError("GFM131", "a graph without labels cannot be trained on", where=graph.name)
    share = recipe.data.val_fraction
    parts = stratified_split(graph.y, (1 - share, share, 0.0), seed=SPLIT_SEED, ids=graph.node_ids)
    train, val = parts[0].nonzero().flatten(), parts[1].nonzero().flatten()
    most = max(2, round(recipe.data.node_share * len(train)))
    return subsample(train, most, seed=[recipe.seed, key % 2**64]), val
