"""Pretrain one trunk on many graphs: ``pretrain(recipe, out=...)``.

A run folder holds ``config.resolved.yaml``, ``env.json``, ``metrics.jsonl``, ``run.json``, ``tb/``,
``LATEST`` and ``checkpoints/step_000500/``.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from graphfm.checkpoint import (
    find_checkpoint,
    load_model,
    load_trainer,
    point_latest,
    save_checkpoint,
    verify_checkpoint,
    write_json,
)
from graphfm.config import Recipe
from graphfm.errors import CheckpointError, DataError, DivergedError
from graphfm.graphs.audit import audit_ids, not_judged_on
from graphfm.graphs.catalog import Catalog
from graphfm.graphs.prepare import prepare_many
from graphfm.model import GraphFM
from graphfm.training.compiled import compile_rows
from graphfm.training.corpus import Corpus
from graphfm.training.loop import Step, pick_device, train
from graphfm.training.metrics import accuracy
from graphfm.training.optim import make_optimizer
from graphfm.training.receipt import MetricsLog, environment, peak_memory_gib


def pretrain(
    recipe: Recipe,
    *,
    out: Path | str | None = None,
    resume: str = "auto",
    device: str = "auto",
    dry_run: bool = False,
) -> dict[str, Any]:
    """Run a recipe.

    Args:
        recipe: From :func:`graphfm.load_recipe`.
        out: The run folder; only a dry run does without.
        resume: ``auto`` goes on from the newest checkpoint of ``out`` if there is one, ``never``
            refuses a folder that has one, a path goes on from that checkpoint.
        device: ``auto``, ``cpu``, ``cuda``.
        dry_run: Build everything, take no step, write nothing, and return what it will cost.

    Returns:
        The receipt, which is also ``run.json``.

    Raises:
        GraphFMError: For a recipe, graph, checkpoint or folder that cannot be used.
    """
    where = pick_device(device)
    catalog = Catalog.read()
    audited = audit_corpus(chosen(recipe, catalog), catalog)
    corpus = load_corpus(recipe, where, catalog)
    if dry_run:
        return _estimate(recipe, corpus, _fresh(recipe, corpus, where))
    if out is None:
        raise DataError("GFM402", "a run needs a folder to write to", fix="pass out=...")
    run = Run(recipe, corpus, Path(out), where, resume, audited)
    return run.go()


def chosen(recipe: Recipe, catalog: Catalog) -> dict[str, float]:
    """The graphs of a recipe's mixture and their weights.

    Raises:
        DataError: GFM123 where nothing is left of the mixture.
    """
    weights = catalog.mixture(recipe.data.mixture)
    unknown = set(recipe.data.exclude) - set(weights)
    if unknown or not weights.keys() - set(recipe.data.exclude):
        raise DataError(
            "GFM123", f"data.exclude must name graphs of {recipe.data.mixture}: {sorted(unknown)}"
        )
    return {id: weight for id, weight in weights.items() if id not in recipe.data.exclude}


def audit_corpus(corpus: Collection[str], catalog: Catalog) -> dict[str, Any]:
    """Refuse a corpus that overlaps with what models are judged on; what the run keeps of that.

    Raises:
        DataError: GFM147 for an overlap.
    """
    judged = [entry.id for entry in catalog.entries.values() if entry.role == "evaluation"]
    report = audit_ids(corpus, judged, catalog)
    report.refuse()
    return {
        "not_judged_on": not_judged_on(corpus, catalog),
        "audit": {
            "clean": report.clean,
            "judged": judged,
            "declared_only": list(report.declared_only),
            "pairs_compared": report.compared,
            "seconds": round(report.seconds, 2),
        },
    }


def load_corpus(recipe: Recipe, device: torch.device, catalog: Catalog | None = None) -> Corpus:
    """Prepare the graphs of a recipe's mixture; see :func:`chosen`."""
    catalog = catalog or Catalog.read()
    weights = chosen(recipe, catalog)
    graphs = prepare_many(list(weights), catalog, jobs=recipe.data.jobs)
    return Corpus(graphs, list(weights.values()), recipe, device=device)


