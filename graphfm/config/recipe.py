"""Recipes: one YAML file describes one complete pretraining run.

A recipe can extend another one (``extends:``). Overrides ``key=value`` use the same schema. Unknown
keys are errors.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from graphfm.config.parts import (
    PartConfig,
    StrictConfig,
    config_class,
    part,
)
from graphfm.errors import RecipeError

_PART: Any = Field(default=None, validate_default=True)  # the default kind of its family
_NAME = r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,99}"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: Any) -> Any:
    """Read a duration: a number of seconds, or a number with s, m, h or d.

    >>> seconds("30m")
    1800.0
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([smhd])\s*", value) if isinstance(value, str) else None
    return float(match[1]) * _UNITS[match[2]] if match else value


class DataConfig(StrictConfig):
    """Pretraining data."""

    mixture: str
    """Name of a mixture in ``datasets/mixtures.yaml``."""
    exclude: tuple[str, ...] = ()
    """Ids to leave out of the mixture."""
    val_fraction: float = Field(default=0.2, ge=0, lt=1)
    """Share of the labelled nodes of each graph in the validation set."""
    graph_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the graphs to train on, for scaling laws. With the same seed, a smaller share is a
    subset of a larger one."""
    node_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training nodes of each graph to train on, at least two; subsets are nested as
    for graphs. The graph and its validation nodes stay complete."""
    jobs: int = Field(default=1, ge=1)
    """Number of processes that prepare graphs."""


class ModelConfig(StrictConfig):
    """Shape of the model (section 3 of the paper)."""

    dim: int = Field(default=96, ge=8)
    """Width D of tokens, latents and node states."""
    num_eigenvectors: int = Field(default=16, ge=0, le=16)
    """Number of Laplacian eigenvectors in the position encoding, of the 16 that are stored."""
    universal_share: float = Field(default=0.5, ge=0, le=1)
    """Share of visits that use the universal adapter, from which a new graph starts."""
    universal_turn: Literal["none", "signs", "rotation"] = "none"
    """Change of the universal adapter's input at every training visit: none, a random sign for
    each column (the sign of a principal score is arbitrary), or a random rotation."""
    adapter: part("model.adapters", "mlp") = _PART  # type: ignore
    decoder: part("model.decoders", "prefix") = _PART  # type: ignore
    encoder: part("model.encoders", "perceiver") = _PART  # type: ignore
    """Replaced by kind ``none`` if the decoder reads no latents."""

    @field_validator("encoder")
    @classmethod
    def _drop_unused_encoder(cls, encoder: PartConfig, info: ValidationInfo) -> PartConfig:
        decoder = info.data.get("decoder")  # missing if the decoder itself is invalid
        if decoder is None or decoder.reads_latents:
            if decoder is not None and encoder.kind == "none":
                raise ValueError(f"decoder {decoder.kind} reads latents, so it needs an encoder")
            return encoder
        none: PartConfig = config_class("model.encoders", "none")()
        return none


class SamplingConfig(StrictConfig):
    """Input of a training step."""

    num_neighbors: int = Field(default=16, ge=0)
    """Neighbors T of each target, sampled without replacement."""
    max_targets: int = Field(default=256, ge=1)
    """Largest number of targets of a graph in a step."""
    max_context: int = Field(default=1024, ge=1)
    """Largest number of nodes of a graph that the encoder reads in a step; a larger graph is
    sampled."""
    targets_per_step: int = Field(default=512, ge=1)
    """Cost of a step, in units of a target; it includes the cost of encoding the graphs."""
    bins_per_step: int = Field(default=1, ge=1)
    """Number of batches in a step: the number of ranks or a multiple. With ``balanced`` they cost
    the same, and the targets of a step do not depend on their number."""
    strategy: Literal["balanced", "snake", "uniform"] = "balanced"
    """``balanced``: steps of equal cost, large graphs are cut. For comparison, ``snake`` (the
    paper's) assigns whole graphs in order of size, ``uniform`` at random."""
    graph_cost: float | None = Field(default=None, ge=0)
    """Cost of visiting a graph, in units of a target. Null = from the FLOPs of the model. Set it,
    and ``context_cost``, to give different models the same steps."""
    context_cost: float | None = Field(default=None, ge=0)
    """Cost of a context node, in units of a target. Null = from the FLOPs of the model."""

    @model_validator(mode="after")
    def _check(self) -> SamplingConfig:
        if (self.graph_cost is None) != (self.context_cost is None):
            raise ValueError("set both graph_cost and context_cost, or neither")
        return self


