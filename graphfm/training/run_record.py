"""Written record of a run: lines of ``metrics.jsonl`` on the way, and the receipt at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graphfm.config.recipe import Recipe
from graphfm.errors import DivergedError
from graphfm.machine import peak_memory_gib
from graphfm.model.graphfm import GraphFM
from graphfm.storage import replace_text, write_json
from graphfm.training.corpus import Corpus
from graphfm.training.faults import NonFiniteMonitor
from graphfm.training.metrics_log import MetricsLog
from graphfm.training.run_folder import checkpoint_path, checkpoints, write_errors
from graphfm.training.run_state import RunState, Window
from graphfm.training.step import Step
from graphfm.training.world import World


class RunRecord:
    """Count the steps of a run and write their metrics; only the first process writes.

    Args:
        out: Run folder, which exists.
        recipe: Recipe of the run, written to ``config.resolved.yaml``.
        environment: Versions and machine, written to ``env.json``.
        state: Progress of the run, updated in place.
        monitor: Counter of skipped steps.
        world: Processes of the run.
    """

    def __init__(
        self,
        out: Path,
        recipe: Recipe,
        environment: Mapping[str, Any],
        *,
        state: RunState,
        monitor: NonFiniteMonitor,
        world: World,
    ):
        self.out, self.state, self.monitor, self.world = out, state, monitor, world
        self._pending: list[Step] = []  # steps whose losses are still on the device
        self._metrics: MetricsLog | None = None
        if world.is_main:
            with write_errors(out):
                replace_text(out / "config.resolved.yaml", recipe.to_yaml())
                write_json(out / "env.json", environment)
                self._metrics = MetricsLog(out, start=state.step)

    def count(self, step: Step) -> None:
        """Count a step, without waiting for the device."""
        state = self.state
        state.step = step.number
        for name, size in step.totals.items():
            state.targets_seen[name] = state.targets_seen.get(name, 0) + size
        state.flops += step.flops
        self._pending.append(step.without_batches())

    def settle(self) -> None:
        """Bring the state up to date with all counted steps; this waits for the device."""
        self.monitor.check_pending()
        self.state.skipped, self.state.in_a_row = self.monitor.total, self.monitor.in_a_row
        for step in self._pending:
            self.state.window.add(step)
        self._pending = []

    def log_training(self) -> float:
        """Write a line about the steps since the last one; return their mean loss."""
        self.settle()
        self.log_skipped()
        state, window = self.state, self.state.window
        loss = window.loss / window.steps if window.steps else float("nan")
        values: dict[str, Any] = {
            "loss": loss if window.steps else None,
            "lr": window.lr,
            "grad_norm": window.grad_norm / max(1, window.steps),
            "targets": state.num_targets,
            "skipped": state.skipped,
            "seconds": round(state.seconds, 2),
            "targets_per_s": round(state.num_targets / max(state.seconds, 1e-9), 1),
            "graphs": {n: round(total / count, 4) for n, (total, count) in window.graphs.items()},
        }
        if self.world.size > 1:
            values["balance"] = window.balance / max(1, window.steps)
        self._write("train", values)
        state.window = Window()
        return loss

    def log_skipped(self) -> None:
        """Write a line about each skipped step that has none yet."""
        for skipped in self.monitor.unlogged:
            values = asdict(skipped)
            self._write("skip", values, step=values.pop("step"))
        self.monitor.unlogged = []

    def log_evaluation(self, by_graph: Mapping[str, Mapping[str, float]]) -> None:
        """Write a line about an evaluation: loss and accuracy of each graph, and their means."""
        count = max(1, len(by_graph))
        mean = {k: sum(r[k] for r in by_graph.values()) / count for k in ("loss", "accuracy")}
        self._write("eval", {**mean, "graphs": by_graph})
        self.state.curve.append({"step": self.state.step, **mean})

    def flush(self) -> None:
        """Force all lines onto the disk."""
        if self._metrics is not None:
            with write_errors(self.out):
                self._metrics.flush()

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Close the log at the end of a block; name the last good checkpoint after divergence."""
        try:
            yield
        except DivergedError as error:
            with contextlib.suppress(Exception):  # the first error is the one to report
                self.log_skipped()
            good = list(checkpoints(self.out).values())
            raise DivergedError(
                error.code,
                error.what,
                where=error.where,
                why=error.why,
                fix=f"{error.fix}; last good checkpoint: {good[-1] if good else 'none yet'}",
            ) from None
        finally:
            if self._metrics is not None:
                with write_errors(self.out):
                    self._metrics.close()

    def _write(self, kind: str, values: Mapping[str, Any], *, step: int | None = None) -> None:
        """Append a line to the log."""
        if self._metrics is not None:
            with write_errors(self.out):
                self._metrics.write(kind, self.state.step if step is None else step, values)


def write_receipt(
    out: Path,
    recipe: Recipe,
    corpus: Corpus,
    model: GraphFM,
    state: RunState,
    *,
    world: World,
    stopped: str | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Make the receipt of a run: what it cost, and what it reached. Write it to ``run.json``.

    Args:
        out: Run folder.
        recipe: Recipe of the run.
        corpus: Graphs of the run.
        model: Trained model.
        state: Progress of the run.
        world: Processes of the run; the first one writes.
        stopped: Reason why the run stopped before its end; None if it finished.
        facts: Further entries, such as the audit and the environment.
    """
    losses = state.val_losses()
    evaluated = [step for step in checkpoints(out) if step in losses]
    best = min(evaluated, key=lambda step: losses[step], default=None)
    names, seen = corpus.bank.names, state.targets_seen
    receipt = {
        "name": recipe.name,
        "finished": state.step >= recipe.train.steps,
        "stopped": stopped,
        "steps": state.step,
        "params": model.num_params(),
        "datasets": len(corpus.bank),
        "nodes": corpus.bank.num_nodes,
        "unique_targets": sum(len(nodes) for nodes in corpus.train_nodes),
        "targets_seen": state.num_targets,
        "flops": state.flops,
        "seconds": round(state.seconds, 1),
        "targets_per_s": round(state.num_targets / max(state.seconds, 1e-9), 1),
        "peak_memory_gib": round(peak_memory_gib(), 2),
        "bank_bytes": corpus.bank.num_bytes,
        "skipped_steps": state.skipped,
        "batches_halved": state.halvings,
        "processes": world.size,
        "best_checkpoint": None if best is None else checkpoint_path(Path(), best).as_posix(),
        "never_visited": [n for n in names if not seen.get(n)],
        "targets_seen_by_dataset": {n: seen.get(n, 0) for n in names},
        "curve": state.curve,
        **facts,
    }
    if world.is_main:  # other processes have no evaluations
        receipt["loss_start"] = state.curve[0]["loss"]
        receipt["loss_end"] = state.curve[-1]["loss"]
        receipt["accuracy_end"] = state.curve[-1]["accuracy"]
        with write_errors(out):
            write_json(out / "run.json", receipt)
    return receipt
