"""Recipes: strict schema, extends and overrides, helpful errors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphfm.config.load import load_recipe, recipe_names
from graphfm.config.parts import validated
from graphfm.config.recipe import Recipe, seconds
from graphfm.errors import RecipeError

SIMPLE = "name: mine\ndata: {mixture: demo}\n"


def written(tmp_path, text, name="mine.yaml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_recipe_is_valid_and_resolves_to_itself(tmp_path):
    assert len(recipe_names()) >= 4
    for name in recipe_names():
        recipe = load_recipe(name)
        again = load_recipe(written(tmp_path, recipe.to_yaml(), "again.yaml"))
        assert again == recipe


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("optim: {lr: 1}", "GFM201", "unknown key optim"),
        ("train:\n  lrr: 1", "GFM201", "Did you mean 'lr'"),
        ("model:\n  encoder: {kind: perceiver, dpth: 2}", "GFM201", "Did you mean 'depth'"),
        ("model:\n  encoder: {kind: percevier}", "GFM202", "Did you mean 'perceiver'"),
        ("train:\n  steps: many", "GFM203", "many"),
        ("train:\n  steps: -1", "GFM203", "-1"),
        ("train: {steps: 10, warmup_steps: 20}", "GFM203", "warmup_steps=20"),
        ("seed: no", "GFM203", "False"),
        ("train: [", "GFM205", "YAML"),
    ],
)
def test_a_wrong_recipe_says_what_and_where(tmp_path, text, code, says):
    path = written(tmp_path, SIMPLE + text)
    with pytest.raises(RecipeError, match=code) as caught:
        load_recipe(path)
    assert says in str(caught.value)
    assert "mine.yaml" in caught.value.where


def test_the_line_of_a_wrong_key_is_named(tmp_path):
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, SIMPLE + "train:\n  lr: 0.1\n  steps: many\n"))
    assert "line 5" in caught.value.where


def test_numbers_that_yaml_reads_as_text_become_numbers(tmp_path):
    """PyYAML reads 1e-3 as text; the schema makes it a number again."""
    recipe = load_recipe(written(tmp_path, SIMPLE + "train: {lr: 1e-3, max_time: 30m}"))
    assert recipe.train.lr == 1e-3
    assert recipe.train.max_time == 1800.0


def test_overrides_use_the_keys_of_the_file(tmp_path):
    path = written(tmp_path, SIMPLE)
    recipe = load_recipe(path, ["train.steps=7", "train.warmup_steps=1", "model.dim=64"])
    assert (recipe.train.steps, recipe.model.dim) == (7, 64)
    with pytest.raises(RecipeError, match="GFM201"):
        load_recipe(path, ["train.stepz=7"])
    with pytest.raises(RecipeError, match="GFM204"):
        load_recipe(path, ["train.steps"])


def test_extends_merges_and_another_kind_replaces_the_part(tmp_path):
    written(tmp_path, SIMPLE + "model: {dim: 64, decoder: {kind: prefix, depth: 3}}", "base.yaml")
    near = load_recipe(written(tmp_path, "extends: base.yaml\nmodel: {decoder: {num_heads: 8}}"))
    assert (near.model.dim, near.model.decoder.depth, near.model.decoder.num_heads) == (64, 3, 8)
    far = load_recipe(written(tmp_path, "extends: base.yaml\nmodel: {decoder: {kind: joint}}"))
    assert (far.model.decoder.kind, far.model.decoder.depth) == ("joint", 2)
    with pytest.raises(RecipeError, match="circle"):
        load_recipe(written(tmp_path, "extends: mine.yaml"))


def test_a_recipe_that_does_not_exist():
    with pytest.raises(RecipeError, match="Did you mean 'local-small'"):
        load_recipe("local-smal")


words = st.text("abcdefgh_", min_size=1, max_size=6)
trees = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(0, 1) | words,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(words, below, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*Recipe.model_fields, "other"]), trees, max_size=5))
def test_any_tree_is_a_recipe_or_a_recipe_error(values):
    try:
        validated(Recipe, values)
    except RecipeError:
        pass


def test_seconds_leaves_other_things_alone():
    assert [seconds(v) for v in ("90s", "1.5h", 12, None, "x")] == [90.0, 5400.0, 12, None, "x"]
