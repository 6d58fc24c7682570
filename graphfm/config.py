"""Recipes: one YAML file is one complete run.

A recipe may ``extends:`` another; ``key=value`` overrides are read with the same schema; an unknown
key is an error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from graphfm.errors import RecipeError
from graphfm.parts import (
    PartConfig,
    StrictConfig,
    config_class,
    did_you_mean,
    kinds,
    part,
    validated,
)

log = logging.getLogger(__name__)

PARTS = ("adapter", "encoder", "decoder", "objective")  # fields that hold a part of such a family
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: Any) -> Any:
    """Read a duration: a number of seconds, or a number with s, m, h or d.

    >>> seconds("30m")
    1800.0
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([smhd])\s*", value) if isinstance(value, str) else None
    return float(match[1]) * _UNITS[match[2]] if match else value


class DataConfig(StrictConfig):
    """What to learn from."""

    mixture: str
    """A mixture of ``datasets/mixtures.yaml``."""
    exclude: tuple[str, ...] = ()
    """Ids to leave out of it."""
    val_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Share of a graph's labelled nodes that never enter a loss."""
    graph_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the mixture's graphs that teach; with the same seed, a smaller share is part of a
    larger one. For scaling laws."""
    node_share: float = Field(default=1.0, gt=0, le=1)
    """Share of each graph's training nodes that teach, at least two, nested in the same way; the
    graph itself stays whole, and so do its validation nodes."""
    jobs: int = Field(default=1, ge=1)
    """Processes that prepare graphs."""


class ModelConfig(StrictConfig):
    """The shape of the model (the paper's section 3)."""

    dim: int = Field(default=96, ge=8)
    """Width D of every token, latent and state."""
    num_eigenvectors: int = Field(default=16, ge=0, le=16)
    """Laplacian eigenvectors that the positional encoding reads, of the 16 that a graph has."""
    universal_share: float = Field(default=0.5, ge=0, le=1)
    """Share of visits through one adapter that all graphs share; a new graph begins with it."""
    universal_turn: Literal["none", "signs", "rotation"] = "none"
    """Features that the shared adapter reads in training: as they are, each column with a random
    sign at every visit (a principal score has none of its own), or all turned at random."""
    adapter: part("adapters", "mlp") = Field(default=None, validate_default=True)  # type: ignore
    decoder: part("decoders", "prefix") = Field(default=None, validate_default=True)  # type: ignore
    encoder: part("encoders", "perceiver") = Field(default=None, validate_default=True)  # type: ignore
    """Kind ``none``, whatever is said here, where the decoder reads no latents."""

    @field_validator("encoder")
    @classmethod
    def _none_that_nobody_reads(cls, encoder: PartConfig, info: ValidationInfo) -> PartConfig:
        decoder = info.data.get("decoder")  # absent where it was wrong itself
        if decoder is None or decoder.reads_latents:
            if decoder is not None and encoder.kind == "none":
                raise ValueError(f"decoder {decoder.kind} reads latents: it needs an encoder")
            return encoder
        none: PartConfig = config_class("encoders", "none")()
        return none


class SamplingConfig(StrictConfig):
    """What goes into a step."""

    num_neighbors: int = Field(default=16, ge=0)
    """T, sampled without replacement for every target."""
    max_targets: int = Field(default=256, ge=1)
    """Targets of one graph in one step."""
    max_context: int = Field(default=1024, ge=1)
    """Nodes of one graph that the encoder reads in one step; sampled where there are more."""
    targets_per_step: int = Field(default=512, ge=1)
    """Budget of a step, in targets; what encoding a graph costs is counted in."""
    bins_per_step: int = Field(default=1, ge=1)
    """Batches that a step is done in: as many as there are ranks, or a multiple. Of ``balanced``
    they cost alike, and what a step learns from does not depend on their number."""
    strategy: Literal["balanced", "snake", "uniform"] = "balanced"
    """Steps of equal cost, big graphs cut; or, to compare, graphs kept whole and dealt in the order
    of their size (the paper's), or at random."""
    graph_cost: float | None = Field(default=None, ge=0)
    """What to visit a graph costs beside a target; null = what the model's own FLOPs say. Given,
    with ``context_cost``, different models take the same steps."""
    context_cost: float | None = Field(default=None, ge=0)
    """Likewise a context node."""

    @model_validator(mode="after")
    def _check(self) -> SamplingConfig:
        if (self.graph_cost is None) != (self.context_cost is None):
            raise ValueError("graph_cost and context_cost are given together or not at all")
        return self


class TrainConfig(StrictConfig):
    """The loop."""

    steps: int = Field(default=10_000, ge=1)
    """Optimizer steps."""
    max_time: Annotated[float | None, BeforeValidator(seconds)] = None
    """Stop, saved, after this many seconds (``30m``, ``6h``); the schedule counts steps only."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps over which it rises from 0."""
    final_lr: float = Field(default=0.05, ge=0, le=1)
    """Share of the peak that the schedule ends at."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """cosine, or warm-up, stable, decay: up to its decay a run does not depend on its length, so
    one long run gives the shorter ones too (``--resume`` of its checkpoint with fewer steps)."""
    decay_share: float = Field(default=0.2, gt=0, le=1)
    """Share of the steps, at the end, in which ``wsd`` decays."""
    optimizer: Literal["adamw", "muon", "lamb"] = "adamw"
    """muon = on the trunk's matrices, AdamW on the rest; lamb = the paper's."""
    weight_decay: float = Field(default=0.01, ge=0)
    """On matrices only."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """The gradient's norm is clipped to this."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto = bf16 autocast on CUDA, fp32 elsewhere (bf16 loses in CPU attention)."""
    compile: bool = False
    """torch.compile what is done to each token alone, on CUDA; the first steps are slow."""
    log_every: int = Field(default=20, ge=1)
    """Steps between lines of ``metrics.jsonl``."""
    eval_every: int = Field(default=1000, ge=1)
    """Steps between evaluations on validation nodes."""
    eval_targets: int = Field(default=256, ge=1)
    """Validation nodes of each graph that an evaluation looks at."""
    save_every: int = Field(default=500, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(default=2, ge=1)
    """Newest checkpoints that are kept."""

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} must be less than {self.steps} steps"
            )
        return self


class Recipe(StrictConfig):
    """One complete pretraining run."""

    name: str
    about: str = ""
    """What it is for, on what hardware, how long, which loss to expect."""
    seed: int = Field(default=0, ge=0)
    data: DataConfig
    model: ModelConfig = Field(default_factory=ModelConfig)  # reads part files: not at import
    sampling: SamplingConfig = SamplingConfig()
    objective: part("objectives", "supervised") = Field(default=None, validate_default=True)  # type: ignore
    train: TrainConfig = TrainConfig()

    def to_yaml(self) -> str:
        """The resolved whole, readable back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def shipped(folder: str) -> Path:
    """Where the YAML of ``datasets`` or ``recipes`` lies: in the checkout, or inside the wheel."""
    package = Path(__file__).parent
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
    if last == "kind" and folders and folders[-1] in PARTS:
        _forget_other_kinds(values, f"{folders[-1]}s", override)


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
