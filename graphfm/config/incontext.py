"""Recipes of in-context pretraining: tasks, network and training."""

from __future__ import annotations

from typing import Annotated

import yaml
from pydantic import BeforeValidator, Field

from graphfm.config.parts import StrictConfig
from graphfm.config.recipe import TrainConfig, seconds


class TasksConfig(StrictConfig):
    """Tasks and their store."""

    mixture: str = "local-152"
    """Mixture whose graphs tasks are made of; it holds no graph of an evaluation group."""
    exclude_groups: tuple[str, ...] = ()
    """Groups whose features, labels and structures no task may use, kept for the gates."""
    seed: int = Field(default=1, ge=0)
    """Seed of the tasks; a task is a function of it and of the task's number."""
    number: int = Field(default=100_000, ge=64)
    """Number of tasks of the store."""
    columns: float = Field(default=0.4, ge=0)
    """Relative frequency of tasks that predict hidden columns of corpus graphs."""
    synthetic: float = Field(default=0.35, ge=0)
    """Relative frequency of random functions on real and drawn structures."""
    labels: float = Field(default=0.25, ge=0)
    """Relative frequency of real labels."""
    store: str | None = None
    """Folder of the store. Default: ``tasks`` in the run folder."""
    producers: int = Field(default=1, ge=0)
    """Processes that fill the store during the run; 0 = it is filled already."""
    only: tuple[str, ...] = ()
    """Kinds to train on, for controls. Default: all in the store."""

    @property
    def kinds(self) -> dict[str, float]:
        """Relative frequency of each kind."""
        return {"columns": self.columns, "synthetic": self.synthetic, "labels": self.labels}


class NetworkConfig(StrictConfig):
    """Shape of the network."""

    dim: int = Field(default=48, ge=8)
    """Width of a token."""
    num_layers: int = Field(default=3, ge=1)
    """Number of layers."""
    num_latents: int = Field(default=16, ge=0)
    """Number of latents of each class; 0 = none."""
    num_heads: int = Field(default=3, ge=1)
    """Number of attention heads."""
    reads_neighbors: bool = True
    """False: tokens do not read their neighbors (a control)."""


class InContextTrainConfig(StrictConfig):
    """Training loop of the network."""

    steps: int = Field(default=6000, ge=1)
    """Number of optimizer steps."""
    max_time: Annotated[float | None, BeforeValidator(seconds)] = None
    """Time limit of the run in seconds (or ``30m``, ``6h``)."""
    tasks_per_step: int = Field(default=16, ge=1)
    """Number of tasks of a step; each has the same weight."""
    round: int = Field(default=2048, ge=1)
    """Tasks of a round. A round takes tasks that were not seen first, then seen ones at random."""
    max_tokens: int = Field(default=16_000, ge=1)
    """Largest number of tokens (node, class) of a pack."""
    drop_experts: float = Field(default=0.5, ge=0, le=1)
    """Share of tasks in which experts are dropped at random, together with their part of the
    pool."""
    lr: float = Field(default=2e-3, gt=0)
    """Peak learning rate."""
    warmup_steps: int = Field(default=100, ge=0)
    """Steps in which the learning rate rises from 0 to its peak."""
    final_lr: float = Field(default=0.03, ge=0, le=1)
    """Final learning rate, as a share of the peak."""
    decay_share: float = Field(default=0.3, gt=0, le=1)
    """Share of the steps, at the end, in which the learning rate falls."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of matrices."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient; larger gradients are clipped."""
    average: float = Field(default=0.995, ge=0, lt=1)
    """Decay of the moving average of weights, which is what is used later."""
    log_every: int = Field(default=20, ge=1)
    """Steps between lines of ``metrics.jsonl``."""
    save_every: int = Field(default=200, ge=1)
    """Steps between checkpoints."""
    keep: tuple[int, ...] = (63, 188, 625, 1875, 6250, 18750, 62500)
    """Steps whose checkpoint is kept for the curve: 10^3, 3 x 10^3, 10^4 tasks and so on."""

    def optimizer(self) -> TrainConfig:
        """Return the settings of the optimizer in the form that pretraining uses."""
        return TrainConfig(
            steps=self.steps,
            lr=self.lr,
            warmup_steps=min(self.warmup_steps, self.steps - 1),
            final_lr=self.final_lr,
            schedule="wsd",
            decay_share=self.decay_share,
            optimizer="muon",
            weight_decay=self.weight_decay,
            max_grad_norm=self.max_grad_norm,
        )


class InContextRecipe(StrictConfig):
    """One complete run of in-context pretraining."""

    name: str
    about: str = ""
    """Purpose, hardware, duration and expected loss."""
    seed: int = Field(default=0, ge=0)
    tasks: TasksConfig
    network: NetworkConfig = NetworkConfig()
    train: InContextTrainConfig = InContextTrainConfig()

    def to_yaml(self) -> str:
        """Return the complete recipe as YAML, with all defaults."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
