"""GraphFM as a whole: isolation of graphs, permutations, gradients and FLOPs."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from graphfm.config.load import load_recipe
from graphfm.config.parts import kinds
from graphfm.errors import DataError
from graphfm.model.cost import forward_flops
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from tests.graphs import batch_of, small_model, three_graphs

DECODERS = kinds("model.decoders")


def logits_of(model, batch):
    with torch.no_grad():
        return model(batch)


@pytest.mark.parametrize("kind", DECODERS)
def test_graphs_in_a_batch_are_independent(kind):
    """Graph 1 is replaced; graphs 0 and 2 keep their logits to the last bit.

    Fails when the encoder attends over the whole batch: checked with ``ptr = (0, N, N, N)``.
    """
    graphs = three_graphs()
    model = small_model(graphs, decoder={"kind": kind})
    bank = GraphBank(graphs)
    before = logits_of(model, batch_of(bank, [0, 1, 2]))
    rng = torch.Generator().manual_seed(1)
    own = slice(bank.offset[1], bank.offset[2])
    bank.pe[own] = torch.rand(bank.pe[own].shape, generator=rng)
    after = logits_of(model, batch_of(bank, [0, 1, 2]))
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert not torch.allclose(before[1], after[1])


@pytest.mark.parametrize("kind", DECODERS)
def test_packed_equals_one_at_a_time(kind):
    graphs = three_graphs()
    model = small_model(graphs, decoder={"kind": kind}).double()
    bank = GraphBank(graphs)
    bank.pe = bank.pe.double()
    bank.x = {name: x.double() for name, x in bank.x.items()}
    packed = logits_of(model, batch_of(bank, [0, 1, 2]))
    for g in range(3):
        alone = logits_of(model, batch_of(bank, [g]))
        torch.testing.assert_close(alone[0], packed[g], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", DECODERS)
def test_permuting_nodes_permutes_outputs(kind):
    """The order of nodes changes nothing if all neighbors and the whole graph are read."""
    graphs = three_graphs()[:1]
    model = small_model(graphs, decoder={"kind": kind}).double()
    graph = graphs[0]
    n = graph.num_nodes
    widest = int(graph.rowptr.diff().max())
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))  # new node i was order[i]
    new_place = order.argsort()
    row = torch.arange(n).repeat_interleave(graph.rowptr.diff())
    edges = torch.stack([new_place[row], new_place[graph.col]])
    edges = edges[:, (edges[0] * n + edges[1]).argsort()]
    degrees = graph.rowptr.diff()[order]
    turned = type(graph)(
        **{
            **graph.__dict__,
            "x": graph.x[order],
            "pe": graph.pe[order],
            "y": graph.y[order],
            "rowptr": torch.cat([torch.zeros(1, dtype=torch.int64), degrees.cumsum(0)]),
            "col": edges[1],
        }
    )
    outputs = []
    for each in (graph, turned):
        bank = GraphBank([each])
        bank.pe, bank.x = bank.pe.double(), {each.name: bank.x[each.name].double()}
        outputs.append(logits_of(model, batch_of(bank, [0], num_neighbors=widest))[0])
    torch.testing.assert_close(outputs[1], outputs[0][order], rtol=1e-9, atol=1e-9)


def test_prefix_equals_joint_under_the_prefix_mask():
    """Equal to 1e-5 with equal weights; joint attention without the mask is another function."""
    graphs = three_graphs()
    prefix = small_model(graphs, decoder={"kind": "prefix", "depth": 3, "num_heads": 4})
    joint = small_model(graphs, decoder={"kind": "joint", "depth": 3, "num_heads": 4})
    joint.load_state_dict(prefix.state_dict())
    batch = batch_of(GraphBank(graphs), [0, 1, 2])
    free = logits_of(joint, batch)
    joint.decoder.latents_read_nodes = False
    for mine, masked, unmasked in zip(
        logits_of(prefix, batch), logits_of(joint, batch), free, strict=True
    ):
        torch.testing.assert_close(mine, masked, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(unmasked, masked, atol=1e-3)


@pytest.mark.parametrize("kind", DECODERS)
def test_gradient_reaches_every_weight(kind):
    graphs = three_graphs()
    model = small_model(graphs, decoder={"kind": kind})
    batch = batch_of(GraphBank(graphs), [0, 1, 2])
    for share in (0.0, 1.0):  # each graph's own adapter, then the universal one
        model.train().shape = model.shape.model_copy(update={"universal_share": share})
        sum(logits.square().sum() for logits in model(batch)).backward()
    for name, param in model.named_parameters():
        assert param.grad is not None, name
        assert param.grad.abs().max() > 0, name


def test_a_graph_of_one_node_and_isolated_nodes_are_finite():
    graphs = three_graphs()
    model = small_model(graphs)
    bank = GraphBank(graphs)
    empty = torch.zeros_like(bank.rowptr)
    bank.rowptr = empty  # no edges at all
    batch = batch_of(bank, [0, 1, 2], targets=[torch.arange(1)] * 3)
    assert not batch.neighbor_mask.any()
    for logits in logits_of(model, batch):
        assert torch.isfinite(logits).all()


def test_latents_read_the_context_only():
    graphs = three_graphs()
    model = small_model(graphs)
    bank = GraphBank(graphs)
    batch = batch_of(bank, [0, 1, 2], max_context=10)
    tokens = model.tokens(batch)
    before = model.encode(batch, tokens)
    others = torch.ones(len(tokens), dtype=torch.bool)
    others[batch.context] = False
    assert others.any()
    tokens = tokens.detach().clone()
    tokens[others] = 99.0
    torch.testing.assert_close(model.encode(batch, tokens), before)


@pytest.mark.parametrize("kind", DECODERS)
def test_flops_equal_torchs_own_count(kind):
    """Every matrix product is counted, in the backend whose scores torch's counter can see."""
    graphs = three_graphs()
    model = small_model(graphs, decoder={"kind": kind, "depth": 3})
    batch = batch_of(GraphBank(graphs), [0, 2])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        logits_of(model, batch)
    assert forward_flops(model, batch) == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [("local-small", 0.4e6), ("base", 18e6), ("large", 75e6)],
)
def test_sizes_of_the_recipes(recipe, wanted):
    with torch.device("meta"):
        model = GraphFM(load_recipe(recipe).model, seed=0)
    counts = model.num_params()
    assert counts["trunk"] == pytest.approx(wanted, rel=0.05)
    assert counts["position"] + counts["encoder"] + counts["decoder"] == counts["trunk"]


def test_names_are_checked():
    graphs = three_graphs()
    model = small_model(graphs)
    with pytest.raises(DataError, match="GFM121"):
        model.add_graph(graphs[0].spec)
    with pytest.raises(DataError, match="GFM122"):
        model.head("delta")


def test_every_adapter_begins_alike_and_the_head_at_the_uniform_guess():
    graphs = three_graphs()
    fresh = GraphFM.from_config(small_model([]).config(), specs=[g.spec for g in graphs])
    batch = batch_of(GraphBank(graphs), [0, 1, 2])
    for logits in logits_of(fresh, batch):
        assert not logits.any()
    first, last = (fresh.adapter(g.name).state_dict() for g in (graphs[0], graphs[2]))
    assert torch.equal(first["ffn.up.weight"], last["ffn.up.weight"])
