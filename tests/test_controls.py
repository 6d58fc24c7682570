"""Control decoders equal the networks that they are named after; models work without encoder."""

import logging

import numpy as np
import pytest
import torch

from graphfm.checkpoint.folder import save_checkpoint
from graphfm.config.load import load_recipe
from graphfm.config.parts import config_class
from graphfm.config.recipe import ModelConfig
from graphfm.errors import GraphFMError
from graphfm.estimator import GraphFMClassifier
from graphfm.fitting.descent import DEPTHS
from graphfm.graphs.splits import with_split
from graphfm.model.cost import step_cost
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.training.corpus import Corpus
from tests.graphs import batch_of, small_model, stir, synthetic, three_graphs
from tests.test_decoders import LOCAL, PTR, READERS, built, inputs
from tests.test_pretrain import SMALL, run_of

NONE = {"kind": "none"}


@pytest.mark.parametrize("kind", ["gcn", "sage"])
def test_a_layer_is_pygs_on_the_star_of_those_that_are_there(kind):
    """Message passing equals the layer of PyG, in float64, for the target and every neighbor.

    Seen to fail without self-loops, with the neighbor's degree 1, and with a sum for the mean.
    """
    from torch_geometric.nn import GCNConv, SAGEConv

    layer = built(kind).layers[0]
    rng = torch.Generator().manual_seed(2)
    for there in ([1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]):
        x = torch.randn(1, 5, 32, generator=rng, dtype=torch.float64)
        weights = torch.tensor([there], dtype=torch.float64)
        target, neighbors = layer.norm(x).split([1, 4], dim=1)
        found = [
            layer.to_target(target[:, 0], neighbors, weights),
            layer.to_neighbors(target[:, 0], neighbors, weights)[0],
        ]
        names = [1 + i for i, yes in enumerate(there) if yes]
        edges = [(0, i) for i in names] + [(i, 0) for i in names]
        edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T
        conv = {"gcn": GCNConv, "sage": SAGEConv}[kind](32, 32).double()
        with torch.no_grad():
            if kind == "gcn":
                conv.lin.weight.copy_(layer.map.weight)
                conv.bias.copy_(layer.map.bias)
            else:
                conv.lin_l.weight.copy_(layer.near.weight)
                conv.lin_l.bias.copy_(layer.own.bias)
                conv.lin_r.weight.copy_(layer.own.weight)
        wanted = conv(layer.norm(x)[0], edge_index)
        torch.testing.assert_close(found[0], wanted[:1], rtol=1e-9, atol=1e-9)
        there_only = [i - 1 for i in names]
        torch.testing.assert_close(found[1][there_only], wanted[names], rtol=1e-9, atol=1e-9)


def test_the_transformer_is_joint_without_latents():
    """With equal weights, both are the same function."""
    transformer, joint = built("transformer"), built("joint")
    joint.load_state_dict(transformer.state_dict())
    target, neighbors, mask, latents = inputs()
    found = transformer(target, neighbors, mask, latents, PTR)
    wanted = joint(target, neighbors, mask, latents[:, :0], PTR)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [kind for kind in LOCAL if kind != "none"])
def test_every_neighbor_changes_the_target(kind):
    """Every neighbor changes the target, also with one layer."""
    for depth in (1, 3):
        module, (target, neighbors, _, latents) = built(kind, depth=depth), inputs()
        everyone = torch.ones(neighbors.shape[:2], dtype=torch.bool)
        before = module(target, neighbors, everyone, latents, PTR)
        for i in range(neighbors.shape[1]):
            other = neighbors.clone()
            other[:, i] += torch.randn(32, dtype=torch.float64)
            after = module(target, other, everyone, latents, PTR)
            assert not torch.isclose(after, before, rtol=1e-6, atol=1e-6).all(dim=1).any()


@pytest.mark.parametrize("kind", LOCAL)
def test_one_field_makes_a_model_without_encoder(kind):
    """No encoder is left in weights and config, and context nodes change nothing."""
    graphs = three_graphs()
    model = small_model(graphs, decoder={"kind": kind})  # and an encoder with 8 latents
    assert not [name for name in model.state_dict() if name.startswith("encoder")]
    assert model.num_params()["encoder"] == model.encoder.num_latents == 0
    assert model.config()["encoder"] == NONE
    again = GraphFM.from_config(model.config())
    assert again.config() == model.config()
    bank = GraphBank(graphs)
    with torch.no_grad():
        whole = model(batch_of(bank, [0, 1, 2]))
    assert all(torch.isfinite(logits).all() for logits in whole)
    assert step_cost(model, 4).graph == step_cost(model, 4).context_node == 0.0


