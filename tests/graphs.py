"""Small graphs for tests: real code, no mocks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphfm.checkpoint.manifest import list_file
from graphfm.checkpoint.split_json import PARTS, SPLIT_JSON, split_text
from graphfm.config.recipe import ModelConfig
from graphfm.graphs.catalog.sources.synthetic import Config
from graphfm.graphs.features.prepare import PreparedGraph, prepare
from graphfm.graphs.graph import Graph
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import GraphBatch, make_batch, sample_context
from graphfm.storage import whole_file


def synthetic(name: str = "small", **fields: object) -> Graph:
    """Return a block model of 120 nodes; ``fields`` override its settings."""
    values = {
        "seed": 0,
        "num_nodes": 120,
        "mean_degree": 5.0,
        "num_classes": 3,
        "homophily": 0.8,
        "num_features": 6,
        "feature_signal": 1.5,
    }
    return Config(**{**values, **fields}).build(name=name, data=Path("unused"))


def three_graphs() -> list[PreparedGraph]:
    """Return graphs that differ in size, width and classes; one has no features."""
    return [
        prepare(synthetic("alpha", num_nodes=40, num_features=6)),
        prepare(synthetic("beta", num_nodes=90, num_features=0, num_classes=2, seed=1)),
        prepare(synthetic("gamma", num_nodes=60, num_features=9, num_classes=4, seed=2)),
    ]


def small_model(graphs: list[PreparedGraph], **config: object) -> GraphFM:
    """Return a model of width 32 with noise on all weights, so that its outputs differ."""
    parts = {
        "encoder": {"kind": "perceiver", "num_latents": 8, "depth": 2, "num_heads": 4},
        "decoder": {"kind": "prefix", "depth": 2, "num_heads": 4},
    }
    model = GraphFM(ModelConfig(**{"dim": 32, **parts, **config}), seed=0)
    for graph in graphs:
        model.add_graph(graph.spec)
    stir(model)
    return model.eval()


def stir(model: torch.nn.Module) -> None:
    """Add noise to every weight: weights of zero hide mistakes."""
    rng = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for param in model.parameters():
            param.add_(0.2 * torch.randn(param.shape, generator=rng, dtype=param.dtype))


def batch_of(
    bank: GraphBank,
    graphs: list[int],
    *,
    targets: list[Tensor] | None = None,
    num_neighbors: int = 4,
    max_context: int = 1000,
    epoch: int = 0,
) -> GraphBatch:
    """Return a batch of some graphs; by default, all their nodes are targets."""
    sizes = [bank.offset[g + 1] - bank.offset[g] for g in graphs]
    return make_batch(
        bank,
        graphs,
        targets or [torch.arange(n) for n in sizes],
        [sample_context(n, max_context, seed=[0]) for n in sizes],
        num_neighbors=num_neighbors,
        seed=0,
        epoch=epoch,
    )


def save_split(folder: Path, graph: Graph, facts: Mapping[str, Any]) -> None:
    """Write ``split.json`` as version 0.1.0 did, into the folder of a fitted model.

    Args:
        folder: Folder of the fitted model.
        graph: The graph with its split.
        facts: Arguments of the fit and its results, as plain data.
    """
    ids = graph.ids()
    nodes = {
        part: [ids[i] for i in mask.nonzero().flatten().tolist()]
        for part in PARTS
        if (mask := getattr(graph, f"{part}_mask")) is not None
    }
    with whole_file(folder / SPLIT_JSON) as path:
        path.write_text(split_text(nodes, facts), encoding="utf-8")
    list_file(folder, SPLIT_JSON)
