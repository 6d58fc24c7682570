"""Recipes: one YAML file is one complete run.

A recipe may ``extends:`` another; ``key=value`` overrides are read with the same schema; an unknown
key is an error.
"""

from __future__ import annotations

import logging
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

log = logging.getLogger(__name__)

_PART: Any = Field(default=None, validate_default=True)  # the default kind of its family
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
    adapter: part("model.adapters", "mlp") = _PART  # type: ignore
    decoder: part("model.decoders", "prefix") = _PART  # type: ignore
    encoder: part("model.encoders", "perceiver") = _PART  # type: ignore
    """Kind ``none``, whatever is said here, where the decoder reads no latents."""

    @field_validator("encoder")
    @classmethod
    def _drop_unused_encoder(cls, encoder: PartConfig, info: ValidationInfo) -> PartConfig:
        decoder = info.data.get("decoder")  # absent where it was wrong itself
        if decoder is None or decoder.reads_latents:
            if decoder is not None and encoder.kind == "none":
                raise ValueError(f"decoder {decoder.kind} reads latents: it needs an encoder")
            return encoder
        none: PartConfig = config_class("model.encoders", "none")()
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
    objective: part("training.objectives", "supervised") = _PART  # type: ignore  # noqa: E501
    train: TrainConfig = TrainConfig()

    def to_yaml(self) -> str:
        """The resolved whole, readable back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def duration(text: str | None, *, zero: bool = False) -> float | None:
    """Seconds of ``90s``, ``30m``, ``6h`` or a plain number; None of None.

    Args:
        text: What ``--max-time`` was given.
        zero: Whether 0 has a meaning.

    Raises:
        RecipeError: GFM212 for what is no duration.
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
            f"--max-time must be a time, got {text!r}",
            fix="such as 90s, 30m or 6h",
        )
    return found
