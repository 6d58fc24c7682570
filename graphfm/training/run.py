"""One run of a recipe, from its first step or from a checkpoint to its end."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from graphfm.checkpoint.folder import SHARDED, Checkpoint, point_latest, save_checkpoint
from graphfm.config.recipe import Recipe
from graphfm.errors import CheckpointError, DivergedError
from graphfm.machine import environment, give_back_memory, peak_memory_gib
from graphfm.model.graphfm import GraphFM
from graphfm.storage import replace_text, write_json
from graphfm.training.compiled import compile_rows
from graphfm.training.corpus import Corpus, fresh_model
from graphfm.training.distributed import SHARD_ABOVE, Spread
from graphfm.training.faults import Backoff, Watch
from graphfm.training.loop import train
from graphfm.training.metrics_log import MetricsLog
from graphfm.training.optim import decay_begin, make_optimizer
from graphfm.training.run_folder import (
    checkpoint_path,
    checkpoints,
    make_sure_of_room,
    prune,
    start_from,
    written,
)
from graphfm.training.run_state import RunState, Window
from graphfm.training.sharded import load_sharded, save_sharded, whole_weights
from graphfm.training.state_cloud import corpus_cloud
from graphfm.training.step import Step
from graphfm.training.stops import Stops
from graphfm.training.validation import evaluate
from graphfm.training.world import World, check_bins

log = logging.getLogger(__name__)

RECIPE_TIME = "train.max_time"
TRIM_EVERY = 100  # steps


class Run:
    """One run of a recipe, fresh or resumed. Its folder is this process's alone, see ``hold``.

    Args:
        recipe: What to do.
        corpus: What to learn from.
        out: Run folder.
        device: Where the model lies.
        resume: See :func:`graphfm.training.pretrain.pretrain`.
        audited: What is kept of the audit, in every checkpoint and in the receipt.
        world: The processes that do it together; the first one writes.
        shard_above: See :class:`graphfm.training.distributed.Spread`.

    Raises:
        CheckpointError: GFM302 to GFM310 for a checkpoint that this run cannot go on from.
        OutputError: GFM801 where the folder cannot be written or has no room for a checkpoint.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        out: Path,
        device: torch.device,
        resume: str,
        audited: Mapping[str, Any] | None = None,
        *,
        world: World | None = None,
        shard_above: int = SHARD_ABOVE,
    ):
        self.recipe, self.corpus, self.out, self.device = recipe, corpus, out, device
        self.world = world or World(device=device)
        self.audited = dict(audited or {"not_judged_on": list(corpus.bank.names)})
        found = self._agree_on_start(resume)
        self.model = (
            GraphFM.from_checkpoint(found) if found else fresh_model(recipe, corpus, device)
        )
        self.model.to(device)
        if recipe.train.compile and device.type == "cuda":
            compile_rows(self.model)
        corpus.make_plan(self.model)
        check_bins(recipe.sampling.bins_per_step, self.world)
        self.spread = Spread(self.model, self.world, shard_above=shard_above)
        self.optimizer = make_optimizer([self.model], recipe.train)
        self.state = RunState()
        if found:
            saved = found.trainer()
            self._load_optimizer(found.path, saved)
            self.state = RunState.of(saved)
        self.window = Window(**self.state.window)
        self.unread: list[Step] = []
        self.watch = Watch(total=self.state.skipped, in_a_row=self.state.in_a_row)
        self.backoff = Backoff(self._share, self.state.halvings)
        self.saved = self.state.step if found and found.path.parent.parent == out else None
        # Where a longer run may go on from: see lr_at.
        self.lasting = {decay_begin(recipe.train)} if recipe.train.schedule == "wsd" else set()
        self.environment = environment(recipe.seed)
        self.log: MetricsLog | None = None
        if self.world.is_main:
            with written(out):
                out.mkdir(parents=True, exist_ok=True)
                self._prune()  # with a smaller keep there may be room again
                make_sure_of_room(out, self.model.num_params()["total"])
                replace_text(out / "config.resolved.yaml", recipe.to_yaml())
                write_json(out / "env.json", self.environment)
                self.log = MetricsLog(out, start=self.state.step)

    def go(self, stops: Stops | None = None) -> dict[str, Any]:
        """Train to the end, to ``train.max_time``, or until somebody wants it to stop.

        Raises:
            DivergedError: GFM601 where steps are no longer finite, GFM602 where weights are not.
            MemoryLimitError: GFM404 where a step does not fit into memory, however small its
                batches are.
            OutputError: GFM801 where something cannot be written; checkpoints so far are whole.
        """
        stops = stops or Stops()
        stops.step_by_step()
        c, state = self.recipe.train, self.state
        began = time.monotonic() - state.seconds
        why = None
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
            spread=self.spread,
            watch=self.watch,
            smaller=self.backoff.smaller if self.world.size == 1 else None,
        )
        with contextlib.closing(bar), contextlib.closing(steps), self._ending():
            if state.step == 0:
                self._evaluate()
            for step in steps:
                self._count(step)
                bar.update()
                state.seconds = time.monotonic() - began
                if state.step % TRIM_EVERY == 0:
                    give_back_memory()
                why = self._stopped(stops)
                ends = state.step == c.steps or why == RECIPE_TIME
                if state.step % c.log_every == 0 or ends:
                    bar.set_postfix(loss=f"{self._log():.3f}")
                if state.step % c.eval_every == 0 or ends:
                    self._evaluate()
                if state.step % c.save_every == 0 or state.step in self.lasting or ends or why:
                    state.seconds = time.monotonic() - began
                    self._save(last=ends)
                if ends or why:
                    break
        over = state.step >= c.steps or why == RECIPE_TIME
        return self._receipt(None if over else why)

    @contextlib.contextmanager
    def _ending(self):
        """However it ends, what is known is written; of a run that diverged, where it is good."""
        try:
            yield
        except DivergedError as error:
            with contextlib.suppress(Exception):  # the first error is the one to tell
                self._write_skips()
            good = list(checkpoints(self.out).values())
            raise DivergedError(
                error.code,
                error.what,
                where=error.where,
                why=error.why,
                fix=f"{error.fix}; last good checkpoint: {good[-1] if good else 'none yet'}",
            ) from None
        finally:
            if self.log is not None:
                with written(self.out):
                    self.log.close()

    @property
    def _judges(self) -> bool:
        """Whether this process runs the model by itself: of a sharded one all have to."""
        return self.world.is_main or self.spread.is_sharded

    def _share(self, step: int, halvings: int) -> Any:
        world = self.world
        return self.corpus.share_at(step, rank=world.rank, size=world.size, halvings=halvings)

    def _stopped(self, stops: Stops) -> str | None:
        """Why to stop, if any process has a reason."""
        c = self.recipe.train
        out_of_time = c.max_time is not None and self.state.seconds >= c.max_time
        reason = RECIPE_TIME if out_of_time else stops.reason
        if not self.world.any(reason is not None):
            return None
        return next(r for r in self.world.gather(reason) if r is not None)

    def _agree_on_start(self, resume: str) -> Checkpoint | None:
        """The checkpoint to begin with, chosen by the first process for all."""
        found = None
        if self.world.is_main:
            found = start_from(self.out, resume, self.recipe, self.corpus.bank.names)
        plain = None if found is None else (str(found.path), found.config)
        chosen = self.world.broadcast(plain)
        return None if chosen is None else Checkpoint(Path(chosen[0]), chosen[1])

    def _count(self, step: Step) -> None:
        state = self.state
        state.step = step.number
        for name, size in step.totals.items():
            state.targets_seen[name] = state.targets_seen.get(name, 0) + size
        state.flops += step.flops
        self.unread.append(replace(step, batches=()))  # their memory is the next step's

    def _read(self) -> None:
        """Add the steps since the last time to the window; waits for the device."""
        self.watch.settle()
        for step in self.unread:
            self.window.add(step)
        self.unread = []

    def _log(self) -> float:
        """One line for the steps since the last one."""
        self._read()
        self._write_skips()
        window, state = self.window, self.state
        seen = sum(state.targets_seen.values())
        loss = window.loss / window.steps if window.steps else float("nan")
        values: dict[str, Any] = {
            "loss": loss if window.steps else None,
            "lr": window.lr,
            "grad_norm": window.grad_norm / max(1, window.steps),
            "targets": seen,
            "skipped": self.watch.total,
            "seconds": round(state.seconds, 2),
            "targets_per_s": round(seen / max(state.seconds, 1e-9), 1),
            "graphs": {n: round(total / count, 4) for n, (total, count) in window.graphs.items()},
        }
        if self.world.size > 1:
            values["balance"] = window.balance / max(1, window.steps)
        self._write("train", values)
        self.window = Window()
        return loss

    def _write_skips(self) -> None:
        for skip in self.watch.news:
            values = asdict(skip)
            self._write("skip", values, step=values.pop("step"))
        self.watch.news = []

    def _write(self, kind: str, values: Mapping[str, Any], *, step: int | None = None) -> None:
        if self.log is not None:
            with written(self.out):
                self.log.write(kind, self.state.step if step is None else step, values)

    def _evaluate(self) -> None:
        """Mean over datasets of loss / log C and of accuracy, on nodes that never teach."""
        self.watch.settle()
        if self._judges:
            result = evaluate(self.model, self.corpus, self.recipe.train.eval_targets)
            count = max(1, len(result))
            mean = {k: sum(r[k] for r in result.values()) / count for k in ("loss", "accuracy")}
            self._write("eval", {**mean, "graphs": result})
            self.state.curve.append({"step": self.state.step, **mean})
        self.world.barrier()

    def _save(self, *, last: bool = False) -> None:
        state = self.state
        if self.saved == state.step:
            return
        self._read()
        self._write_skips()
        state.window, state.halvings = asdict(self.window), self.backoff.halvings
        state.skipped, state.in_a_row = self.watch.total, self.watch.in_a_row
        folder = checkpoint_path(self.out, state.step)
        together = self.spread.is_sharded  # then every process has a part of what is saved
        cloud = corpus_cloud(self.model, self.corpus) if last and self._judges else None
        weights, shards = self._write_shards(folder) if together else (None, None)
        if self.world.is_main:
            meta = {
                "name": self.recipe.name,
                "step": state.step,
                "recipe": self.recipe.model_dump(mode="json"),
                "corpus": list(self.corpus.bank.names),
                **self.audited,
                "environment": self.environment,
            }
            optimizer = {} if together else {"optimizer": self.optimizer.state_dict()}
            extra = {} if cloud is None else {"novelty": cloud.tensors()}
            with written(self.out):
                if self.log is not None:
                    self.log.flush()  # a line that a checkpoint comes after is there after it
                folder.parent.mkdir(exist_ok=True)
                save_checkpoint(
                    folder,
                    self.model,
                    meta=meta,
                    trainer={**optimizer, **state.as_dict()},
                    extra=extra,
                    weights=weights,
                    shards=shards,
                )
                point_latest(self.out, folder)
                self._prune()
        self.saved = state.step
        self.world.barrier()

    def _write_shards(self, folder: Path) -> tuple[dict[str, Tensor], Path]:
        """Weights and optimizer, each process its part; and all weights, for the safetensors."""
        shards = folder.with_name(f"{folder.name}.tmp-{SHARDED}")
        if self.world.is_main:
            shards.mkdir(parents=True)
        self.world.barrier()
        self.spread.at_rest()
        save_sharded(shards, self.model, self.optimizer)
        return whole_weights(self.model), shards

    def _load_optimizer(self, found: Path, saved: Mapping[str, Any]) -> None:
        if (found / SHARDED).is_dir():
            load_sharded(found / SHARDED, self.model, self.optimizer)
        elif self.spread.is_sharded:
            raise CheckpointError(
                "GFM310",
                "the optimizer's state is whole, and this run keeps it in parts",
                where=str(found),
                fix="go on with one process, as the run began",
            )
        else:
            self.optimizer.load_state_dict(saved["optimizer"])

    def _prune(self) -> None:
        keep, losses = self.recipe.train.keep, self._losses()
        reached = self.state.step
        prune(self.out, keep=keep, losses=losses, reached=reached, lasting=self.lasting)

    def _losses(self) -> dict[int, float]:
        return {int(point["step"]): point["loss"] for point in self.state.curve}

    def _receipt(self, stopped: str | None) -> dict[str, Any]:
        state = self.state
        seen = sum(state.targets_seen.values())
        losses = self._losses()
        judged = [step for step in checkpoints(self.out) if step in losses]
        best = min(judged, key=lambda step: losses[step], default=None)
        names = self.corpus.bank.names
        receipt = {
            "name": self.recipe.name,
            "finished": state.step >= self.recipe.train.steps,
            "stopped": stopped,
            "steps": state.step,
            "params": self.model.num_params(),
            "datasets": len(self.corpus.bank),
            "nodes": self.corpus.bank.num_nodes,
            "unique_targets": sum(len(nodes) for nodes in self.corpus.train_nodes),
            "targets_seen": seen,
            "flops": state.flops,
            "seconds": round(state.seconds, 1),
            "targets_per_s": round(seen / max(state.seconds, 1e-9), 1),
            "peak_memory_gib": round(peak_memory_gib(), 2),
            "bank_bytes": self.corpus.bank.num_bytes,
            "skipped_steps": self.watch.total,
            "batches_halved": self.backoff.halvings,
            "processes": self.world.size,
            "best_checkpoint": None if best is None else checkpoint_path(Path(), best).as_posix(),
            "never_visited": [n for n in names if not state.targets_seen.get(n)],
            "targets_seen_by_dataset": {n: state.targets_seen.get(n, 0) for n in names},
            "curve": state.curve,
            **self.audited,
            "environment": self.environment,
        }
        if self.world.is_main:
            receipt["loss_start"] = state.curve[0]["loss"]
            receipt["loss_end"] = state.curve[-1]["loss"]
            receipt["accuracy_end"] = state.curve[-1]["accuracy"]
            with written(self.out):
                write_json(self.out / "run.json", receipt)
        return receipt
