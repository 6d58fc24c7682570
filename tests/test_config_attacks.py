"""Recipes of a stranger: every text is a valid recipe or a RecipeError with its place."""

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphfm.config.load import load_recipe
from graphfm.config.recipe import Recipe
from graphfm.config.yaml_text import MAX_DEPTH, parse_yaml
from graphfm.errors import RecipeError

SIMPLE = "name: mine\ndata: {mixture: demo}\n"


def refused(tmp_path, text="", *overrides, name="mine.yaml"):
    """Return the RecipeError of a recipe with more lines, or with overrides."""
    path = tmp_path / name
    path.write_text(SIMPLE + text, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert len(str(caught.value)) < 1500
    return caught.value


def bomb(levels=9):
    """Ten aliases of ten aliases of ...: 10 ** levels items in 1 kB."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, levels):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("train: {lr: .inf}", 3, "finite"),
        ("train:\n  lr: .nan", 4, "finite"),
        ("train:\n  max_time: -5", 4, "greater than 0"),
        ("train:\n  max_time: -5m", 4, "max_time"),
        ("train:\n  steps: 1000000000000000000000", 4, "64 bits"),
        (f"seed: {2**70}", 3, "64 bits"),
        ("model:\n  decoder: {kind: }", 4, "no kind None"),
        ("model:\n  decoder: {kind: [a]}", 4, "no kind ['a']"),
        ("seed: 1\nseed: 2", 4, "'seed' occurs twice"),
        ("train: {lr: 1, lr: 2}", 3, "'lr' occurs twice"),
        ("about: &x [*x]", 3, "*x is not known here"),
        ("about: *y", 3, "*y is not known here"),
        ("? [a]\n: 1", 3, "a key must be text"),
        ("about: " + "[" * 200_000, 3, "levels"),
        ("about: " + "{a: " * 200_000, 3, "levels"),
        ("about:\n" + "- " * 200_000, 4, "levels"),
        (bomb(), None, "characters"),
        (f"about: &t {'x' * 500_000}\nz: [*t, *t]", None, "characters"),
        ("about: " + "x" * 1_000_000, None, "characters"),
        ("seed: 2020-99-99", None, "not valid YAML"),
        ("seed: !!int x", None, "not valid YAML"),
        (f"seed: {'9' * 5000}", None, "not valid YAML"),
        ("extends: [a]", None, "extends must name one recipe"),
        ("extends: " + "a" * 5000, None, "no recipe"),
        ('extends: "\\0"', None, "no recipe"),
    ],
)
def test_a_recipe_is_refused_with_its_line(tmp_path, text, line, says):
    """Seen to fail: GFM400, a crash of the interpreter, 40 s, or accepted."""
    error = refused(tmp_path, text)
    assert says in str(error) and "mine.yaml" in error.where
    if line is not None:
        assert f"line {line}" in str(error)


@pytest.mark.parametrize("name", ["../..", "..", ".hidden", "a/b", "a\\b", "", "x" * 101, "a\x1b"])
def test_a_name_is_no_path(tmp_path, name):
    """The default folder of a run is runs/NAME. Seen to fail: ``../..`` was accepted."""
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": name, "data": {"mixture": "demo"}}), encoding="utf-8")
    with pytest.raises(RecipeError, match="GFM203") as caught:
        load_recipe(path)
    assert "line 3, name" in caught.value.where


@pytest.mark.parametrize(
    "override",
    [
        "train.lr=@x",
        "train.steps=[",
        "train.lr=.inf",
        f"seed={2**70}",
        "model.decoder.kind=",
        "train={lr: 1, lr: 2}",
        "train.lr=" + "[" * 200_000,
        ".".join("a" * 2000) + "=1",
        "train.steps." + ".".join("a" * 2000) + "=1",
    ],
)
def test_the_place_of_a_wrong_override_is_the_override(tmp_path, override):
    """Seen to fail: GFM400 for text that is not YAML, and the file's line for a wrong value."""
    assert refused(tmp_path, "", "seed=1", override).where == override[:200]


def test_circles_and_long_chains_are_found(tmp_path):
    """Seen to fail: a circle through ``../`` went on until the recursion limit."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "other.yaml").write_text("extends: ../mine.yaml")
    assert refused(tmp_path, "extends: below/../below/other.yaml").code == "GFM206"
    for n in range(30):
        (tmp_path / f"c{n}.yaml").write_text(f"extends: c{n + 1}.yaml")
    (tmp_path / "c30.yaml").write_text(SIMPLE)
    assert refused(tmp_path, "extends: c0.yaml").code == "GFM206"


def test_what_yaml_offers_within_the_bounds_is_read(tmp_path):
    """Anchors, merges and nesting up to the bound."""
    assert parse_yaml("a: &x {b: 1}\nc: {<<: *x, d: [*x, *x]}") == {
        "a": {"b": 1},
        "c": {"b": 1, "d": [{"b": 1}, {"b": 1}]},
    }
    deep = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    assert str(parse_yaml(deep)) == deep
    with pytest.raises(RecipeError, match="levels"):
        parse_yaml(f"[{deep}]")


KEYS = [*Recipe.model_fields, "extends", "kind", "lr", "steps", "<<", "&a", "*a", "!!int"]
PIECES = [*KEYS, *": ,\n,  ,- ,[,],{,},1,-1,.inf,1e99,@,\t".split(",")]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=30))
def test_any_text_is_a_recipe_or_a_recipe_error(tmp_path, text):
    path = tmp_path / "any.yaml"
    path.write_bytes((SIMPLE + text).encode("utf-8", "surrogatepass"))
    for overrides in ((), (f"train.lr={text}",), (text,)):
        try:
            load_recipe(path, overrides)
        except RecipeError:
            pass
