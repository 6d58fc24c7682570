"""Every part of every family passes the same tests as soon as its file exists."""

import pytest
import torch
from safetensors.torch import load, save

from graphfm.config.parts import config_class, kinds
from graphfm.errors import RecipeError
from tests.graphs import stir

FAMILIES = [
    "model.adapters",
    "model.encoders",
    "model.decoders",
    "model.heads",
    "training.objectives",
]
PARTS = [(family, kind) for family in FAMILIES for kind in kinds(family)]
ARGUMENTS = {
    "model.adapters": {"num_features": 6, "dim": 32},
    "model.encoders": {"dim": 32},
    "model.decoders": {"dim": 32},
    "model.heads": {"dim": 32, "num_classes": 3},
}


def built(family, kind):
    module = config_class(family, kind)().build(**ARGUMENTS[family])
    stir(module)
    return module.eval()


def run(family, module, rng):
    """Call a part with packed graphs of 5 and 4 nodes, or 9 targets."""
    if family == "model.adapters":
        return module(torch.randn(9, 6, generator=rng))
    if family == "model.encoders":
        return module(torch.randn(9, 32, generator=rng), (0, 5, 9))
    if family == "model.decoders":
        mask = torch.rand(9, 4, generator=rng) < 0.7
        local = torch.randn(9, 5, 32, generator=rng)
        latents = torch.randn(2, 7, 32, generator=rng)
        return module(local[:, 0], local[:, 1:], mask, latents, (0, 5, 9))
    return module(torch.randn(9, 32, generator=rng))


def test_there_are_parts():
    known = {"mlp", "perceiver", "joint", "prefix", "classify", "multilabel", "regress"}
    controls = {"gcn", "sage", "transformer", "none"}
    assert known | controls | {"supervised"} <= {kind for _, kind in PARTS}


@pytest.mark.parametrize(("family", "kind"), PARTS)
def test_config_knows_its_kind_and_survives_json(family, kind):
    config = config_class(family, kind)()
    assert config.kind == kind
    assert type(config).model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValueError, match="extra"):
        type(config)(no_such_key=1)


NOTHING = ("model.encoders", "none")  # no weights, and no numbers to compare; see its own test
MODULES = [p for p in PARTS if p[0] in ARGUMENTS and p != NOTHING]


@pytest.mark.parametrize(("family", "kind"), MODULES)
def test_saved_and_loaded_it_gives_the_same(family, kind):
    module = built(family, kind)
    twin = config_class(family, kind)().build(**ARGUMENTS[family]).eval()
    twin.load_state_dict(load(save({k: v.contiguous() for k, v in module.state_dict().items()})))
    first = run(family, module, torch.Generator().manual_seed(0))
    again = run(family, twin, torch.Generator().manual_seed(0))
    torch.testing.assert_close(again, first)  # not bit for bit: loaded weights lie elsewhere


@pytest.mark.parametrize(("family", "kind"), MODULES)
def test_gradient_reaches_every_weight(family, kind):
    module = built(family, kind).train()
    run(family, module, torch.Generator().manual_seed(0)).square().sum().backward()
    for name, param in module.named_parameters():
        assert param.grad is not None and param.grad.abs().max() > 0, name


@pytest.mark.parametrize(("family", "kind"), MODULES)
def test_bf16_is_close_to_float32(family, kind):
    """The difference is below 5% of the output: bf16 keeps 8 bits."""
    module = built(family, kind)
    exact = run(family, module, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = run(family, module, torch.Generator().manual_seed(0))
    assert (rough.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("kind", [kind for family, kind in MODULES if family == "model.encoders"])
def test_encoders_do_not_mix_graphs_and_do_not_care_for_order(kind):
    module = built("model.encoders", kind)
    rng = torch.Generator().manual_seed(0)
    tokens = torch.randn(9, 32, generator=rng)
    before = module(tokens, (0, 5, 9))
    changed = tokens.clone()
    changed[5:] = torch.randn(4, 32, generator=rng)
    after = module(changed, (0, 5, 9))
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1])
    order = torch.tensor([3, 0, 4, 1, 2, 7, 8, 5, 6])
    torch.testing.assert_close(module(tokens[order], (0, 5, 9)), before, rtol=1e-4, atol=1e-5)
    alone = torch.cat([module(tokens[:5], (0, 5)), module(tokens[5:], (0, 4))])
    torch.testing.assert_close(alone, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", kinds("model.decoders"))
def test_decoders_read_their_own_graph_and_no_masked_neighbor(kind):
    module = built("model.decoders", kind)
    rng = torch.Generator().manual_seed(0)
    local = torch.randn(9, 5, 32, generator=rng)
    latents = torch.randn(2, 7, 32, generator=rng)
    mask = torch.rand(9, 4, generator=rng) < 0.7
    before = module(local[:, 0], local[:, 1:], mask, latents, (0, 5, 9))
    neighbors = torch.where(mask[..., None], local[:, 1:], torch.tensor(1e6))
    other = latents.clone()
    other[1] = torch.randn(7, 32, generator=rng)
    after = module(local[:, 0], neighbors, mask, other, (0, 5, 9))
    torch.testing.assert_close(after[:5], before[:5])
    reads_latents = config_class("model.decoders", kind).reads_latents
    assert torch.equal(after[5:], before[5:]) != reads_latents


def test_no_encoder_gives_no_latents_of_every_graph():
    module = built(*NOTHING)
    found = run("model.encoders", module, torch.Generator())
    assert found.shape == (2, 0, 32) and not list(module.parameters())
    assert module.num_latents == module.flops(9, 2) == 0


@pytest.mark.parametrize("kind", kinds("model.heads"))
def test_an_unlabelled_target_teaches_nothing(kind):
    head = built("model.heads", kind)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.tensor([0, -1, 2, 1])
    if kind == "multilabel":
        y = torch.tensor([[0, 1, 1], [-1, -1, -1], [1, 0, 0], [0, 0, 1]], dtype=torch.int8)
    if kind == "regress":
        y = torch.tensor([0.5, torch.nan, 2.0, -1.0], dtype=torch.float64)
    head.loss(logits, y).sum().backward()
    assert not logits.grad[1].any()
    assert logits.grad[0].any()


@pytest.mark.parametrize("kind", kinds("model.heads"))
def test_the_uniform_guess_costs_one(kind):
    """For a number, the uniform guess is the mean; the loss is averaged over the targets."""
    head = built("model.heads", kind)
    if kind == "regress":
        y = torch.tensor([2001.0, 2003.0, torch.nan], dtype=torch.float64)
        head.fit_scale(y)
        zeros = torch.zeros(3, 1)
        torch.testing.assert_close(head.loss(zeros, y), torch.tensor([1.0, 1.0, 0.0]))
        assert head.values(zeros).tolist() == [2002.0] * 3
        return
    y = torch.ones(2, 3, dtype=torch.int8) if kind == "multilabel" else torch.tensor([0, 2])
    torch.testing.assert_close(head.loss(torch.zeros(2, 3), y), torch.ones(2))


def test_an_unknown_kind_is_an_error_with_a_hint():
    with pytest.raises(RecipeError, match="Did you mean 'perceiver'"):
        config_class("model.encoders", "perciever")
