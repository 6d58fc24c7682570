"""Every recipe of the package can be read, builds its model, and states its requirements."""

import pytest

from graphfm.config.load import load_recipe, recipe_names
from graphfm.model.cost import step_cost
from graphfm.model.graphfm import GraphFM

# Trunk parameters that a recipe stands for; the paper states 389K, 18M and 75M.
SIZES = {
    "paper-389k": 389e3,
    "paper-18m": 18e6,
    "paper-75m": 75e6,
    "local-small": 0.4e6,
    "graphfm-small": 0.87e6,
    "base": 18e6,
    "large": 75e6,
    "demo": 0.2e6,
    "perceiver": 0.4e6,
    "gcn-params": 0.4e6,
    "sage-params": 0.4e6,
    "transformer-params": 0.4e6,
    "none-params": 0.4e6,
    "gcn-flops": 0.27e6,
    "sage-flops": 0.29e6,
    "transformer-flops": 0.27e6,
    "none-flops": 2.3e6,
}
CONTROLS = [name for name in recipe_names() if name.startswith("controls/")]
# A step of local-152 under the controls' plan has on average so many targets, graphs, context
# nodes, and tokens, with a context and without: means of its first 60 steps with seed 0.
STEP = {"targets": 417, "graphs": 3.28, "context": 2366, "tokens": 4175, "tokens_local": 2365}


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_builds_its_model_and_says_what_it_needs(name):
    recipe = load_recipe(name)
    trunk = GraphFM(recipe.model, seed=recipe.seed).num_params()["trunk"]
    assert trunk == pytest.approx(SIZES[recipe.name], rel=0.2)
    assert "CPU" in recipe.about or "GPU" in recipe.about or "A40" in recipe.about
    assert "loss" in recipe.about.lower()
    assert recipe.train.steps > recipe.train.warmup_steps


@pytest.mark.parametrize("name", ["paper-389k", "paper-18m", "paper-75m"])
def test_the_papers_recipes_are_the_papers(name):
    """Values of arXiv 2407.11907: 512 latents, the joint decoder, LAMB, 152 graphs, the size."""
    recipe = load_recipe(name)
    assert recipe.model.encoder.num_latents == 512
    assert recipe.model.decoder.kind == "joint"
    assert recipe.train.optimizer == "lamb"
    assert recipe.data.mixture == "paper-152"
    assert recipe.model.universal_share == 0
    trunk = GraphFM(recipe.model, seed=0).num_params()["trunk"]
    assert trunk == pytest.approx(SIZES[name], rel=0.02)


def test_every_size_is_of_a_recipe():
    assert {name.rsplit("/", 1)[-1] for name in recipe_names()} == set(SIZES)


def flops_of_a_step(model):
    """Return the FLOPs of an average step of local-152; see ``STEP``."""
    num_latents = model.encoder.num_latents
    tokens = STEP["tokens" if num_latents else "tokens_local"]
    adapter = model.shape.adapter.build(num_features=128, dim=model.shape.dim)
    return (
        adapter.flops(tokens)
        + model.position.flops(tokens)
        + model.encoder.flops(STEP["context"], 1) * (num_latents > 0)
        + (STEP["graphs"] - 1) * (model.encoder.flops(0, 2) - model.encoder.flops(0, 1))
        + model.decoder.flops(STEP["targets"], 16, 0, num_latents)
        + STEP["graphs"] * model.decoder.flops(0, 16, 1, num_latents)
    )


@pytest.mark.parametrize("name", [name for name in CONTROLS if "-" in name])
def test_a_control_differs_in_its_trunk_alone_and_matches_it(name):
    """Parameters of the trunk, or FLOPs of a step, match within 5%; all other keys are equal.

    Seen to fail with one layer more, and with ffn_mult one more, in each of the eight.
    """
    control, perceiver = load_recipe(name), load_recipe("controls/perceiver")
    differ = {k for k, v in control if getattr(perceiver, k) != v}
    assert differ == {"name", "about", "model"}
    differ = {k for k, v in control.model if getattr(perceiver.model, k) != v}
    assert differ == {"encoder", "decoder"} and control.model.encoder.kind == "none"
    models = [GraphFM(recipe.model, seed=0) for recipe in (control, perceiver)]
    if name.endswith("-params"):
        own, wanted = (model.num_params()["trunk"] for model in models)
    else:
        own, wanted = map(flops_of_a_step, models)
    assert own == pytest.approx(wanted, rel=0.05)


def test_the_controls_plan_is_local_smalls():
    """Costs are fixed in the recipe, so that all take the same steps as local-small."""
    recipe = load_recipe("controls/perceiver")
    cost = step_cost(GraphFM(recipe.model, seed=0), recipe.sampling.num_neighbors)
    assert recipe.sampling.graph_cost == pytest.approx(cost.graph, rel=0.01)
    assert recipe.sampling.context_cost == pytest.approx(cost.context_node, rel=0.01)
    assert recipe.model == load_recipe("local-small").model