def test_an_encoder_that_is_read_stays():
    """A decoder that reads latents refuses ``none``: attention to no key ended the process."""
    for kind in READERS:
        assert ModelConfig(decoder={"kind": kind}).encoder.kind == "perceiver"
        with pytest.raises(GraphFMError, match=rf"model\.encoder.*{kind} reads latents"):
            load_recipe("demo", [f"model.decoder.kind={kind}", "model.encoder={kind: none}"])


@pytest.mark.parametrize("kind", LOCAL)
def test_an_override_of_kind_alone_is_enough(kind, caplog):
    """Attention heads are dropped if the kind has none; another wrong key stays an error."""
    with caplog.at_level(logging.INFO, "graphfm.config.load"):
        recipe = load_recipe("local-small", [f"model.decoder.kind={kind}"])
    assert (recipe.model.decoder.kind, recipe.model.encoder.kind) == (kind, "none")
    assert recipe.model.decoder.depth == 2  # what fits stays
    assert ("num_heads=4" in caplog.text) == (kind != "transformer")
    with pytest.raises(GraphFMError, match="depht"):
        load_recipe("local-small", ["model.decoder.depht=3", f"model.decoder.kind={kind}"])


def test_all_controls_take_the_same_steps():
    """Targets, labels and neighbors of every step are equal. There is no context without encoder.

    Seen to fail with the plan's costs left to the model.
    """
    costs = ["sampling.graph_cost=8.0", "sampling.context_cost=0.03"]
    graphs, seen = three_graphs(), {}
    for kind in ("prefix", *LOCAL):
        recipe = load_recipe("demo", [*SMALL, *costs, f"model.decoder.kind={kind}"])
        corpus = Corpus(graphs, [1.0, 2.0, 5.0], recipe, device=torch.device("cpu"))
        batches = [corpus.batch_at(step) for step in range(6)]
        seen[kind] = [
            (b.names, b.n_id.tolist(), torch.cat(b.y).tolist(), b.pe[b.neighbors].sum().item())
            for b in batches
        ]
        assert all((len(b.context) > 0) == (kind == "prefix") for b in batches)
    assert all(steps == seen["prefix"] for steps in seen.values())
    with pytest.raises(GraphFMError, match="set both"):
        load_recipe("demo", costs[:1])


@pytest.mark.parametrize("kind", LOCAL)
def test_it_pretrains_is_kept_and_fits_a_graph(kind, tmp_path):
    """Covers pretraining, resume, checkpoint with its novelty cloud, and every depth of fitting."""
    run_of(tmp_path, f"model.decoder.kind={kind}", "train.steps=6").train()
    receipt = run_of(tmp_path, f"model.decoder.kind={kind}").train()
    assert receipt["finished"] and receipt["params"]["encoder"] == 0
    model = GraphFM.from_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "again", model, meta={"name": "again"})
    copied = GraphFM.from_checkpoint(tmp_path / "again").state_dict()
    assert all(torch.equal(v, copied[k]) for k, v in model.state_dict().items())
    graph = with_split(synthetic("mine", num_nodes=100, num_features=7, seed=5), seed=0)
    for tune in DEPTHS:
        classifier = GraphFMClassifier(checkpoint=model, tune=tune, max_steps=2).fit(graph)
        proba = classifier.predict_proba(mask=graph.test_mask)
        assert np.isfinite(proba).all() and classifier.score(mask=graph.test_mask) > 0


@pytest.mark.parametrize("depth", [0, 1])
def test_without_a_trunk_the_state_depends_on_the_token_only(depth):
    """Neighbors and latents change nothing; without layers the state is the normalized token."""
    module = config_class("model.decoders", "none")(depth=depth).build(dim=32).double()
    stir(module)
    target, neighbors, mask, latents = inputs()
    found = module(target, neighbors, mask, latents, PTR)
    other = module(target, neighbors + 1, ~mask, latents + 1, PTR)
    assert torch.equal(found, other)
    assert torch.equal(found, module.norm(target)) == (depth == 0)
