"""Find a part of the model by its kind.

A part is a file; the name of the file is its kind; its interface is ``Config.build``. A family is a
package of parts (``model.encoders``, ``graphs.catalog.sources``). There is no registry: a new file
is a new kind.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from graphfm.errors import RecipeError

Model = TypeVar("Model", bound=BaseModel)
_NUMBERS = (int, float, int | None, float | None)


class StrictConfig(BaseModel):
    """Frozen plain data. Unknown keys are errors, and so are infinite, very large and NaN numbers.

    A boolean in place of a number is an error too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _reject_bool_for_number(cls, values: Any) -> Any:
        for key, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(key)
            if isinstance(value, bool) and field and field.annotation in _NUMBERS:
                what = f"{key} must be a number, got {value} (YAML reads no as False)"
                raise RecipeError("GFM203", what, where=key)
            if isinstance(value, int) and abs(value) >= 2**63:
                raise RecipeError("GFM203", f"{key} must have less than 64 bits", where=str(key))
        return values


class PartConfig(StrictConfig):
    """Base class of the settings of a part; subclasses add fields and ``build``."""

    kind: str
    """Name of the part's file."""


def kinds(family: str) -> list[str]:
    """Return the kinds of a family, sorted."""
    package = importlib.import_module(f"graphfm.{family}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def config_class(family: str, kind: str) -> Any:
    """Return the ``Config`` class of a part.

    Raises:
        RecipeError: GFM202 if the family has no such kind.
    """
    if kind not in kinds(family):
        raise RecipeError(
            "GFM202",
            f"{family.rpartition('.')[2]} has no kind {_brief(kind)}."
            + did_you_mean(str(kind)[:80], kinds(family)),
            fix=f"choose one of {', '.join(kinds(family))}",
        )
    return importlib.import_module(f"graphfm.{family}.{kind}").Config


def part(family: str, default: str) -> Any:
    """Return the type of a pydantic field that holds the Config of a part."""
    return Annotated[SerializeAsAny[PartConfig], BeforeValidator(partial(_read, family, default))]


def validated(model: type[Model], values: Any, *, path: str = "") -> Model:
    """Validate values by a pydantic model; errors name the key and the closest known key.

    Args:
        model: The pydantic model.
        values: Plain data.
        path: Key of the values in the recipe, for messages. Default: the top.

    Raises:
        RecipeError: GFM201 for an unknown key, GFM203 for a value that does not fit.
    """
    try:
        return model.model_validate(values)
    except ValidationError as failure:
        first = failure.errors()[0]
        inner = first.get("ctx", {}).get("error")
        key = ".".join(str(k) for k in (path, *first["loc"]) if k != "")
        if isinstance(inner, RecipeError):
            at = ".".join(part for part in (key, inner.where) if part)
            raise RecipeError(inner.code, inner.what, where=at, fix=inner.fix) from None
        if first["type"] == "extra_forbidden":
            options = _fields_at(model, first["loc"][:-1])
            what = f"unknown key {key}.{did_you_mean(str(first['loc'][-1]), options)}"
            raise RecipeError(
                "GFM201", what, where=key, fix=f"known: {', '.join(options)}"
            ) from None
        given = f", got {_brief(first['input'])}" if first["type"] != "missing" else ""
        raise RecipeError("GFM203", f"{key}: {first['msg']}{given}", where=key) from None


def did_you_mean(word: str, options: Any) -> str:
    """Return a hint at the closest option, or an empty string.

    >>> did_you_mean("dpth", ["depth", "dim"])
    " Did you mean 'depth'?"
    """
    near = difflib.get_close_matches(word, list(options), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _brief(value: Any) -> str:
    """Return a value for a message, in at most 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _read(family: str, default: str, value: Any) -> Any:
    """Turn the keys of a part into its Config."""
    if isinstance(value, PartConfig):
        return value
    if not isinstance(value, dict | None):
        raise RecipeError(
            "GFM203", f"expected `kind` and the keys of that kind, got {_brief(value)}"
        )
    fields = dict(value or {})
    return validated(config_class(family, fields.setdefault("kind", default)), fields)


def _fields_at(model: Any, path: tuple[Any, ...]) -> list[str]:
    """Return the known keys at a path inside a pydantic model."""
    for key in path:
        model = model.model_fields[key].annotation
    return list(model.model_fields)
