"""Cost of a forward pass in FLOPs (multiply-adds times 2), from the counters of the parts."""

from __future__ import annotations

from graphfm.model.graphfm import GraphFM
from graphfm.sampling.batch import GraphBatch
from graphfm.sampling.plan import StepCost

USUAL_FEATURES = 128  # columns of a typical graph, for a cost per token before any graph is read


def forward_flops(model: GraphFM, batch: GraphBatch) -> int:
    """Count the FLOPs of a forward pass; forward and backward together cost three times as many."""
    num_graphs, num_neighbors = len(batch.names), batch.neighbors.shape[1]
    adapters = sum(
        model.adapter(name).flops(len(x)) for name, x in zip(batch.names, batch.x, strict=True)
    )
    position = model.position.flops(len(batch.pe))
    encoder = model.encoder.flops(len(batch.context), num_graphs)
    decoder = model.decoder.flops(
        batch.num_targets, num_neighbors, num_graphs, model.encoder.num_latents
    )
    heads = sum(
        2 * size * model.head(name).score.weight.numel()
        for name, size in zip(batch.names, batch.sizes, strict=True)
    )
    return adapters + position + encoder + decoder + heads


def step_cost(model: GraphFM, num_neighbors: int) -> StepCost:
    """Return the cost of a graph and of a context node, in units of the cost of a target.

    Args:
        model: The model.
        num_neighbors: Sampled neighbors T of each target.
    """
    num_latents = model.encoder.num_latents
    adapter = model.shape.adapter.build(num_features=USUAL_FEATURES, dim=model.shape.dim)
    token = model.position.flops(1) + adapter.flops(1)
    graph = model.encoder.flops(0, 2) - model.encoder.flops(0, 1)
    graph += model.decoder.flops(0, num_neighbors, 1, num_latents)
    context = model.encoder.flops(1, 1) - model.encoder.flops(0, 1)
    context += token if num_latents else 0.0  # without an encoder there are no context tokens
    target = model.decoder.flops(1, num_neighbors, 0, num_latents)
    target += (1 + num_neighbors) * token
    return StepCost(graph=graph / target, context_node=context / target)
