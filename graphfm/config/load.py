"""Read recipes: ``extends``, ``key=value`` overrides, and the line of what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from graphfm.config.parts import config_class, did_you_mean, kinds, validated
from graphfm.config.recipe import Recipe
from graphfm.errors import RecipeError

log = logging.getLogger(__name__)


# Family of the part that a field of a recipe holds.
FAMILIES = {
    "adapter": "model.adapters",
    "encoder": "model.encoders",
    "decoder": "model.decoders",
    "objective": "training.objectives",
}


def shipped(folder: str) -> Path:
    """Where the YAML of ``datasets`` or ``recipes`` lies: in the checkout, or inside the wheel."""
    package = Path(__file__).parents[1]
    inside = package / "_shipped" / folder
    return inside if inside.is_dir() else package.parent / folder


def recipe_names() -> list[str]:
    """Recipes that come with the package, as ``load_recipe`` takes them."""
    root = shipped("recipes")
    files = [p for p in root.rglob("*.yaml") if p.parent.name != "scaling"]  # those are grids
    return sorted(str(p.relative_to(root).with_suffix("")) for p in files)


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        name: A file, a name from :func:`recipe_names`, or the last part of one.
        overrides: ``key=value`` in the recipe's own keys, such as ``train.steps=100``.

    Raises:
        RecipeError: GFM200 for a recipe that is not there, GFM201 to GFM205 for one that is wrong.
    """
    path = _recipe_path(str(name))
    values = _read_extended(path, ())
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise RecipeError("GFM204", f"expected key=value, got {override!r}")
        _set(values, key.strip(), yaml.safe_load(text), override)
    try:
        return validated(Recipe, values)
    except RecipeError as error:
        key = error.where
        line = _line_of(path, key.split("."))
        at = f"{path}, line {line}, {key}" if line else f"{path}, {key}"
        raise RecipeError(error.code, error.what, where=at, fix=error.fix) from None


def read_yaml(path: Path) -> Any:
    """The plain content of a YAML file.

    Raises:
        RecipeError: GFM205 for a file that is not YAML, with its line.
    """
    try:
        # What safe_load does, by libyaml where it is there: the catalog in 0.06 s instead of 0.5.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_text(encoding="utf-8"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError("GFM205", f"not readable as YAML: {error}", where=str(path)) from None


def _recipe_path(name: str) -> Path:
    if Path(name).suffix in {".yaml", ".yml"} and Path(name).is_file():
        return Path(name)
    names = recipe_names()
    found = [n for n in names if name in (n, n.rsplit("/", 1)[-1])]
    if len(found) != 1:
        what = f"no recipe {name!r}" if not found else f"{name!r} could be {' or '.join(found)}"
        hint = did_you_mean(name, [n.rsplit("/", 1)[-1] for n in names])
        raise RecipeError(
            "GFM200", f"{what}.{hint}", fix=f"a .yaml file, or one of {', '.join(names)}"
        )
    return shipped("recipes") / f"{found[0]}.yaml"


def _read_extended(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    if path in below:
        raise RecipeError("GFM206", "recipes extend each other in a circle", where=str(path))
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise RecipeError("GFM205", "a recipe must be a mapping of keys to values", where=str(path))
    base = values.pop("extends", None)
    if base is None:
        return values
    beside = path.parent / str(base)
    whole = _read_extended(beside if beside.is_file() else _recipe_path(str(base)), (*below, path))
    return _merged(whole, values)


def _merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """``top`` over ``base``; a part of another kind replaces the whole part."""
    result = dict(base)
    for key, value in top.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            same_kind = value.get("kind", below.get("kind")) == below.get("kind")
            value = _merged(below, value) if same_kind else value
        result[key] = value
    return result


def _set(values: dict[str, Any], key: str, value: Any, override: str) -> None:
    *folders, last = key.split(".")
    for folder in folders:
        below = values.setdefault(folder, {})
        if not isinstance(below, dict):
            raise RecipeError("GFM204", f"{folder} holds no keys", where=override)
        values = below
    values[last] = value
    if last == "kind" and folders and folders[-1] in FAMILIES:
        _forget_other_kinds(values, FAMILIES[folders[-1]], override)


def _forget_other_kinds(values: dict[str, Any], family: str, override: str) -> None:
    """One change of ``kind`` is enough: what the recipe said of the kind before may not fit."""
    if values["kind"] not in kinds(family):
        return  # an error by and by
    own = config_class(family, values["kind"]).model_fields
    others = {key for kind in kinds(family) for key in config_class(family, kind).model_fields}
    for key in [key for key in values if key in others and key not in own]:
        log.info("%s: %s=%s is left out, which it has not", override, key, values.pop(key))


def _line_of(path: Path, keys: Sequence[str]) -> int | None:
    """The line of a key in the file itself; None where it came from elsewhere."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line = None
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        found = [(k, v) for k, v in pairs if k.value == key]
        if not found:
            return None
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line
