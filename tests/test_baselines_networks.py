"""The networks against PyG's own layers on a list of edges, and against their papers' formulas."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Linear
from torch_geometric.nn import APPNP, GATConv, GCN2Conv, GCNConv, SAGEConv
from torch_geometric.nn.models import CorrectAndSmooth

from graphfm.baselines import correct_and_smooth, gcnii, gprgnn, nagphormer
from graphfm.baselines.classic import KINDS, KIPF, ConvStack
from graphfm.baselines.task import Task
from tests.test_baselines import blocks, thirds

NUM_NODES = 60
EVERY = torch.arange(NUM_NODES)
FEATURES = {"inputs": "features"}


@pytest.fixture
def task() -> Task:
    graph = blocks(NUM_NODES)
    return Task.of(graph, *thirds(NUM_NODES)[:2])


def same_gradients(ours: torch.Tensor, theirs: torch.Tensor, pairs) -> None:
    """The same outputs, and the same gradients in each pair of weights."""
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    weights = torch.randn(ours.shape)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    for mine, other in pairs:
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_sage_is_the_sage_of_pyg(task):
    """A linear map before the mean is one after it. Seen to fail with A D^-1 for D^-1 A."""
    model = ConvStack("sage", task, {**KIPF, **FEATURES, "depth": 1})
    layer = SAGEConv(task.inputs("features").num_columns, 3)
    with torch.no_grad():
        of_mean, of_self = model.maps[0].weight.chunk(2, dim=1)
        layer.lin_l.weight.copy_(of_mean.T)
        layer.lin_r.weight.copy_(of_self.T)
        layer.lin_l.bias.copy_(model.bias[0])
    theirs = layer(task.inputs("features").x, task.graph.edge_index)
    same_gradients(model(EVERY, None), theirs, [(model.bias[0], layer.lin_l.bias)])
    of_mean, of_self = model.maps[0].weight.grad.chunk(2, dim=1)
    torch.testing.assert_close(of_mean.T, layer.lin_l.weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(of_self.T, layer.lin_r.weight.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("heads", (1, 3))
def test_gat_is_the_gat_of_pyg(task, heads):
    """Seen to fail without self-loops, and with the weights of the transpose not turned."""
    model = ConvStack(
        "gat", task, {**KIPF, **FEATURES, "depth": 1, "head": True, "width": 12, "heads": heads}
    )
    attention = model.convs[0]
    with torch.no_grad():
        attention.att_src.mul_(20)  # else all neighbors weigh the same
    layer = GATConv(task.inputs("features").num_columns, 12 // heads, heads=heads)
    with torch.no_grad():
        layer.lin.weight.copy_(model.maps[0].weight.T)
        layer.att_src.copy_(attention.att_src)
        layer.att_dst.copy_(attention.att_dst)
        ours_head = model.head.weight.clone(), model.head.bias.clone()
    hidden = layer(task.inputs("features").x, task.graph.edge_index).relu()
    theirs = torch.nn.functional.linear(hidden, *ours_head)
    pairs = [(attention.att_src, layer.att_src), (attention.att_dst, layer.att_dst)]
    same_gradients(model(EVERY, None), theirs, pairs)
    weight = model.maps[0].weight.grad.T
    torch.testing.assert_close(weight, layer.lin.weight.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("residual", (False, True))
@pytest.mark.parametrize("kind", KINDS)
def test_biases_begin_as_those_of_pyg(task, kind, residual):
    """As wide as those of the linear maps that PyG has there. Seen to fail with all zero."""
    width = 4096
    settings = {**KIPF, **FEATURES, "depth": 1, "head": True, "width": width, "residual": residual}
    num_features = task.inputs("features").num_columns
    theirs = {
        "mlp": Linear(num_features, width).bias,
        "gcn": GCNConv(num_features, width).bias,
        "sage": SAGEConv(num_features, width).lin_l.bias,
        "gat": GATConv(num_features, width).bias,
    }[kind].abs()
    if residual and kind in ("gcn", "gat"):
        theirs = theirs + Linear(num_features, width).bias.abs()
    (ours,) = (bias.abs() for bias in ConvStack(kind, task, settings).bias)
    torch.testing.assert_close(ours.max(), theirs.max(), atol=0, rtol=0.01)
    torch.testing.assert_close(ours.mean(), theirs.mean(), atol=0, rtol=0.05)


def test_gat_holds_with_scores_far_apart(task):
    """Seen to fail (0 / 0) with scores taken relative to the largest of the whole graph."""
    model = ConvStack("gat", task, {**KIPF, **FEATURES, "depth": 1, "head": True})
    with torch.no_grad():
        model.convs[0].att_src.mul_(1000)
    assert bool(model(EVERY, None).isfinite().all())


def test_gcnii_is_that_of_pyg(task):
    """Seen to fail with all layers numbered 1."""
    settings = {**gcnii.DEFAULTS, **FEATURES, "depth": 3, "width": 8}
    model = gcnii.GCNII(task, settings)
    torch.nn.init.normal_(model.bias)
    hidden = first = (task.inputs("features").x @ model.first.weight + model.bias).relu()
    pairs = []
    for number, mine in enumerate(model.layers, start=1):
        layer = GCN2Conv(8, alpha=0.1, theta=0.5, layer=number)
        layer.load_state_dict(mine.state_dict())
        hidden = layer(hidden, first, task.graph.edge_index).relu()
        pairs.append((mine.weight1, layer.weight1))
    theirs = hidden @ model.last.weight.T.detach() + model.last.bias.detach()
    same_gradients(model(EVERY, None), theirs, pairs)


def test_gprgnn_begins_as_appnp(task):
    """With its first gammas it is personalised PageRank. Seen to fail with gamma_K left as is."""
    model = gprgnn.GPRGNN(task, {**gprgnn.DEFAULTS, **FEATURES, "alpha": 0.2})
    far = model.last((task.inputs("features").x @ model.first.weight + model.bias).relu())
    theirs = APPNP(gprgnn.HOPS, 0.2)(far, task.graph.edge_index)
    torch.testing.assert_close(model(EVERY, None), theirs, atol=1e-5, rtol=1e-4)
    model(EVERY, None).sum().backward()
    assert bool((model.gamma.grad != 0).all())


def test_nagphormer_reads_averages_of_features(task):
    """Tokens averaged after their map are those averaged before; chunks change nothing.

    Seen to fail with the bias averaged too.
    """
    model = nagphormer.NAGphormer(task, {**nagphormer.DEFAULTS, **FEATURES, "hops": 3})
    torch.nn.init.normal_(model.bias)  # it begins as zero, and zero has nothing to average
    hops = [task.inputs("features").x]
    for _ in range(3):
        hops.append(task.convolution.rows.to_dense() @ hops[-1])
    tokens = torch.stack(hops, dim=1) @ model.first.weight + model.bias
    torch.testing.assert_close(
        model(EVERY, None), model._logits(tokens, None), atol=1e-5, rtol=1e-4
    )
    some = torch.tensor([5, 3])
    torch.testing.assert_close(model(some, None), model(EVERY, None)[some], atol=1e-5, rtol=1e-4)


def test_correct_and_smooth_is_that_of_pyg(task):
    """From the same base. Seen to fail with errors not scaled, and with labels not put in."""
    settings = {**correct_and_smooth.DEFAULTS, **FEATURES, "strength": 0.1}
    ours = correct_and_smooth._fit(task, settings, seed=0, deadline=0)
    (base,) = task.cache.values()
    post = CorrectAndSmooth(100, 0.8, 100, 0.8, autoscale=True)
    mask = torch.from_numpy(task.labels.train)
    truth = torch.from_numpy(task.labels.y_train)
    edges = task.graph.edge_index
    corrected = post.correct(torch.from_numpy(base).float(), truth, mask, edges)
    theirs = post.smooth(corrected, truth, mask, edges)
    theirs = theirs / theirs.sum(dim=1, keepdim=True)
    torch.testing.assert_close(torch.from_numpy(ours).float(), theirs, atol=2e-3, rtol=1e-3)
