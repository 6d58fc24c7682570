"""Read recipes with ``extends`` and ``key=value`` overrides; errors name the line."""

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

# Family of the part in each field of a recipe.
FAMILIES = {
    "adapter": "model.adapters",
    "encoder": "model.encoders",
    "decoder": "model.decoders",
    "objective": "training.objectives",
}


def shipped(folder: str) -> Path:
    """Return the folder ``datasets`` or ``recipes``: of the checkout, or inside the wheel."""
    package = Path(__file__).parents[1]
    inside = package / "_shipped" / folder
    return inside if inside.is_dir() else package.parent / folder


def recipe_names() -> list[str]:
    """Return the names of the recipes in the package, for :func:`load_recipe`."""
    root = shipped("recipes")
    files = [p for p in root.rglob("*.yaml") if p.parent.name != "scaling"]  # scaling/ holds grids
    return sorted(str(p.relative_to(root).with_suffix("")) for p in files)


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        name: A YAML file, a name from :func:`recipe_names`, or the last part of such a name.
        overrides: ``key=value`` in the recipe's own keys, such as ``train.steps=100``.

    Raises:
        RecipeError: GFM200 if the recipe does not exist, GFM201 to GFM206 if it is invalid.
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
    """Read a YAML file as plain data.

    Raises:
        RecipeError: GFM205 with the line, if the file is not valid YAML.
    """
    try:
        # As safe_load, but by libyaml if available: reads the catalog in 0.06 s instead of 0.5 s.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_text(encoding="utf-8"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError("GFM205", f"not valid YAML: {error}", where=str(path)) from None


def _recipe_path(name: str) -> Path:
    """Find the file of a recipe.

    Raises:
        RecipeError: GFM200 if no recipe or several recipes match.
    """
    if Path(name).suffix in {".yaml", ".yml"} and Path(name).is_file():
        return Path(name)
    names = recipe_names()
    found = [n for n in names if name in (n, n.rsplit("/", 1)[-1])]
    if len(found) != 1:
        what = f"no recipe {name!r}" if not found else f"{name!r} can be {' or '.join(found)}"
        hint = did_you_mean(name, [n.rsplit("/", 1)[-1] for n in names])
        raise RecipeError(
            "GFM200", f"{what}.{hint}", fix=f"give a .yaml file, or one of {', '.join(names)}"
        )
    return shipped("recipes") / f"{found[0]}.yaml"


def _read_extended(path: Path, extending: tuple[Path, ...]) -> dict[str, Any]:
    """Read a recipe on top of the recipe that it extends.

    Args:
        path: File of the recipe.
        extending: Files that extend this one, to find circles.
    """
    if path in extending:
        raise RecipeError("GFM206", "recipes extend each other in a circle", where=str(path))
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise RecipeError("GFM205", "a recipe must be a mapping of keys to values", where=str(path))
    base = values.pop("extends", None)
    if base is None:
        return values
    beside = path.parent / str(base)
    base_path = beside if beside.is_file() else _recipe_path(str(base))
    return _merge(_read_extended(base_path, (*extending, path)), values)


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Overwrite ``base`` by ``top``; a part of another kind replaces the whole part."""
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            same_kind = value.get("kind", old.get("kind")) == old.get("kind")
            value = _merge(old, value) if same_kind else value
        result[key] = value
    return result


def _set(values: dict[str, Any], key: str, value: Any, override: str) -> None:
    """Set a dotted key in nested values.

    Raises:
        RecipeError: GFM204 if a part of the key holds a value instead of keys.
    """
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise RecipeError("GFM204", f"{section} is a value and holds no keys", where=override)
        values = inner
    values[last] = value
    if last == "kind" and sections and sections[-1] in FAMILIES:
        _drop_keys_of_other_kinds(values, FAMILIES[sections[-1]], override)


def _drop_keys_of_other_kinds(values: dict[str, Any], family: str, override: str) -> None:
    """Drop keys that the new kind does not have, so that ``kind=`` alone is a valid override."""
    if values["kind"] not in kinds(family):
        return  # the validation reports it
    own = config_class(family, values["kind"]).model_fields
    others = {key for kind in kinds(family) for key in config_class(family, kind).model_fields}
    for key in [key for key in values if key in others and key not in own]:
        log.info("%s: dropped %s=%s, which this kind does not have", override, key, values.pop(key))


def _line_of(path: Path, keys: Sequence[str]) -> int | None:
    """Return the line of a key in a file; None if the key comes from another file."""
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
