"""Read recipes with ``extends`` and ``key=value`` overrides; errors name the line."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from graphfm.config.incontext import InContextRecipe
from graphfm.config.parts import Model, config_class, did_you_mean, kinds, validated
from graphfm.config.recipe import Recipe
from graphfm.config.yaml_text import LOADER, MAX_DEPTH, parse_yaml, read_yaml
from graphfm.errors import RecipeError

log = logging.getLogger(__name__)

MAX_EXTENDED = 20  # recipes in a chain of ``extends``

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


def recipe_names(*, incontext: bool = False) -> list[str]:
    """Return the names of the recipes in the package, for :func:`load_recipe`.

    Args:
        incontext: If true, those for :func:`load_incontext`.
    """
    root = shipped("recipes")
    names = sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))
    kept = [name for name in names if not name.startswith("scaling/")]  # scaling/ holds grids
    return [name for name in kept if name.startswith("incontext/") == incontext]


def is_incontext(name: str | Path) -> bool:
    """Return true if a recipe is one of in-context pretraining: it has the key ``tasks``.

    Raises:
        RecipeError: GFM200 if the recipe does not exist, GFM205 or GFM206 if it cannot be read.
    """
    return "tasks" in _read_extended(_recipe_path(str(name)), ())


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        name: A YAML file, a name from :func:`recipe_names`, or the last part of such a name.
        overrides: ``key=value`` in the recipe's own keys, such as ``train.steps=100``.

    Raises:
        RecipeError: GFM200 if the recipe does not exist, GFM201 to GFM206 if it is invalid.
    """
    return _load(Recipe, name, overrides)


def load_incontext(name: str | Path, overrides: Sequence[str] = ()) -> InContextRecipe:
    """Read and check a recipe of in-context pretraining, as :func:`load_recipe` does."""
    return _load(InContextRecipe, name, overrides)


def _load(schema: type[Model], name: str | Path, overrides: Sequence[str]) -> Model:
    """Read a recipe and check it by its schema."""
    path = _recipe_path(str(name))
    values = _read_extended(path, ())
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise RecipeError("GFM204", f"expected key=value, got {override!r}")
        try:
            value = parse_yaml(text)
        except RecipeError as error:
            raise RecipeError("GFM204", error.what, where=override[:200]) from None
        _set(values, key.strip(), value, override)
    try:
        return validated(schema, values)
    except RecipeError as error:
        raise RecipeError(
            error.code, error.what, where=_place(path, error.where, overrides), fix=error.fix
        ) from None


def _recipe_path(name: str, where: str = "") -> Path:
    """Find the file of a recipe.

    Args:
        name: See :func:`load_recipe`.
        where: File that extends it, for messages.

    Raises:
        RecipeError: GFM200 if no recipe or several recipes match.
    """
    if Path(name).suffix in {".yaml", ".yml"} and _is_file(Path(name)):
        return Path(name)
    names = recipe_names() + recipe_names(incontext=True)
    found = [n for n in names if name in (n, n.rsplit("/", 1)[-1])]
    if len(found) != 1:
        what = f"no recipe {name[:200]!r}" if not found else f"{name} can be {' or '.join(found)}"
        hint = did_you_mean(name[:200], [n.rsplit("/", 1)[-1] for n in names])
        raise RecipeError(
            "GFM200",
            f"{what}.{hint}",
            where=where,
            fix=f"give a .yaml file, or one of {', '.join(names)}",
        )
    return shipped("recipes") / f"{found[0]}.yaml"


def _read_extended(path: Path, extending: tuple[Path, ...]) -> dict[str, Any]:
    """Read a recipe on top of the recipe that it extends.

    Args:
        path: File of the recipe.
        extending: Resolved paths of the files that extend this one, to find circles.
    """
    if path.resolve() in extending or len(extending) > MAX_EXTENDED:
        raise RecipeError(
            "GFM206",
            "recipes extend each other in a circle, or in a chain that is too long",
            where=str(path),
        )
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise RecipeError("GFM205", "a recipe must be a mapping of keys to values", where=str(path))
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise RecipeError("GFM203", f"extends must name one recipe, got {base!r}", where=str(path))
    beside = path.parent / base
    base_path = beside if _is_file(beside) else _recipe_path(base, str(path))
    return _merge(_read_extended(base_path, (*extending, path.resolve())), values)


def _is_file(path: Path) -> bool:
    """Return true for a file; false also for text that no path can be, such as 300 letters."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


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
    if len(sections) > MAX_DEPTH:
        raise RecipeError("GFM204", f"more than {MAX_DEPTH} levels", where=override[:200])
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


def _place(path: Path, key: str, overrides: Sequence[str]) -> str:
    """Return the place of a wrong value, for a message: the override, or file, line and key."""
    for override in reversed(overrides):  # the last one counts
        given = override.partition("=")[0].strip()
        if key == given or given.startswith(f"{key}.") or key.startswith(f"{given}."):
            return override[:200]
    line = _line_of(path, key.split("."))
    return f"{path}, line {line}, {key}" if line else f"{path}, {key}"


def _line_of(path: Path, keys: Sequence[str]) -> int | None:
    """Return the line of a key in a file; None if the key comes from another file."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=LOADER)
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
