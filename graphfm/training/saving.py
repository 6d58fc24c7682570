"""Writing and reading the checkpoints of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphfm.checkpoint.folder import SHARDED, Checkpoint, point_latest, save_checkpoint
from graphfm.config.recipe import Recipe
from graphfm.errors import CheckpointError
from graphfm.training.distributed import DistributedModel
from graphfm.training.optim import decay_start
from graphfm.training.run_folder import checkpoint_path, prune_checkpoints, write_errors
from graphfm.training.run_state import RunState
from graphfm.training.sharded import gather_weights, load_sharded, save_sharded


class RunCheckpoints:
    """The checkpoints of a run: save, prune, and restore the optimizer.

    Args:
        out: Run folder.
        recipe: Recipe of the run.
        distributed: Model over the processes of the run.
        optimizer: Its optimizer.
        facts: Further entries of ``config.json``, such as the audit and the environment.
        graphs: Names of the graphs of the corpus.
        saved: Step whose checkpoint is in the folder already. Default: none.
    """

    def __init__(
        self,
        out: Path,
        recipe: Recipe,
        distributed: DistributedModel,
        optimizer: torch.optim.Optimizer,
        *,
        graphs: tuple[str, ...],
        facts: Mapping[str, Any],
        saved: int | None = None,
    ):
        self.out, self.recipe = out, recipe
        self.distributed, self.optimizer = distributed, optimizer
        self.graphs, self.facts, self.saved = graphs, facts, saved
        # A longer run may start from here, see lr_at: this checkpoint is always kept.
        self.lasting = {decay_start(recipe.train)} if recipe.train.schedule == "wsd" else set()

    def is_due(self, step: int) -> bool:
        """Return true if the recipe wants a checkpoint of this step."""
        return step % self.recipe.train.save_every == 0 or step in self.lasting

    def save(self, state: RunState, *, extra: dict[str, dict[str, Tensor]]) -> None:
        """Write the checkpoint of a step, and prune older ones. Every process has to call this.

        Args:
            state: Progress of the run.
            extra: Further tensors by file stem.

        Raises:
            DivergedError: GFM602 for weights that are not finite; nothing is written.
            OutputError: GFM801 if it cannot be written; earlier checkpoints are intact.
        """
        folder = checkpoint_path(self.out, state.step)
        is_sharded = self.distributed.is_sharded  # then every process writes a part
        weights, shards = self._write_shards(folder) if is_sharded else (None, None)
        if self.distributed.world.is_main:
            meta = {
                "name": self.recipe.name,
                "step": state.step,
                "recipe": self.recipe.model_dump(mode="json"),
                "corpus": list(self.graphs),
                **self.facts,
            }
            optimizer = {} if is_sharded else {"optimizer": self.optimizer.state_dict()}
            with write_errors(self.out):
                folder.parent.mkdir(exist_ok=True)
                save_checkpoint(
                    folder,
                    self.distributed.model,
                    meta=meta,
                    trainer={**optimizer, **state.as_dict()},
                    extra=extra,
                    weights=weights,
                    shards=shards,
                    overwrite=True,  # a damaged checkpoint of the same step is in the way
                )
                point_latest(self.out, folder)
                self.prune(state)
        self.saved = state.step
        self.distributed.world.barrier()

    def prune(self, state: RunState) -> None:
        """Remove old checkpoints, see :func:`graphfm.training.run_folder.prune_checkpoints`."""
        prune_checkpoints(
            self.out,
            keep=self.recipe.train.keep,
            losses=state.val_losses(),
            reached=state.step,
            lasting=self.lasting,
        )

    def restore_optimizer(self, checkpoint: Checkpoint, trainer: Mapping[str, Any]) -> None:
        """Load the optimizer state of a checkpoint.

        Args:
            checkpoint: Checkpoint that the run starts from.
            trainer: Its trainer state.

        Raises:
            CheckpointError: GFM310 if this run shards its optimizer and the checkpoint does not.
        """
        if (shards := checkpoint.shards()) is not None:
            load_sharded(shards, self.distributed.model, self.optimizer)
        elif self.distributed.is_sharded:
            raise CheckpointError(
                "GFM310",
                "the checkpoint holds the optimizer state whole, but this run shards it",
                where=str(checkpoint.path),
                fix="resume with one process, as the run began",
            )
        else:
            self.optimizer.load_state_dict(trainer["optimizer"])

    def _write_shards(self, folder: Path) -> tuple[dict[str, Tensor], Path]:
        """Write this process's part of weights and optimizer beside the checkpoint's folder.

        Returns:
            All weights, for the safetensors file, and the folder of the parts.
        """
        shards = folder.with_name(f"{folder.name}.tmp-{SHARDED}")
        if self.distributed.world.is_main:
            shards.mkdir(parents=True)
        self.distributed.world.barrier()
        self.distributed.reshard()
        save_sharded(shards, self.distributed.model, self.optimizer)
        return gather_weights(self.distributed.model), shards
