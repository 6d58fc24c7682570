"""Pretrain the in-context network: ``pretrain_incontext(recipe, out=...)``."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphfm.config.incontext import InContextRecipe
from graphfm.errors import CheckpointError, DataError
from graphfm.graphs.catalog.catalog import Catalog
from graphfm.machine import environment, pick_device
from graphfm.model.incontext import InContext
from graphfm.storage import replace_text, whole_folder, write_json
from graphfm.training.incontext_step import choose_dropped, step_loss
from graphfm.training.metrics_log import MetricsLog
from graphfm.training.optim import lr_at, make_optimizer
from graphfm.training.pretrain import audit_corpus
from graphfm.training.rounds import Round
from graphfm.training.run_folder import checkpoint_path, checkpoints, lock_folder, write_errors
from graphfm.training.stops import StopRequests
from graphfm.training.tasks.draw import draw_tasks
from graphfm.training.tasks.produce import produce
from graphfm.training.tasks.solve import SolvedTask, solve
from graphfm.training.tasks.store import TaskStore
from graphfm.training.tasks.structures import TaskCorpus

log = logging.getLogger(__name__)

DRY_GROUPS = 3  # structures of a dry run
WAIT_S = 2.0  # between two looks for the first tasks


def task_graphs(recipe: InContextRecipe, catalog: Catalog) -> list[str]:
    """Return the ids of the graphs that tasks are made of.

    Raises:
        DataError: GFM123 for a group that is not in the mixture, GFM136 for a mixture that holds a
            graph of an evaluation group.
    """
    groups = {id: catalog.entry(id).group for id in catalog.mixture(recipe.tasks.mixture)}
    if unknown := sorted(set(recipe.tasks.exclude_groups) - set(groups.values())):
        raise DataError(
            "GFM123",
            f"tasks.exclude_groups names groups that are not in {recipe.tasks.mixture}: "
            f"{', '.join(unknown)}",
        )
    return [id for id, group in groups.items() if group not in recipe.tasks.exclude_groups]


def pretrain_incontext(
    recipe: InContextRecipe,
    *,
    out: Path | str,
    device: str = "auto",
    dry_run: bool = False,
    max_time: float | None = None,
) -> dict[str, Any]:
    """Pretrain the in-context network by a recipe; the same call resumes a run, bit for bit.

    The graphs of the tasks are audited first: they must not overlap with the catalog's evaluation
    graphs. Other processes fill the store of tasks while the network is trained on it.

    Args:
        recipe: Recipe of the run.
        out: Run folder. It holds ``config.resolved.yaml``, ``metrics.jsonl``, TensorBoard events,
            ``run.json`` and ``checkpoints/``.
        device: ``auto``, ``cpu`` or ``cuda``. Default: ``auto``.
        dry_run: If true, solve a few tasks, take a step on them, write nothing, and return an
            estimate of the cost. Default: false.
        max_time: Time limit of this call, in seconds. Default: none.

    Returns:
        The receipt, also in ``run.json``; or the estimate.

    Raises:
        DataError: GFM147 for graphs that overlap with evaluation graphs; see :func:`task_graphs`.
        CheckpointError: GFM306 if the folder holds a run of another recipe.
        OutputError: GFM801 if the folder cannot be written, GFM802 if another run writes to it.
    """
    out = Path(out)
    with contextlib.ExitStack() as stack:
        stops = stack.enter_context(StopRequests(max_time))
        catalog = Catalog.read()
        ids = task_graphs(recipe, catalog)
        facts = audit_corpus(ids, catalog)
        if dry_run:
            return estimate(recipe, ids, catalog)
        stack.enter_context(lock_folder(out))
        store = TaskStore(Path(recipe.tasks.store) if recipe.tasks.store else out / "tasks")
        stack.enter_context(producers(recipe, store, ids))
        run = InContextRun(recipe, store, out, pick_device(device), facts)
        return run.train(stops)


@contextlib.contextmanager
def producers(recipe: InContextRecipe, store: TaskStore, ids: Sequence[str]) -> Iterator[None]:
    """Run the processes that fill the store; they end with the context."""
    c, context = recipe.tasks, multiprocessing.get_context("spawn")
    processes = [
        context.Process(
            target=produce,
            args=(store.folder, ids),
            kwargs={
                "seed": c.seed,
                "kinds": c.kinds,
                "num_tasks": c.number,
                "rank": rank,
                "size": c.producers,
            },
            daemon=True,
        )
        for rank in range(c.producers)
    ]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def estimate(recipe: InContextRecipe, ids: Sequence[str], catalog: Catalog) -> dict[str, Any]:
    """Return the cost of a run, from the tasks of a few structures and one step on them."""
    corpus, c = TaskCorpus(ids=ids, catalog=catalog), recipe.tasks
    began = time.monotonic()
    drawn = [t for group in range(DRY_GROUPS) for t in draw_tasks(corpus, c.seed, group, c.kinds)]
    solved = [found for task in drawn if (found := solve(task)) is not None]
    per_task = (time.monotonic() - began) / len(drawn)
    model = InContext(**recipe.network.model_dump(), seed=recipe.seed)
    began = time.monotonic()
    step_loss(model, solved, [None] * len(solved), max_tokens=recipe.train.max_tokens)
    per_seen = (time.monotonic() - began) / len(solved)
    return {
        "graphs": len(ids),
        "params": sum(p.numel() for p in model.parameters()),
        "tasks": c.number,
        "seconds_to_solve": round(per_task * c.number / max(1, c.producers)),
        "tasks_seen": recipe.train.steps * recipe.train.tasks_per_step,
        "seconds_to_train": round(per_seen * recipe.train.steps * recipe.train.tasks_per_step),
    }


class InContextRun:
    """One run, new or resumed. This process must hold the lock of the run folder.

    Args:
        recipe: Recipe of the run.
        store: Its tasks.
        out: Run folder.
        device: Device of the network.
        facts: Entries of the receipt and of checkpoints, such as the audit.
    """

    def __init__(
        self,
        recipe: InContextRecipe,
        store: TaskStore,
        out: Path,
        device: torch.device,
        facts: dict[str, Any],
    ):
        self.recipe, self.store, self.out, self.device = recipe, store, out, device
        self.facts = {**facts, "environment": environment(recipe.seed)}
        self.model = InContext(**recipe.network.model_dump(), seed=recipe.seed).to(device)
        self.average = copy.deepcopy(self.model)
        self.c = recipe.train.optimizer()
        self.optimizer = make_optimizer([self.model], self.c)
        self.round = Round(number=-1, begin=0, seen=0, available=0)
        self.step, self.seconds = 0, 0.0
        found = checkpoints(out)
        if found:
            self._resume(found[max(found)])
        with write_errors(out):
            replace_text(out / "config.resolved.yaml", recipe.to_yaml())
            self.metrics = MetricsLog(out, start=self.step)

    def train(self, stops: StopRequests | None = None) -> dict[str, Any]:
        """Train to the last step, to a time limit, or until a stop is requested."""
        stops = stops or StopRequests()
        c, began = self.recipe.train, time.monotonic() - self.seconds
        window: list[tuple[torch.Tensor, torch.Tensor]] = []
        if not self._wait_for_tasks(stops):
            return self._receipt(stops.reason)
        stops.defer_signals()
        reason = None
        while self.step < c.steps and reason is None:
            window.append(self._take_step())
            self.seconds = time.monotonic() - began
            out_of_time = c.max_time is not None and self.seconds >= c.max_time
            reason = "train.max_time" if out_of_time else stops.reason
            last = self.step == c.steps or reason is not None
            if self.step % c.log_every == 0 or last:
                self._log(window)
                window = []
            if self.step % c.save_every == 0 or self.step in c.keep or last:
                self._save()
        return self._receipt(None if reason == "train.max_time" else reason)

    def tasks_of(self, step: int) -> list[SolvedTask]:
        """Return the tasks of the next step; a new round begins when the last one is used up."""
        c = self.recipe.train
        per_round = max(1, c.round // c.tasks_per_step)
        if self.round.number < 0 or step >= self.round.begin + per_round:
            size = per_round * c.tasks_per_step
            self.round = self.round.next(step, size, self.store.num_tasks())
        order = self.round.order(per_round * c.tasks_per_step, self.recipe.seed)
        begin = (step - self.round.begin) * c.tasks_per_step
        numbers = order[begin : begin + c.tasks_per_step].tolist()
        found = [self.store.read(number) for number in numbers]
        only = self.recipe.tasks.only
        return [t for t in found if t is not None and (not only or t.kind in only)]

    def _take_step(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step; return the losses of its tasks with the network and of their pools."""
        c = self.recipe.train
        tasks = self.tasks_of(self.step)
        dropped = [
            choose_dropped(task, c.drop_experts, [self.recipe.seed, 1, self.step, i])
            for i, task in enumerate(tasks)
        ]
        self.model.train()
        losses = step_loss(self.model, tasks, dropped, max_tokens=c.max_tokens)
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(self.step, self.c)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), c.max_grad_norm)
        if bool(norm.isfinite()):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(c.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, own in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(own, 1 - decay)
        self.step += 1
        return losses

    def _wait_for_tasks(self, stops: StopRequests) -> bool:
        """Wait until the store holds tasks; false if a stop was requested before."""
        while not self.store.num_tasks():
            if stops.reason is not None:
                return False
            time.sleep(WAIT_S)
        return True

    def _log(self, window: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Write a line about the steps since the last one."""
        losses, before = (torch.cat(parts) for parts in zip(*window, strict=True))
        values = {
            "loss": float(losses.mean()),
            "pool": float(before.mean()),
            "gain": float((before - losses).mean()),
            "lr": lr_at(self.step - 1, self.c),
            "tasks": self.step * self.recipe.train.tasks_per_step,
            "different_tasks": min(self.round.available, self.round.seen + self.recipe.train.round),
            "seconds": round(self.seconds, 1),
        }
        with write_errors(self.out):
            self.metrics.write("train", self.step, values)
        log.info("step %d: %s", self.step, json.dumps(values))

    def _save(self) -> None:
        """Write a checkpoint of this step, and remove older ones that are not kept."""
        from safetensors.torch import save_file

        folder = checkpoint_path(self.out, self.step)
        if not folder.is_dir():
            with write_errors(self.out):
                folder.parent.mkdir(exist_ok=True)
                with whole_folder(folder) as temporary:
                    save_network(self.average, temporary, self.recipe, self.step, self.facts)
                    save_file(self.model.state_dict(), temporary / "trainer.safetensors")
                    state = {
                        "optimizer": self.optimizer.state_dict(),
                        "round": asdict(self.round),
                        "seconds": self.seconds,
                    }
                    torch.save(state, temporary / "trainer.pt")
        self.metrics.flush()
        kept = {*self.recipe.train.keep, self.step}
        for step, path in checkpoints(self.out).items():
            if step not in kept and step < self.step:
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()

    def _resume(self, folder: Path) -> None:
        """Load the state of a checkpoint.

        Raises:
            CheckpointError: GFM306 if another recipe wrote it.
        """
        from safetensors.torch import load_file

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        own = self.recipe.model_dump(mode="json")
        for key in ("seed", "network"):
            if config["recipe"][key] != own[key]:
                raise CheckpointError(
                    "GFM306",
                    f"{folder} belongs to another run: {key} differs",
                    fix="choose another --out, or use the recipe of that run",
                )
        self.model.load_state_dict(load_file(folder / "trainer.safetensors"))
        self.average.load_state_dict(load_file(folder / "network.safetensors"))
        state = torch.load(folder / "trainer.pt", weights_only=True, map_location=self.device)
        self.optimizer.load_state_dict(state["optimizer"])
        self.round, self.seconds = Round(**state["round"]), state["seconds"]
        self.step = config["step"]

    def _receipt(self, stopped: str | None) -> dict[str, Any]:
        """Write and return the receipt."""
        receipt = {
            "name": self.recipe.name,
            "steps": self.step,
            "tasks": self.step * self.recipe.train.tasks_per_step,
            "tasks_in_store": self.store.num_tasks(),
            "params": sum(p.numel() for p in self.model.parameters()),
            "seconds": round(self.seconds, 1),
            "stopped": stopped,
            **self.facts,
        }
        with write_errors(self.out):
            write_json(self.out / "run.json", receipt)
        self.metrics.close()
        return receipt


def save_network(
    model: InContext, folder: Path, recipe: InContextRecipe, step: int, facts: dict[str, Any]
) -> None:
    """Write the weights of a network and what they were trained on."""
    from safetensors.torch import save_file

    save_file(model.state_dict(), folder / "network.safetensors")
    config = {"step": step, "recipe": recipe.model_dump(mode="json"), **facts}
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def load_network(folder: Path | str) -> InContext:
    """Read a network from the folder of a checkpoint."""
    from safetensors.torch import load_file

    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = InContext(**config["recipe"]["network"], seed=config["recipe"]["seed"])
    model.load_state_dict(load_file(folder / "network.safetensors"))
    return model.eval()