class Run:
    """One run of a recipe, fresh or resumed.

    Args:
        recipe: What to do.
        corpus: What to learn from.
        out: Run folder.
        device: Where the model lies.
        resume: See :func:`pretrain`.
        audited: What :func:`audit_corpus` gave; kept in every checkpoint and in the receipt.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        out: Path,
        device: torch.device,
        resume: str,
        audited: Mapping[str, Any] | None = None,
    ):
        self.recipe, self.corpus, self.out, self.device = recipe, corpus, out, device
        self.audited = dict(audited or {"not_judged_on": list(corpus.bank.names)})
        self.start, self.seconds = 0, 0.0
        self.targets_seen = dict.fromkeys(corpus.bank.names, 0)
        self.flops = 0
        self.curve: list[dict[str, float]] = []
        found = self._resume_from(resume)
        self.model = load_model(found) if found else _fresh(recipe, corpus, device)
        self.model.to(device)
        if recipe.train.compile and device.type == "cuda":
            compile_rows(self.model)
        corpus.make_plan(self.model)
        self.optimizer = make_optimizer([self.model], recipe.train)
        if found:
            state = load_trainer(found)
            self.optimizer.load_state_dict(state["optimizer"])
            self.start, self.seconds = state["step"], state["seconds"]
            self.targets_seen, self.flops = state["targets_seen"], state["flops"]
            self.curve = state["curve"]
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.resolved.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        self.environment = environment(recipe.seed)
        write_json(out / "env.json", self.environment)
        self.log = MetricsLog(out, start=self.start)

    def go(self) -> dict[str, Any]:
        """Train to the end, to ``max_time``, or to the first loss that is not finite."""
        c = self.recipe.train
        began = time.monotonic() - self.seconds
        bar = tqdm(
            total=c.steps,
            initial=self.start,
            unit="step",
            desc=self.recipe.name,
            disable=not sys.stderr.isatty(),
        )
        if self.start == 0:
            self._evaluate(0)
        objective = self.recipe.objective.build()
        window: list[Step] = []
        done = self.start
        steps = train(
            self.model,
            objective,
            self.optimizer,
            self.corpus.batches_at,
            c,
            seed=self.recipe.seed,
            start=self.start,
        )
        for step in steps:
            done = step.number
            self._count(step)
            window.append(replace(step, batches=()))  # their memory is the next step's
            bar.update()
            self.seconds = time.monotonic() - began
            out_of_time = c.max_time is not None and self.seconds >= c.max_time
            ends = done == c.steps or out_of_time
            if done % c.log_every == 0 or ends or done % c.save_every == 0:
                bar.set_postfix(loss=f"{self._log(window):.3f}")
                window = []
            if done % c.eval_every == 0 or ends:
                self._evaluate(done)
            if done % c.save_every == 0 or ends:
                self.seconds = time.monotonic() - began
                self._save(done)
            if out_of_time:
                break
        bar.close()
        self.log.close()
        return self._receipt(done)

    def _resume_from(self, resume: str) -> Path | None:
        if resume not in {"auto", "never"}:
            return find_checkpoint(Path(resume))
        try:
            found = find_checkpoint(self.out)
        except CheckpointError:
            return None
        if resume == "never":
            raise CheckpointError(
                "GFM308",
                f"{self.out} already holds a run",
                fix="choose another --out, or go on with it: --resume auto",
            )
        trained = verify_checkpoint(found)["recipe"]
        asked = self.recipe.model_dump(mode="json")
        free = {"steps", "max_time", "log_every", "eval_every", "save_every", "keep"}
        for side in (trained, asked):
            side["train"] = {k: v for k, v in side["train"].items() if k not in free}
        differs = [k for k in asked if asked[k] != trained.get(k)]
        if differs:
            raise CheckpointError(
                "GFM306",
                f"{self.out} holds a run of another recipe: {', '.join(differs)} differ",
                fix="choose another --out",
            )
        return found

    def _count(self, step: Step) -> None:
        for batch in step.batches:
            for name, size in zip(batch.names, batch.sizes, strict=True):
                self.targets_seen[name] += size
            self.flops += 3 * self.model.flops(batch)  # backward costs two forwards

    def _log(self, window: list[Step]) -> float:
        """One line for the steps since the last one; the only place that waits for the device."""
        losses: dict[str, list[float]] = {}
        for step in window:
            for name, loss in zip(step.names, step.per_graph.tolist(), strict=True):
                losses.setdefault(name, []).append(loss)
        loss = sum(float(s.loss) for s in window) / len(window)
        if not math.isfinite(loss):
            bad = [n for n, values in losses.items() if not all(map(math.isfinite, values))]
            raise DivergedError(
                "GFM601",
                f"the loss is not finite at step {window[-1].number}",
                where=f"graphs {', '.join(bad[:5])}",
                fix=f"lower train.lr; the last checkpoint is in {self.out}",
            )
        seen = sum(self.targets_seen.values())
        self.log.write(
            "train",
            window[-1].number,
            {
                "loss": loss,
                "lr": window[-1].lr,
                "grad_norm": sum(float(s.grad_norm) for s in window) / len(window),
                "targets": seen,
                "seconds": round(self.seconds, 2),
                "targets_per_s": round(seen / max(self.seconds, 1e-9), 1),
                "graphs": {n: round(sum(v) / len(v), 4) for n, v in losses.items()},
            },
        )
        return loss

    def _evaluate(self, step: int) -> None:
        """Mean over datasets of loss / log C and of accuracy, on nodes that never teach."""
        result = evaluate(self.model, self.corpus, self.recipe.train.eval_targets)
        count = max(1, len(result))
        mean = {k: sum(r[k] for r in result.values()) / count for k in ("loss", "accuracy")}
        self.log.write("eval", step, {**mean, "graphs": result})
        self.curve.append({"step": step, **mean})

    def _save(self, step: int) -> None:
        folder = self.out / "checkpoints" / f"step_{step:06d}"
        meta = {
            "name": self.recipe.name,
            "step": step,
            "recipe": self.recipe.model_dump(mode="json"),
            "corpus": list(self.corpus.bank.names),
            **self.audited,
            "environment": self.environment,
        }
        trainer = {
            "step": step,
            "seconds": self.seconds,
            "optimizer": self.optimizer.state_dict(),
            "targets_seen": self.targets_seen,
            "flops": self.flops,
            "curve": self.curve,
        }
        save_checkpoint(folder, self.model, meta=meta, trainer=trainer)
        point_latest(self.out, folder)
        kept = sorted((self.out / "checkpoints").glob("step_??????"))
        for old in kept[: -self.recipe.train.keep]:
            shutil.rmtree(old)

    def _receipt(self, steps: int) -> dict[str, Any]:
        seen = sum(self.targets_seen.values())
        receipt = {
            "name": self.recipe.name,
            "finished": steps >= self.recipe.train.steps,
            "steps": steps,
            "params": self.model.num_params(),
            "datasets": len(self.corpus.bank),
            "nodes": self.corpus.bank.num_nodes,
            "unique_targets": sum(len(nodes) for nodes in self.corpus.train_nodes),
            "targets_seen": seen,
            "flops": self.flops,
            "seconds": round(self.seconds, 1),
            "targets_per_s": round(seen / max(self.seconds, 1e-9), 1),
            "peak_memory_gib": round(peak_memory_gib(), 2),
            "bank_bytes": self.corpus.bank.num_bytes,
            "loss_start": self.curve[0]["loss"],
            "loss_end": self.curve[-1]["loss"],
            "accuracy_end": self.curve[-1]["accuracy"],
            "never_visited": [n for n, count in self.targets_seen.items() if not count],
            "targets_seen_by_dataset": self.targets_seen,
            "curve": self.curve,
            **self.audited,
            "environment": self.environment,
        }
        write_json(self.out / "run.json", receipt)
        return receipt


@torch.no_grad()
def evaluate(model: GraphFM, corpus: Corpus, num_targets: int) -> dict[str, dict[str, float]]:
    """Loss / log C and accuracy of each graph, on at most so many of its validation nodes."""
    model.eval()
    result = {}
    for group in corpus.val_groups():
        batch = corpus.val_batch(group, num_targets)
        for name, logits, y in zip(batch.names, model(batch), batch.y, strict=True):
            head = model.head(name)
            result[name] = {
                "loss": float(head.loss(logits, y).mean()),
                "accuracy": accuracy(y.cpu().numpy(), head.probabilities(logits).cpu().numpy()),
            }
    return result


def _fresh(recipe: Recipe, corpus: Corpus, device: torch.device) -> GraphFM:
    model = GraphFM(recipe.model, seed=recipe.seed)
    for spec in corpus.specs:
        model.add_graph(spec)
    return model.to(device)


def _estimate(recipe: Recipe, corpus: Corpus, model: GraphFM) -> dict[str, Any]:
    """What a run will cost: from one step that is taken and thrown away."""
    plan = corpus.make_plan(model)
    batch = corpus.batch_at(0)
    objective = recipe.objective.build()
    times = []
    for step in range(3):
        began = time.monotonic()
        objective(model, corpus.batch_at(step))[0].backward()
        times.append(time.monotonic() - began)
    params = model.num_params()
    steps = recipe.train.steps
    seconds = steps * min(times) * 1.1  # the optimizer and the log come on top
    if recipe.train.max_time is not None:
        seconds = min(seconds, recipe.train.max_time)
    return {
        "name": recipe.name,
        "params": params,
        "datasets": len(corpus.bank),
        "nodes": corpus.bank.num_nodes,
        "steps": steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "targets_per_step": batch.num_targets,
        "flops_per_step": 3 * model.flops(batch),
        "seconds": round(seconds),
        "memory_gib": round(peak_memory_gib() + 8 * params["total"] / 2**30, 2),
        "disk_mib": round((recipe.train.keep + 1) * 12 * params["total"] / 2**20),
    }
