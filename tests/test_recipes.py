"""Every recipe that ships: it reads, builds its model, and says what it needs."""

import pytest

from graphfm.config import load_recipe, recipe_names
from graphfm.model import GraphFM

# Trunk parameters that a recipe stands for; the paper states 389K, 18M and 75M.
SIZES = {
    "paper-389k": 389e3,
    "paper-18m": 18e6,
    "paper-75m": 75e6,
    "local-small": 0.4e6,
    "base": 18e6,
    "large": 75e6,
    "demo": 0.2e6,
}


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
    """What arXiv 2407.11907 states: 512 latents, the joint decoder, LAMB, 152 graphs, the size."""
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
