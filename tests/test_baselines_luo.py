"""Our GCN, SAGE and GAT train step by step as the model of Luo et al. in PyG's own layers.

"Classic GNNs are strong baselines" (NeurIPS 2024, arXiv 2406.08993), LUOyk1999/tunedGNN.
"""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.nn import GATConv, GCNConv, SAGEConv
from torch_geometric.utils import add_self_loops, remove_self_loops, to_undirected

from graphfm.baselines import classic
from graphfm.baselines.classic import ConvStack
from graphfm.baselines.sparse import Matrix
from graphfm.baselines.task import Task
from graphfm.graphs.graph import Graph
from tests.test_baselines import blocks, thirds

NUM_NODES, STEPS = 60, 10
SETTINGS = {
    "inputs": "features",
    "width": 16,
    "depth": 3,
    "heads": 1,
    "dropout": 0.5,
    "input_dropout": 0.0,
    "head": True,
}


class LuoTask(Task):
    """A task in which all models see a self-loop on every node, SAGE too."""

    @cached_property
    def averaging(self) -> Matrix:
        """``(D + I)^-1 (A + I)``."""
        joined = self.attention.rows
        degree = joined.crow_indices().diff()
        shares = (1 / degree.float()).repeat_interleave(degree.long())
        places = (shares.numpy(), joined.col_indices().numpy(), joined.crow_indices().numpy())
        return Matrix.of(sparse.csr_array(places, shape=tuple(joined.shape)))


class Plain(nn.Module):
    """Their model in PyG's own layers."""

    def __init__(self, model: str, settings: dict[str, Any], num_features: int, num_classes: int):
        super().__init__()
        layer: Any = {"gcn": GCNConv, "sage": SAGEConv, "gat": GATConv}[model]
        more = {"add_self_loops": False, "bias": False} if model == "gat" else {}
        widths = [num_features, *[settings["width"]] * settings["depth"]]
        pairs = list(itertools.pairwise(widths))
        self.layers = nn.ModuleList(layer(*pair, **more) for pair in pairs)
        self.beside = nn.ModuleList(nn.Linear(*pair) for pair in pairs if settings["residual"])
        norm = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
        self.norms = nn.ModuleList(norm[settings["norm"]](width) for width in widths[1:])
        self.head = nn.Linear(widths[-1], num_classes)
        self.rate = settings["dropout"]

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Logits of all nodes, (N, C)."""
        for place, layer in enumerate(self.layers):
            h = layer(x, edge_index) + (self.beside[place](x) if self.beside else 0)
            x = F.dropout(self.norms[place](h).relu(), self.rate, training=self.training)
        return self.head(x)


def edges_of(graph: Graph) -> Tensor:
    """``edge_index`` as they make it: both ways, and a self-loop on every node."""
    edges, _ = remove_self_loops(to_undirected(graph.edge_index))
    return add_self_loops(edges, num_nodes=graph.num_nodes)[0]


def copy_weights(ours: ConvStack, theirs: Plain, model: str) -> None:
    """Give our stack the weights of theirs."""
    with torch.no_grad():
        for i, layer in enumerate(theirs.layers):
            maps = [layer.lin_l.weight, layer.lin_r.weight] if model == "sage" else []
            maps = maps or [layer.lin.weight]
            bias = layer.lin_l.bias if model == "sage" else torch.zeros_like(ours.bias[i])
            if theirs.beside:
                maps.append(theirs.beside[i].weight)
                bias = bias + theirs.beside[i].bias
            ours.maps[i].weight.copy_(torch.cat(maps).T)
            ours.bias[i].copy_(bias)
            if model == "gat":
                ours.convs[i].att_src.copy_(layer.att_src)
                ours.convs[i].att_dst.copy_(layer.att_dst)
        ours.head.load_state_dict(theirs.head.state_dict())


@pytest.mark.parametrize(
    ("model", "norm", "residual"),
    [
        ("gcn", "none", False),
        ("gcn", "layer", False),
        ("sage", "none", False),
        ("gat", "none", True),
        ("gat", "batch", True),
    ],
)
def test_training_is_theirs_step_by_step(model, norm, residual, monkeypatch):
    """The same losses step by step from the same weights and the same dropout.

    Only cases in which both have one bias in a layer: a residual gives theirs a second bias, except
    in GAT, which has none of its own. Seen to fail with dropout before the norm, where there is
    one, and with no weight decay on one side.
    """
    # Our dropout draws bytes from a generator; here both draw as PyTorch's dropout does.
    monkeypatch.setattr(
        classic, "dropout", lambda x, rate, rng: x if rng is None else F.dropout(x, rate)
    )
    graph = blocks(NUM_NODES)
    settings = {**SETTINGS, "norm": norm, "residual": residual}
    task = LuoTask.of(graph, *thirds(NUM_NODES)[:2])
    x, edge_index = task.inputs("features").x, edges_of(graph)
    train, y = torch.from_numpy(task.labels.train), torch.from_numpy(task.labels.y_train)
    torch.manual_seed(0)
    theirs, ours = Plain(model, settings, x.shape[1], 3), ConvStack(model, task, settings)
    copy_weights(ours, theirs, model)

    def losses(network: torch.nn.Module, logits) -> list[float]:
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=5e-3)
        values = []
        for step in range(STEPS):
            torch.manual_seed(step)
            optimizer.zero_grad()
            loss = F.cross_entropy(logits(), y)
            loss.backward()
            optimizer.step()
            values.append(loss.item())
        return values

    rng = torch.Generator()
    mine = losses(ours, lambda: ours(train, rng))
    other = losses(theirs, lambda: theirs(x, edge_index)[train])
    assert mine == pytest.approx(other, rel=1e-4)
    assert mine[-1] < mine[0]
