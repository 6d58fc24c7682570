"""One run of a recipe, from its first step or from a checkpoint to its end."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from graphfm.checkpoint.folder import Checkpoint
from graphfm.checkpoint.pretrained import NOVELTY
from graphfm.config.recipe import Recipe
from graphfm.machine import environment, give_back_memory
from graphfm.model.graphfm import GraphFM
from graphfm.training.compiled import compile_rows
from graphfm.training.corpus import Corpus, fresh_model
from graphfm.training.distributed import SHARD_ABOVE, DistributedModel
from graphfm.training.faults import Backoff, NonFiniteMonitor
from graphfm.training.loop import train
from graphfm.training.optim import make_optimizer
from graphfm.training.run_folder import check_disk_space, check_same_run, write_errors
from graphfm.training.run_record import RunRecord, write_receipt
from graphfm.training.run_state import RunState
from graphfm.training.saving import RunCheckpoints
from graphfm.training.state_cloud import corpus_cloud
from graphfm.training.step import RankBatches
from graphfm.training.stops import StopRequests
from graphfm.training.validation import evaluate
from graphfm.training.world import World, check_bins

RECIPE_TIME = "train.max_time"
TRIM_EVERY = 100  # steps between two calls of give_back_memory


class Run:
    """One run of a recipe, new or resumed. This process must hold the lock of the run folder.

    Args:
        recipe: Recipe of the run.
        corpus: Its graphs.
        out: Run folder.
        device: Device of the model.
        start: Checkpoint to start from, see :func:`graphfm.training.run_folder.choose_start`.
            Default: a new model.
        facts: Entries of every checkpoint and of the receipt, such as the audit. Default: the
            graphs of the corpus must not be used for evaluation.
        world: Processes of the run; the first one writes. Default: this process alone.
        shard_above: See :class:`graphfm.training.distributed.DistributedModel`.

    Raises:
        CheckpointError: GFM302 to GFM310 for a checkpoint that this run cannot start from.
        OutputError: GFM801 if the folder cannot be written or has no room for a checkpoint.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        out: Path,
        device: torch.device,
        start: Checkpoint | None = None,
        facts: Mapping[str, Any] | None = None,
        *,
        world: World | None = None,
        shard_above: int = SHARD_ABOVE,
    ):
        self.recipe, self.corpus, self.out = recipe, corpus, out
        self.world = world or World(device=device)
        check_bins(recipe.sampling.bins_per_step, self.world)
        if start is None:
            self.model = fresh_model(recipe, corpus, device)
        else:
            check_same_run(start, recipe, corpus.bank.names)
            self.model = GraphFM.from_checkpoint(start).to(device)
        if recipe.train.compile and device.type == "cuda":
            compile_rows(self.model)
        self.distributed = DistributedModel(self.model, self.world, shard_above=shard_above)
        self.optimizer = make_optimizer([self.model], recipe.train)
        trainer = {} if start is None else start.trainer()
        self.state = RunState.of(trainer)
        self.monitor = NonFiniteMonitor(total=self.state.skipped, in_a_row=self.state.in_a_row)
        self.backoff = Backoff(self._rank_batches, self.state.halvings)
        self.facts = {
            **(facts or {"not_judged_on": list(corpus.bank.names)}),
            "environment": environment(recipe.seed),
        }
        in_this_folder = start is not None and start.path.parent.parent == out
        self.checkpoints = RunCheckpoints(
            out,
            recipe,
            self.distributed,
            self.optimizer,
            graphs=corpus.bank.names,
            facts=self.facts,
            saved=self.state.step if in_this_folder else None,
        )
        if start is not None:
            self.checkpoints.restore_optimizer(start, trainer)
        if self.world.is_main:
            with write_errors(out):
                out.mkdir(parents=True, exist_ok=True)
                self.checkpoints.prune(self.state)  # a smaller train.keep may make room
                check_disk_space(out, self.model.num_params()["total"])
        self.record = RunRecord(
            out,
            recipe,
            self.facts["environment"],
            state=self.state,
            monitor=self.monitor,
            world=self.world,
        )

    def train(self, stops: StopRequests | None = None) -> dict[str, Any]:
        """Train to the last step, to ``train.max_time``, or until a stop is requested.

        Args:
            stops: Signals and time limit of the caller. Default: none.

        Returns:
            The receipt, which is also written to ``run.json``.

        Raises:
            DivergedError: GFM601 if steps are no longer finite, GFM602 if weights are not.
            MemoryLimitError: GFM404 if a step does not fit into memory with the smallest batches.
            OutputError: GFM801 if something cannot be written; earlier checkpoints are intact.
        """
        stops = stops or StopRequests()
        stops.defer_signals()
        c, state = self.recipe.train, self.state
        began = time.monotonic() - state.seconds
        reason = None
        bar = tqdm(
            total=c.steps,
            initial=state.step,
            unit="step",
            desc=self.recipe.name,
            disable=not (self.world.is_main and sys.stderr.isatty()),
        )
        steps = train(
            self.model,
            self.recipe.objective.build(),
            self.optimizer,
            self.backoff,
            c,
            seed=self.recipe.seed,
            start=state.step,
            distributed=self.distributed,
            monitor=self.monitor,
            split=self.backoff.split if self.world.size == 1 else None,
        )
        with contextlib.closing(bar), contextlib.closing(steps), self.record.closing():
            if state.step == 0:
                self._evaluate()
            for step in steps:
                self.record.count(step)
                bar.update()
                state.seconds = time.monotonic() - began
                if state.step % TRIM_EVERY == 0:
                    give_back_memory()
                reason = self._stop_reason(stops)
                ends = state.step == c.steps or reason == RECIPE_TIME
                if state.step % c.log_every == 0 or ends:
                    bar.set_postfix(loss=f"{self.record.log_training():.3f}")
                if state.step % c.eval_every == 0 or ends:
                    self._evaluate()
                if self.checkpoints.is_due(state.step) or ends or reason:
                    state.seconds = time.monotonic() - began
                    self._save(last=ends)
                if ends or reason:
                    break
        if state.step >= c.steps or reason == RECIPE_TIME:
            reason = None
        return write_receipt(
            self.out,
            self.recipe,
            self.corpus,
            self.model,
            state,
            world=self.world,
            stopped=reason,
            facts=self.facts,
        )

    @property
    def _runs_model(self) -> bool:
        """True if this process evaluates: the first one, or all if the trunk is sharded."""
        return self.world.is_main or self.distributed.is_sharded

    def _rank_batches(self, step: int, halvings: int) -> RankBatches:
        """Return the batches of this process."""
        rank, size = self.world.rank, self.world.size
        return self.corpus.rank_batches(step, rank=rank, size=size, halvings=halvings)

    def _stop_reason(self, stops: StopRequests) -> str | None:
        """Return the reason to stop that any process has, the first process first."""
        c = self.recipe.train
        out_of_time = c.max_time is not None and self.state.seconds >= c.max_time
        reason = RECIPE_TIME if out_of_time else stops.reason
        if not self.world.any(reason is not None):
            return None
        return next(r for r in self.world.gather(reason) if r is not None)

    def _evaluate(self) -> None:
        """Evaluate on validation nodes and log the result."""
        self.monitor.check_pending()
        if self._runs_model:
            self.record.log_evaluation(
                evaluate(self.model, self.corpus, self.recipe.train.eval_targets)
            )
        self.world.barrier()

    def _save(self, *, last: bool) -> None:
        """Write a checkpoint, unless there is one of this step.

        Args:
            last: If true, the run ends here: describe the states of the corpus in the checkpoint.
        """
        if self.checkpoints.saved == self.state.step:
            return
        self.record.settle()
        self.record.log_skipped()
        self.record.flush()  # a checkpoint on disk means that all lines before it are, too
        self.state.halvings = self.backoff.halvings
        cloud = corpus_cloud(self.model, self.corpus) if last and self._runs_model else None
        extra = {} if cloud is None else {NOVELTY: cloud.tensors()}
        self.checkpoints.save(self.state, extra=extra)