class TrainConfig(StrictConfig):
    """Training loop."""

    steps: int = Field(default=10_000, ge=1)
    """Number of optimizer steps."""
    max_time: Annotated[float | None, Field(gt=0), BeforeValidator(seconds)] = None
    """Time limit in seconds (or ``30m``, ``6h``). The run saves a checkpoint and stops; the
    learning rate depends on steps only."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps in which the learning rate rises from 0 to its peak."""
    final_lr: float = Field(default=0.05, ge=0, le=1)
    """Final learning rate, as a share of the peak."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """``cosine``, or ``wsd``: warm-up, stable, decay. Before its decay, a ``wsd`` run does not
    depend on its length, so shorter runs can resume from checkpoints of a longer one."""
    decay_share: float = Field(default=0.2, gt=0, le=1)
    """Share of the steps, at the end, in which ``wsd`` decays."""
    optimizer: Literal["adamw", "muon", "lamb"] = "adamw"
    """``muon``: Muon for the matrices of the trunk, AdamW for the rest. ``lamb``: the paper's."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of matrices; other weights have none."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient; larger gradients are clipped."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto``: bf16 autocast on CUDA, else fp32 (bf16 does not speed up attention on CPUs)."""
    compile: bool = False
    """True compiles the operations on single tokens by torch.compile, on CUDA. The first steps are
    slow."""
    log_every: int = Field(default=20, ge=1)
    """Steps between lines of ``metrics.jsonl``."""
    eval_every: int = Field(default=1000, ge=1)
    """Steps between evaluations on validation nodes."""
    eval_targets: int = Field(default=256, ge=1)
    """Largest number of validation nodes of each graph in an evaluation."""
    save_every: int = Field(default=500, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(default=2, ge=1)
    """Number of newest checkpoints to keep."""

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
    """Name of the model, and of its folder in ``runs``."""
    about: str = ""
    """Purpose, hardware, duration and expected loss."""
    seed: int = Field(default=0, ge=0)
    data: DataConfig
    model: ModelConfig = Field(default_factory=ModelConfig)  # reads part files: not at import
    sampling: SamplingConfig = SamplingConfig()
    objective: part("training.objectives", "supervised") = _PART  # type: ignore  # noqa: E501
    train: TrainConfig = TrainConfig()

    @field_validator("name")
    @classmethod
    def _reject_path(cls, name: str) -> str:
        if not re.fullmatch(_NAME, name):
            raise ValueError("must name a folder: at most 100 characters, no / or \\, no dot first")
        return name

    def to_yaml(self) -> str:
        """Return the complete recipe as YAML, with all defaults."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def duration(text: str | None, *, zero: bool = False) -> float | None:
    """Read the value of ``--max-time``, in seconds; None if it is None.

    Args:
        text: A duration such as ``90s``, ``30m``, ``6h``, or a number of seconds.
        zero: True allows 0. Default: an error.

    Raises:
        RecipeError: GFM212 if it is not a duration.
    """
    if text is None:
        return None
    try:
        found = float(seconds(text))
    except ValueError:
        found = -1.0
    if not (0 < found < float("inf") or (zero and found == 0)):
        raise RecipeError(
            "GFM212",
            f"--max-time must be a duration, got {text!r}",
            fix="give a duration such as 90s, 30m or 6h",
        )
    return found
